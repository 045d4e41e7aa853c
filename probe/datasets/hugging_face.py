"""``hf:NAME`` and folders saved by `save_to_disk`: sets of Hugging Face's package ``datasets``.

The package maps its Arrow files, so any row costs the bytes of that row. Code from a set is never run.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.datasets.columns import LABEL_NAMES, choose_columns, number_classes, parted
from probe.datasets.folder import short_name
from probe.datasets.listing import Listing, string_array
from probe.datasets.sources import MAX_FILE_BYTES, place_among, read_file
from probe.errors import DataError, UsageError
from probe.internet import answers

PREFIX = "hf:"
MARKERS = ("dataset_dict.json", "dataset_info.json")


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / MARKERS[0]).is_file() or all(
        (folder / name).is_file() for name in (MARKERS[1], "state.json")
    )


def read_saved(folder: Path, asked: Sequence[str] = ()) -> Listing:
    """A folder written by `save_to_disk`; see `read_hub`."""
    hub = _package(str(folder))
    found = _opened(str(folder), lambda: hub.load_from_disk(str(folder)))
    return _listing(found, folder.resolve().name, asked)


def read_hub(spec: str, asked: Sequence[str] = ()) -> Listing:
    """``hf:NAME`` or ``hf:NAME:CONFIG``, from the package's cache or the hub; NAME may be a local folder.

    Row ids are ``part/000000``. Raises UsageError without the package, DataError for what cannot be read.
    """
    hub = _package(spec)
    name, _, config = spec.removeprefix(PREFIX).partition(":")
    if not name:
        raise UsageError(f"{spec} names no set", expected="hf:NAME or hf:NAME:CONFIG")
    with _soon(name):
        found = _opened(spec, lambda: hub.load_dataset(name, config or None))
    return _listing(found, f"hf-{Path(name).name}" + (f"-{config}" if config else ""), asked)


@contextmanager
def _soon(name: str) -> Iterator[None]:
    """Look into the package's cache alone where the hub does not answer: it asks six times, half a minute."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not any(before) and not Path(name).exists() and not answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _package(spec: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(f"{spec} needs the package datasets", hint="pip install 'probe[hf]'") from error
    return datasets


def _opened(spec: str, load: Any) -> dict[str, Any]:
    """Name of a part -> `datasets.Dataset`; a set without parts is one, without a name."""
    try:
        found = load()
    except Exception as error:
        raise DataError(
            f"{spec} cannot be opened",
            found=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            hint="fetch it where the hub can be reached, set.save_to_disk(FOLDER), and give the folder",
        ) from error
    return dict(found) if isinstance(found, Mapping) else {"": found}


def _listing(parts: dict[str, Any], name: str, asked: Sequence[str]) -> Listing:
    hub = _package(name)
    features = next(iter(parts.values())).features
    images = [column for column, kind in features.items() if isinstance(kind, hub.Image)]
    named = [column for column, kind in features.items() if isinstance(kind, hub.ClassLabel)]
    plain = [
        column
        for column, kind in features.items()
        if column.lower() in LABEL_NAMES and isinstance(kind, hub.Value)
    ]
    columns = choose_columns(name, list(features), images, named or plain, asked)
    values: list[Any] = []
    for part in parts.values():
        values += part[columns.label][:] if columns.label else [None] * len(part)
    numbers, classes = number_classes(name, values, getattr(features.get(columns.label), "names", ()))
    raw = [
        part.select_columns([columns.image]).cast_column(columns.image, hub.Image(decode=False))
        for part in parts.values()
    ]
    ids = [f"{part or 'row'}/{row:06d}" for part, rows in parts.items() for row in range(len(rows))]
    listing = Listing(
        name=short_name(name),
        ids=string_array(ids),
        labels=numbers,
        splits=np.full(len(ids), "", "<U5"),
        classes=classes,
        source=HubSource(tuple(raw), columns.image, tuple(_files(raw))),
        notes=columns.notes(list(features)),
        facts={"fingerprints": ",".join(part._fingerprint for part in raw)},
    )
    return parted(listing, [part for part, rows in parts.items() for _ in range(len(rows))])


def _files(parts: Sequence[Any]) -> list[Path]:
    return [Path(file["filename"]) for part in parts for file in part.cache_files]


@dataclass(frozen=True)
class HubSource:
    """Row `i` of several `datasets.Dataset` with one column of undecoded pictures, one after the other."""

    parts: tuple[Any, ...]
    image: str
    origin: tuple[Path, ...] = ()

    def read(self, row: int) -> bytes:
        ends = np.cumsum([len(part) for part in self.parts]).tolist()
        part, inside = place_among(ends, row)
        value = self.parts[part][inside][self.image] or {}
        raw = value.get("bytes") or _file(value.get("path"))
        if not raw:
            raise OSError(errno.ENODATA, "the row has no picture")
        if len(raw) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"the picture is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return bytes(raw)


def _file(path: str | None) -> bytes:
    """The bytes of a picture that the set only names."""
    return read_file(Path(path)) if path else b""
