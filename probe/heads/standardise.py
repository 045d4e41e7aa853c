"""Column statistics of features too large to copy: one pass over blocks of rows, float64 sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, Labels, blocks


def moments(features: Features, channels: int | None = None) -> tuple[Floats, Floats]:
    """Mean (D,) and standard deviation (D,) of each column; 1 where a column is constant.

    With `channels` a row is a map, flattened, and each of its places a sample: mean and spread (channels,).
    A spread below float32's resolution of the column's own mean counts as constant: dividing by it would
    turn rounding into a feature.
    """
    rows, columns = features.shape
    width = channels or columns
    n = rows * columns // width
    mean = np.zeros(width)
    for _, block in blocks(features):
        mean += block.reshape(-1, width).sum(axis=0, dtype=np.float64)
    mean /= n
    centre = mean.astype(np.float32)
    variance = np.zeros(width)
    for _, block in blocks(features):
        centred = block.reshape(-1, width) - centre
        variance += np.einsum("nd,nd->d", centred, centred)
    scale = np.sqrt(variance / n)
    scale[scale <= np.finfo(np.float32).eps * np.abs(mean)] = 1.0
    scale[scale == 0] = 1.0
    return centre, scale.astype(np.float32)


def class_sums(features: Features, labels: Labels, classes: int) -> NDArray[np.float64]:
    """(C, D) sum of the features of each class."""
    sums = np.zeros((classes, features.shape[1]))
    for rows, block in blocks(features):
        members = np.eye(classes, dtype=np.float32)[labels[rows]]
        sums += members.T @ block
    return sums
