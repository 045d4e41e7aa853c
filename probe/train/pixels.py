"""A data set as the pixels that are trained on: decoded and resized once, bounded in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from probe.archives import OF_ARCHIVES
from probe.config import Home, canonical_json, own_place
from probe.datasets import Dataset, DatasetOptions, open_dataset
from probe.datasets.dataset import SPLITS, TEST, TRAIN, UNLABELLED, VAL
from probe.durable import discard, replacing
from probe.errors import DataError
from probe.hashing import file_checksum
from probe.images.path import PixelPath, pixel_path
from probe.images.reader import read_batches
from probe.progress import Progress
from probe.train.inputs import Part, TrainingData
from probe.units import group_codes, kept_together
from probe.whole import RECORD, read_json

PIXELS_VERSION = 1
MEMORY_BYTES = 1 << 30
"""Pixels beyond this are written to ``PROBE_HOME/cache/pixels`` once and mapped: memory is bounded."""

READ_BATCH = 256

KEPT_BYTES = 1 << 28
"""Pictures of a training without a cache up to this many bytes stay in memory; more are decoded each time."""
KEPT_BATCH = 64


@dataclass(frozen=True)
class DataSource:
    """Which images a training reads, as the user named them; small, so that any process can open it.

    Attributes
    ----------
    spec, options : as `probe.datasets.open_dataset` takes them.
    keep_colour : three channels even where every picture is grey; otherwise grey pictures have one.
    """

    spec: str
    home: Home
    options: DatasetOptions = field(default_factory=DatasetOptions)
    keep_colour: bool = False

    def open(self) -> Dataset:
        """The data set; DataError when it is not here or not what it should be."""
        return open_dataset(self.spec, self.home, self.options)

    def pixels(self, size: int, *, progress: bool = False) -> Pixels:
        """Every labelled image of a split at `size` × `size`; `progress` says that they are being read."""
        with Progress(f"images of {self.spec}", shown=progress):
            dataset = open_dataset(self.spec, self.home, self.options)
            return read_pixels(dataset, size, self.home.cache, keep_colour=self.keep_colour)

    def training_data(self, size: int) -> TrainingData:
        """The pixels alone; what the cells of a sweep ask for, each in its own process."""
        return self.pixels(size).data


@dataclass(frozen=True)
class Pixels:
    """What was read.

    Attributes
    ----------
    data : the parts, ready to be trained on.
    ids : ``train``, ``val``, ``test`` -> (n,) ids of the images of a part.
    groups : the same for their groups; None where the data set has none.
    unreadable : images that were left out because they could not be decoded.
    dataset : what they were read from.
    index : its `labels_identity`.
    path : the way the pictures took.
    """

    data: TrainingData
    ids: Mapping[str, NDArray[np.str_]]
    groups: Mapping[str, NDArray[np.str_] | None]
    unreadable: int
    dataset: Dataset
    index: str
    path: PixelPath


def labels_identity(dataset: Dataset) -> str:
    """sha256 over what decides a training's data, its size apart: content, label and split of each row, and
    its group where there are any."""
    digest = hashlib.sha256(canonical_json([PIXELS_VERSION, list(dataset.classes)]).encode())
    grouping = () if dataset.groups is None else (dataset.groups,)
    for values in (dataset.hashes, dataset.labels, dataset.splits, *grouping):
        digest.update("\n".join(map(str, values.tolist())).encode())
        digest.update(b"|")
    return digest.hexdigest()


def decoding_identity(path: PixelPath) -> list[str]:
    """What an identity has to name beside the images and their side: nothing where all are decoded in full,
    so that what was computed before there was another way is still known."""
    return [str(path.key_part()["policy"])] if path.scaled else []


def read_pixels(dataset: Dataset, size: int, cache: Path, *, keep_colour: bool = False) -> Pixels:
    """Decode and resize with the one pixel path of `probe.images`, training part first.

    Raises DataError when there is nothing to train on.
    """
    parts = {split: np.flatnonzero(_usable(dataset) & (dataset.splits == split)) for split in SPLITS}
    if not len(parts[TRAIN]):
        raise DataError(
            f"{dataset.name} has no labelled image to train on", expected="labels and a training part"
        )
    rows = np.concatenate([parts[TRAIN], parts[VAL], parts[TEST]])
    index, path = labels_identity(dataset), pixel_path(dataset.jpeg_sides, size)
    named = canonical_json([index, size, keep_colour, *decoding_identity(path)])
    identity = hashlib.sha256(named.encode()).hexdigest()
    large = len(rows) * size * size * 3 > MEMORY_BYTES
    found = _mapped(dataset, rows, size, path, own_place(cache, "pixels") / identity[:32]) if large else None
    decoded = found or _in_memory(dataset, rows, size, path)
    pixels = decoded.pixels[..., :1] if decoded.grey and not keep_colour else decoded.pixels
    pixels = pixels if large else np.ascontiguousarray(pixels)
    readable = ~np.isin(rows, decoded.unreadable)
    made: dict[str, Part] = {}
    ids, groups = {}, {}
    units = kept_together(dataset.hashes, dataset.groups)
    codes = None if dataset.groups is None else group_codes(dataset.groups)
    start = 0
    for split in (TRAIN, VAL, TEST):
        mine = rows[readable & np.isin(rows, parts[split])]
        labels = dataset.labels[mine].astype(np.int32)
        numbers = None if codes is None else codes[mine]
        made[split] = Part(pixels[start : start + len(mine)], labels, units[mine], numbers)
        ids[split] = dataset.ids[mine]
        groups[split] = None if dataset.groups is None else dataset.groups[mine]
        start += len(mine)
    data = TrainingData(
        train=made[TRAIN],
        val=made[VAL] if len(made[VAL]) else None,
        test=made[TEST] if len(made[TEST]) else None,
        classes=len(dataset.classes),
        # Files that could not be read this time are not in the content hashes.
        known_as=f"{identity}-{len(decoded.unreadable)}",
    )
    return Pixels(data, ids, groups, len(decoded.unreadable), dataset, index, path)


@dataclass(frozen=True)
class _Decoded:
    """(M, S, S, 3) of the rows that could be read, in order; which could not; whether all are grey."""

    pixels: NDArray[np.uint8]
    unreadable: list[int]
    grey: bool


def _usable(dataset: Dataset) -> NDArray[np.bool_]:
    return np.asarray(dataset.labels != UNLABELLED)


def _in_memory(dataset: Dataset, rows: NDArray[np.intp], size: int, path: PixelPath) -> _Decoded:
    out = np.empty((len(rows), size, size, 3), np.uint8)
    unreadable, grey = _decode(dataset, rows, path, out)
    return _Decoded(out[: len(rows) - len(unreadable)], unreadable, grey)


def _mapped(dataset: Dataset, rows: NDArray[np.intp], size: int, path: PixelPath, stem: Path) -> _Decoded:
    """The same through a file, which is kept for the next run; its facts are written last.

    What is there is taken if its checksum is the recorded one, and made again otherwise.
    """
    array, facts = stem.with_suffix(".npy"), stem.with_suffix(".json")
    shape = (len(rows), size, size, 3)
    found = _kept_pixels(array, facts, shape)
    if found is not None:
        return found
    stem.parent.mkdir(parents=True, exist_ok=True)
    discard(facts)
    discard(array)
    with replacing(array) as partial:
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(partial)
        unreadable, grey = _decode(dataset, rows, path, out)
        out.flush()
        checksum = _checksum(partial, unreadable, grey)
    with replacing(facts) as partial:
        known = {"pixels": stem.name, "unreadable": unreadable, "grey": grey, "crc32c": checksum}
        partial.write_text(json.dumps(known), encoding="utf-8")
    pixels = np.load(array, mmap_mode="r", allow_pickle=False)
    return _Decoded(pixels[: len(rows) - len(unreadable)], unreadable, grey)


def _kept_pixels(array: Path, facts: Path, shape: tuple[int, ...]) -> _Decoded | None:
    """What an earlier run decoded; None where it is not there, or not what it was."""
    try:
        known = read_json(facts, RECORD)
        unreadable, grey, checksum = known["unreadable"], known["grey"], known["crc32c"]
        places = isinstance(unreadable, list) and all(isinstance(row, int) for row in unreadable)
        if not places or not isinstance(grey, bool):
            return None
        if known.get("pixels") != array.stem:
            return None
        if _checksum(array, unreadable, grey) != checksum:
            return None
        pixels = np.load(array, mmap_mode="r", allow_pickle=False)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            return None
        return _Decoded(pixels[: shape[0] - len(unreadable)], unreadable, grey)
    except (OSError, ValueError, *OF_ARCHIVES):
        return None


def _reserve(path: Path) -> None:
    """Take the blocks of a file on the disk now: a mapped write that finds none ends the process (SIGBUS)."""
    size = path.stat().st_size
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(path.parent).free
        raise DataError(
            f"the decoded pictures do not fit on the disk of {path.parent.parent}",
            expected=f"{size / 1e6:,.0f} MB",
            found=f"{free / 1e6:,.0f} MB free",
            hint="make room, name a home on a larger disk by --home, or use --limit",
        ) from error


def _checksum(array: Path, unreadable: list[int], grey: bool) -> int:
    """crc32c of a file and of what is known of it, at the speed at which it is read."""
    known = canonical_json([unreadable, grey]).encode()
    return int(google_crc32c.extend(file_checksum(array, google_crc32c.extend), known))


def _decode(
    dataset: Dataset, rows: NDArray[np.intp], path: PixelPath, out: NDArray[np.uint8]
) -> tuple[list[int], bool]:
    """Fill `out` (N, S, S, 3) from the front with what can be read."""
    unreadable: list[int] = []
    grey, filled = True, 0
    read, side = dataset.source.read, out.shape[1]
    for batch in read_batches(read, rows, side, READ_BATCH, hashes=dataset.hashes, path=path):
        good = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        pixels = batch.pixels[good]
        grey = grey and bool((pixels == pixels[..., :1]).all())
        out[filled : filled + len(good)] = pixels
        filled += len(good)
        unreadable += sorted(batch.problems)
    return unreadable, grey


class PictureRows:
    """(n, S, S, 3) uint8; ``pictures[places]`` decodes and resizes those asked for."""

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Dataset, rows: NDArray[np.intp], size: int, *, exif: bool) -> None:
        self._dataset, self._rows, self._size = dataset, rows, size
        self._path = pixel_path(dataset.jpeg_sides, size, exif=exif)
        self.shape = (len(rows), size, size, 3)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        rows = self._rows[places]
        if not len(rows):
            return np.zeros((0, *self.shape[1:]), np.uint8)
        batches = read_batches(self._dataset.source.read, rows, self._size, len(rows), path=self._path)
        return next(iter(batches)).pixels


def open_pictures(
    dataset: Dataset, rows: NDArray[np.intp], size: int, *, exif: bool
) -> tuple[NDArray[np.intp], Any]:
    """The readable ones of `rows`, and their pictures: an array where it is small, else `PictureRows`.

    Every picture is decoded once, because only that tells whether it can be.
    """
    keep = len(rows) * size * size * 3 <= KEPT_BYTES
    good: list[int] = []
    kept: list[NDArray[np.uint8]] = []
    path = pixel_path(dataset.jpeg_sides, size, exif=exif)
    for batch in read_batches(dataset.source.read, rows, size, KEPT_BATCH, hashes=dataset.hashes, path=path):
        places = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        good += batch.rows[places].tolist()
        if keep:
            kept.append(batch.pixels[places])
    readable = np.array(good, np.intp)
    if keep and kept:
        return readable, np.concatenate(kept)
    return readable, PictureRows(dataset, readable, size, exif=exif)
