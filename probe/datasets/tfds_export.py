"""``tfds:NAME``: a prepared set of tensorflow-datasets, exported once to plain files and read as such.

The export needs the package (and with it TensorFlow); reading needs neither. Images are written as they are
stored, encoded, one at a time; arrays of pixels become PNG, which loses nothing.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe.config import Home
from probe.datasets.dataset import NO_SPLIT
from probe.datasets.folder import labelled_files, short_name
from probe.datasets.labels import read_labels, without_label
from probe.datasets.listing import (
    Listing,
)
from probe.datasets.split_names import SPLIT_FOLDERS
from probe.durable import settle_once
from probe.errors import DataError, UsageError
from probe.hashing import file_stamp
from probe.progress import Progress
from probe.scratch import scratch_folder
from probe.text import count_of
from probe.whole import RECORD, read_json

PREFIX = "tfds:"
IMAGES, LABELS, FACTS = "images", "labels.csv", "facts.json"
EXTRA = "pip install 'probe[tfds]'"
FORM = "tfds:NAME, tfds:NAME/CONFIG, tfds:NAME:VERSION or tfds:NAME/CONFIG:VERSION"
_SHOWN = 8
# No namespaces, such as huggingface:, which are looked up over the network.
_NAME = re.compile(r"\w+(/[\w.+=,-]+)*(:[\d*]+\.[\d*]+\.[\d*]+)?")
_SIGNATURES = ((b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"RIFF", ".webp"))


@dataclass(frozen=True)
class _Keys:
    """The features that hold the picture and its class."""

    image: str
    label: str


def read_tfds(spec: str, home: Home) -> Listing:
    """The set named by ``tfds:NAME``, ``tfds:NAME/CONFIG`` or either with ``:VERSION``.

    It is looked for where tensorflow-datasets would: in ``TFDS_DATA_DIR``, else its default folder. What was
    exported is used until the prepared files there change.

    Raises
    ------
    UsageError : the package is missing, or it knows no such set.
    DataError : the set is not prepared, or is not one of pictures with one class each.
    """
    name = spec.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{spec} is not the name of a set of tensorflow-datasets", expected=FORM)
    where = os.environ.get("TFDS_DATA_DIR", "")
    digest = hashlib.sha256(f"{name}\0{where and Path(where).expanduser().resolve()}".encode()).hexdigest()
    folder = home.datasets / f"tfds-{short_name(name)}-{digest[:8]}"
    if not _is_current(folder):
        with _quiet():
            _export(name, where, folder)
    facts = read_json(folder / FACTS, RECORD)
    rows = read_labels(folder / LABELS)
    listing = labelled_files(
        folder / IMAGES,
        [row.path for row in rows],
        [row.label for row in rows],
        [row.split for row in rows],
        tuple(map(str, range(len(facts["classes"])))),
    )
    left_out = [
        f"left out: {count_of(count, 'image')} of the split {split}"
        for split, count in facts["left_out"].items()
    ]
    return replace(
        listing,
        name=short_name(f"tfds-{name}"),
        classes=tuple(facts["classes"]),
        facts={"tfds": facts["name"], "publisher_split": ", ".join(facts["splits"])},
    ).noting(without_label(rows, folder / LABELS), *left_out)


def _is_current(folder: Path) -> bool:
    """Whether there is an export, and nobody has prepared its set anew or in another version since."""
    if not (folder / FACTS).is_file():
        return False
    facts = read_json(folder / FACTS, RECORD)
    source = Path(facts["source"])
    return not source.is_dir() or _stamp(source) == facts["stamp"]


def _stamp(source: Path) -> list[int]:
    """Of the folder of one version: its description, and the folder of all versions."""
    return [*file_stamp(source / "dataset_info.json"), source.parent.stat().st_mtime_ns]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Standard output is for results; the package prints to it when it cannot do something."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _export(name: str, where: str, folder: Path) -> None:
    tfds, errors = _package(name)
    builder = _builder(tfds, name, where)
    keys = _keys(tfds, name, builder.info)
    splits = _splits(name, builder.info.splits)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch_folder(folder.parent, ".exporting-") as scratch:
            part = scratch / "part"
            part.mkdir()
            _write(tfds, builder, keys, splits, part)
            if folder.is_dir():
                shutil.rmtree(folder)
            settle_once(part, folder)
    except errors.OpError as error:
        raise DataError(
            f"{PREFIX}{name} cannot be read from {builder.data_path}",
            found=_first_line(error),
            hint=f"prepare it again: tfds build {name}",
        ) from error
    except OSError as error:
        raise DataError(
            f"{PREFIX}{name} cannot be exported to {folder}",
            found=error.strerror or str(error),
            hint="free some room, or set PROBE_HOME to another disk",
        ) from error


def _package(name: str) -> tuple[Any, Any]:
    """The package, and TensorFlow's errors. TensorFlow first: its own start has to be the quiet one."""
    from probe.tensorflow_setup import tf

    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UsageError(
            f"{PREFIX}{name} needs the package tensorflow-datasets", found=str(error), hint=EXTRA
        ) from error
    return tensorflow_datasets, tf.errors


def _unknown(name: str, data_dir: Path) -> UsageError:
    return UsageError(
        f"tensorflow-datasets knows no set called {name!r}",
        expected=FORM,
        found=f"prepared in {data_dir}: {_prepared(data_dir)}",
        hint="TFDS_DATA_DIR names the folder that holds prepared sets",
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _builder(tfds: Any, name: str, where: str) -> Any:
    """The builder of a prepared set; nothing is downloaded."""
    data_dir = Path(where or tfds.core.constants.DATA_DIR).expanduser()
    try:
        builder = tfds.builder(name, data_dir=str(data_dir), try_gcs=False)
    except ImportError as error:
        raise UsageError(
            f"tensorflow-datasets lacks a package that {PREFIX}{name} needs", found=str(error), hint=EXTRA
        ) from error
    # Its own errors for an unknown name, configuration or version; it lists all thousand names it knows.
    except (ValueError, AssertionError) as error:
        raise _unknown(name, data_dir) from error
    # Whatever JSON, protobuf and the file system have to say of files that are damaged.
    except Exception as error:
        raise DataError(
            f"{PREFIX}{name} cannot be opened",
            found=_first_line(error),
            hint=f"prepare it again: tfds build {name}",
        ) from error
    if not builder.is_prepared():
        raise DataError(
            f"{PREFIX}{name} is not prepared on this machine",
            expected=f"its files in {builder.data_path}",
            found=f"prepared in {data_dir}: {_prepared(data_dir)}",
            hint=f"tfds build {name}, or set TFDS_DATA_DIR to the folder that holds it",
        )
    return builder


def _prepared(data_dir: Path) -> str:
    """The sets in a folder of prepared sets, as they are named to `probe`."""
    found = sorted(
        path.parent.relative_to(data_dir)
        for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
        for path in data_dir.glob(pattern)
    )
    names = [f"{path.parent.as_posix()}:{path.name}" for path in found[:_SHOWN]]
    return (", ".join(names) + (", …" if len(found) > _SHOWN else "")) or "nothing"


def _keys(tfds: Any, name: str, info: Any) -> _Keys:
    """The supervised pair where it is a picture and a class, else the only picture and the only class."""
    features = info.features
    held = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [key for key, feature in held.items() if _is_image(tfds, feature)]
    labels = [key for key, feature in held.items() if isinstance(feature, tfds.features.ClassLabel)]
    pair = info.supervised_keys or ()
    image = [key for key in images if key in pair[:1]] or images
    label = [key for key in labels if key in pair[1:2]] or labels
    if len(image) != 1 or len(label) != 1 or held[label[0]].num_classes is None:
        raise DataError(
            f"{PREFIX}{name} is not a set of images with one class each",
            expected="one Image (uint8 or uint16) and one ClassLabel",
            found=", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(held.items())),
        )
    return _Keys(image[0], label[0])


def _is_image(tfds: Any, feature: Any) -> bool:
    """Pictures of 8 or 16 bits; those of float32 are stored as the bits of numbers, which are no colours."""
    if isinstance(feature, tfds.features.LabeledImage):
        return False
    if isinstance(feature, tfds.features.Image):
        return np.dtype(feature.np_dtype) in (np.uint8, np.uint16)
    flat = type(feature) is tfds.features.Tensor and np.dtype(feature.np_dtype) == np.uint8
    shape: tuple[int | None, ...] = feature.shape if flat else ()
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def _splits(name: str, found: Any) -> dict[str, str]:
    """Split of the set -> our split; a set of one part without a usual name has no split."""
    known = {split: SPLIT_FOLDERS[split] for split in sorted(found) if split in SPLIT_FOLDERS}
    if not known and len(found) == 1:
        return {next(iter(found)): NO_SPLIT}
    if not known:
        raise DataError(
            f"{PREFIX}{name} has no split that is known",
            expected="train, validation or test",
            found=", ".join(sorted(found)) or "none",
        )
    return known


def _write(tfds: Any, builder: Any, keys: _Keys, splits: dict[str, str], part: Path) -> None:
    info = builder.info
    encoded = isinstance(info.features[keys.image], tfds.features.Image)
    decoders = {keys.image: tfds.decode.SkipDecoding()} if encoded else None
    total = sum(info.splits[split].num_examples for split in splits)
    with (part / LABELS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "split"))
        with Progress(f"export {info.name}", total, "img") as bar:
            for split, ours in splits.items():
                (part / IMAGES / split).mkdir(parents=True)
                examples = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
                for number, example in enumerate(tfds.as_numpy(examples)):
                    raw = _encoded(example[keys.image])
                    label = int(example[keys.label])
                    path = f"{split}/{number:06d}{_suffix(raw)}"
                    (part / IMAGES / path).write_bytes(raw)
                    table.writerow((path, label if label >= 0 else "", ours))
                    bar.update()
    source = Path(builder.data_path)
    facts = {
        "name": info.full_name,
        "classes": list(info.features[keys.label].names),
        "splits": list(splits),
        "left_out": {
            split: info.splits[split].num_examples for split in sorted(info.splits) if split not in splits
        },
        "source": str(source),
        "stamp": _stamp(source),
    }
    (part / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _encoded(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    from PIL import Image

    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _suffix(raw: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES if raw.startswith(start)), ".jpg")
