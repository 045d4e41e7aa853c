"""``tfds:NAME``: a set of tensorflow-datasets, exported once to plain files and read as such from then on.

The export needs the package (and with it TensorFlow); reading needs neither. Images are written as they
are stored, encoded, one at a time.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

from probe.config import Home
from probe.datasets.dataset import TEST, TRAIN, VAL
from probe.datasets.folder import short_name
from probe.datasets.labels import read_labelled_folder
from probe.datasets.listing import Listing
from probe.errors import DataError, UsageError

PREFIX = "tfds:"
LABELS = "labels.csv"
_PNG = b"\x89PNG"
_SPLITS = {"train": TRAIN, "validation": VAL, "test": TEST}


def read_tfds(spec: str, home: Home) -> Listing:
    """The set named by ``tfds:NAME``. UsageError without the package, DataError for sets without labels."""
    name = spec.removeprefix(PREFIX)
    folder = home.datasets / f"tfds-{short_name(name)}"
    if not folder.is_dir():
        _export(name, folder)
    listing = read_labelled_folder(folder, folder / LABELS)
    classes = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
    number = {label: place for place, label in enumerate(classes)}
    labels = listing.labels.copy()
    for place, label in enumerate(listing.classes):
        labels[listing.labels == place] = number[label]
    return replace(
        listing, name=short_name(f"tfds-{name}"), labels=labels, classes=classes, facts={"tfds": name}
    )


def _export(name: str, folder: Path) -> None:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UsageError(
            f"{PREFIX}{name} needs the package tensorflow-datasets", hint="pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        raise UsageError(f"tensorflow-datasets knows no set called {name!r}") from error
    image_key, label_key = builder.info.supervised_keys or ("image", "label")
    features = builder.info.features
    if image_key not in features or not hasattr(features.get(label_key), "names"):
        raise DataError(
            f"{PREFIX}{name} is not a set of images with one class each", found=", ".join(features)
        )
    builder.download_and_prepare()
    classes = list(features[label_key].names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".exporting-") as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        (part / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
        with (part / LABELS).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("path", "label", "split"))
            for split in sorted(set(_SPLITS) & set(builder.info.splits)):
                (part / split).mkdir()
                encoded = builder.as_dataset(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
                for number, example in enumerate(tfds.as_numpy(encoded)):
                    raw = bytes(example[image_key])
                    name = f"{split}/{number:06d}{'.png' if raw.startswith(_PNG) else '.jpg'}"
                    (part / name).write_bytes(raw)
                    table.writerow((name, classes[int(example[label_key])], _SPLITS[split]))
        part.rename(folder)
