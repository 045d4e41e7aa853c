"""WebDataset shards: ``.tar`` files in which ``KEY.jpg`` and ``KEY.cls`` are one sample.

Shards are not unpacked: their headers are read once, and a picture is read where it lies in its shard.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.columns import number_classes, parted
from probe.datasets.files import SUFFIXES
from probe.datasets.folder import short_name
from probe.datasets.listing import (
    Listing,
    string_array,
)
from probe.datasets.sources import MAX_FILE_BYTES
from probe.errors import DataError, UsageError
from probe.text import count_of
from probe.whole import open_file

SUFFIX = ".tar"
LABELS = ("cls", "class", "label")
"""Members that hold nothing but the label, and keys of a ``.json`` member that do."""
LABEL_CAP = 1 << 20
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_shards(folder: Path) -> list[Path]:
    """The shards in `folder` and the folders in it, sorted by name."""
    return sorted((*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")))


def is_pattern(spec: str) -> bool:
    """Whether `spec` names shards by a range, as in ``set-{000..011}.tar``."""
    return spec.endswith(SUFFIX) and BRACES.search(spec) is not None


def expand(spec: str) -> list[Path]:
    """The shards a range names; UsageError for those that are not there."""
    match = BRACES.search(spec)
    if match is None:
        return [Path(spec)]
    first, last = match.groups()
    names = [
        spec[: match.start()] + str(number).zfill(len(first)) + spec[match.end() :]
        for number in range(int(first), int(last) + 1)
    ]
    paths = [path for name in names for path in expand(name)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise UsageError(
            f"{count_of(len(missing), 'shard')} of {spec} not found", found=", ".join(missing[:3]) or "none"
        )
    return paths


@dataclass
class _Sample:
    """One key of a shard: where its picture lies, and its label as it is written."""

    name: str = ""
    start: int = 0
    size: int = 0
    label: Any = None
    pictures: list[str] = field(default_factory=list)


def read_shards(root: Path, shards: Sequence[Path]) -> Listing:
    """Samples of `shards`; the name of a shard, or the folder in `root` that it lies in, says its split.

    Row ids are ``shard/member``. A sample without a picture is left out and counted. Raises DataError.
    """
    ids, labels, parts, places, skipped = [], [], [], [], 0
    for number, path in enumerate(shards):
        base = path.relative_to(root).with_suffix("").as_posix()
        for sample in _samples(path):
            if not sample.pictures:
                skipped += 1
                continue
            ids.append(f"{base}/{sample.name}")
            labels.append(sample.label)
            parts.append(re.sub(r"[-_.]*\d+$", "", base))
            places.append((number, sample.start, sample.size))
    if len(set(ids)) != len(ids):
        raise DataError(f"a shard of {root} holds a member twice", hint="write the shards again")
    order = np.argsort(string_array(ids), kind="stable")
    numbers, classes = number_classes(str(root), labels)
    listing = Listing(
        name=short_name(shards[0].stem if len(shards) == 1 else root.resolve().name),
        ids=string_array(ids)[order],
        labels=numbers[order],
        splits=np.full(len(ids), "", "<U5"),
        classes=classes,
        source=ShardSource(tuple(shards), np.array(places, np.int64).reshape(-1, 3)[order], tuple(shards)),
        notes=() if classes else ("no sample has a member .cls, or .json with a label: no labels",),
    ).noting(f"left out: {count_of(skipped, 'sample')} without a picture" if skipped else "")
    return parted(listing, [parts[place] for place in order.tolist()])


@dataclass(frozen=True, eq=False)
class ShardSource:
    """Row `i` is `size` bytes from `start` on of a shard; `places` is (N, 3): shard, start, size."""

    shards: tuple[Path, ...]
    places: NDArray[np.int64]
    origin: tuple[Path, ...] = ()

    def read(self, row: int) -> bytes:
        shard, start, size = self.places[row].tolist()
        if not 0 < size <= MAX_FILE_BYTES:
            problem = f"the picture is larger than {MAX_FILE_BYTES // 2**20} MiB" if size else "it is empty"
            raise OSError(errno.EFBIG if size else errno.ENODATA, problem)
        with self.shards[shard].open("rb") as file:
            file.seek(start)
            raw = file.read(size)
        if len(raw) != size:
            raise OSError(errno.EIO, "the shard ends in the middle of the picture")
        return raw


def _samples(path: Path) -> Iterator[_Sample]:
    """The samples of one shard in the order of its members."""
    found: dict[str, _Sample] = {}
    try:
        # Without compression, since a picture is read where it lies.
        with open_file(path, follow=True) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                _take(archive, member, found)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a shard",
            expected="a whole, uncompressed .tar file",
            found=str(error).partition("\n")[0],
        ) from error
    for key, sample in found.items():
        if len(sample.pictures) > 1:
            raise DataError(
                f"the sample {key} of {path} has several pictures",
                expected="one member with the suffix of an image",
                found=", ".join(sample.pictures),
            )
        yield sample


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, found: dict[str, _Sample]) -> None:
    # A name of other bytes than UTF-8's would be no text that can be kept.
    name = os.fsencode(member.name).decode("utf-8", "backslashreplace")
    pure = PurePosixPath(name)
    base, dot, suffix = pure.name.partition(".")
    if not member.isreg() or member.issparse() or not dot or not base:
        return
    sample = found.setdefault(str(pure.parent / base), _Sample())
    suffix = suffix.lower()
    if PurePosixPath(f"x.{suffix}").suffix in SUFFIXES:
        sample.pictures.append(pure.name)
        sample.name, sample.start, sample.size = name, member.offset_data, member.size
    elif suffix in LABELS or suffix == "json":
        stream = archive.extractfile(member)
        raw = stream.read(LABEL_CAP) if stream else b""
        label = _json_label(raw) if suffix == "json" else raw
        sample.label = label if label is not None else sample.label


def _json_label(raw: bytes) -> Any:
    try:
        record = json.loads(raw)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None
    if not isinstance(record, dict):
        return None
    return next((record[key] for key in LABELS if key in record), None)
