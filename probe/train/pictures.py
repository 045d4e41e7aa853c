"""Pictures of a data set as rows that can be read in any order: what training without a cache needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import Dataset
from probe.images.reader import read_batches

KEPT_BYTES = 1 << 28
"""Decoded pictures up to this many bytes stay in memory; more are decoded again each time."""
BATCH = 64


class PictureRows:
    """(n, S, S, 3) uint8; ``pictures[places]`` decodes and resizes those asked for."""

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Dataset, rows: NDArray[np.intp], size: int, *, exif: bool) -> None:
        self._dataset, self._rows, self._size, self._exif = dataset, rows, size, exif
        self.shape = (len(rows), size, size, 3)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        rows = self._rows[places]
        if not len(rows):
            return np.zeros((0, *self.shape[1:]), np.uint8)
        batches = read_batches(self._dataset.source.read, rows, self._size, len(rows), exif=self._exif)
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
    for batch in read_batches(dataset.source.read, rows, size, BATCH, hashes=dataset.hashes, exif=exif):
        places = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        good += batch.rows[places].tolist()
        if keep:
            kept.append(batch.pixels[places])
    readable = np.array(good, np.intp)
    if keep and kept:
        return readable, np.concatenate(kept)
    return readable, PictureRows(dataset, readable, size, exif=exif)
