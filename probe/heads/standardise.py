"""Column statistics of features too large to copy: one pass over blocks of rows, float64 sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats, Labels

BLOCK = 8192


def moments(features: Floats) -> tuple[Floats, Floats]:
    """Mean (D,) and standard deviation (D,) of each column; 1 where a column is constant.

    A spread below float32's resolution of the column's own mean counts as constant: dividing by it would
    turn rounding into a feature.
    """
    n, width = features.shape
    mean = np.zeros(width)
    for start in range(0, n, BLOCK):
        mean += features[start : start + BLOCK].sum(axis=0, dtype=np.float64)
    mean /= n
    centre = mean.astype(np.float32)
    variance = np.zeros(width)
    for start in range(0, n, BLOCK):
        centred = features[start : start + BLOCK] - centre
        variance += np.einsum("nd,nd->d", centred, centred, dtype=np.float64)
    scale = np.sqrt(variance / n)
    scale[scale <= np.finfo(np.float32).eps * np.abs(mean)] = 1.0
    scale[scale == 0] = 1.0
    return centre, scale.astype(np.float32)


def class_sums(features: Floats, labels: Labels, classes: int) -> NDArray[np.float64]:
    """(C, D) sum of the features of each class."""
    sums = np.zeros((classes, features.shape[1]))
    for start in range(0, len(labels), BLOCK):
        rows = slice(start, start + BLOCK)
        members = np.eye(classes, dtype=np.float32)[labels[rows]]
        sums += members.T @ features[rows]
    return sums
