"""``--preprocess standardise``: mean and deviation per channel of the training part, in one bounded pass."""

from __future__ import annotations

import numpy as np

from probe.backbones.preprocess import standardise
from probe.datasets.dataset import TRAIN, Dataset
from probe.errors import DataError
from probe.images.path import pixel_path
from probe.images.reader import read_batches

STANDARDISE = "standardise"
BATCH = 64


def training_standardisation(dataset: Dataset, size: int, *, exif: bool = False) -> str:
    """The preprocessing ``standardise:m,m,m:s,s,s`` of the training images as the network will see them.

    uint8 has 256 values, so their counts give exact moments: the result does not depend on order or batch.
    DataError when no training image can be read.
    """
    rows = np.flatnonzero(dataset.splits == TRAIN)
    counts = np.zeros((3, 256), np.int64)
    path = pixel_path(dataset.jpeg_sides, size, exif=exif)
    for batch in read_batches(dataset.source.read, rows, size, BATCH, hashes=dataset.hashes, path=path):
        good = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        for channel in range(3):
            counts[channel] += np.bincount(batch.pixels[good][..., channel].ravel(), minlength=256)
    if not counts.any():
        raise DataError(
            f"{dataset.name} has no training image to standardise by", hint="--split, or another --preprocess"
        )
    values = np.arange(256.0)
    means = counts @ values / counts.sum(axis=1)
    deviations = np.sqrt(((values - means[:, None]) ** 2 * counts).sum(axis=1) / counts.sum(axis=1))
    return standardise(means.tolist(), np.maximum(deviations, 1.0).tolist())
