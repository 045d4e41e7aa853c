"""Column statistics of features too large to copy, and features brought to mean 0 and spread 1 with them.

Statistics are sums in float64, in which the square of no float32 value overflows or vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, Labels, blocks
from probe.heads.softmax_kernel import pieces

Float64s = NDArray[np.float64]

ROWS = 256
"""Rows that are brought to float64 at a time."""
LARGE = 1e30
"""Only beside a mean beyond this could a difference of two float32 values leave float32's range."""


def moments(features: Features, channels: int | None = None) -> tuple[Floats, Floats]:
    """Mean (D,) and standard deviation (D,) of each column; infinite where a column is constant.

    With `channels` a row is a map, flattened, and each of its places a sample: mean and spread (channels,).
    A spread below float32's resolution of the column's own mean counts as constant: dividing by it would
    turn rounding into a feature. Divided by infinity a constant column is zero, whatever new rows have there.
    """
    rows, columns = features.shape
    width = channels or columns
    n = rows * columns // width
    mean = np.zeros(width)
    for block in _float64_blocks(features, width):
        mean += block.sum(axis=0)
    mean /= n
    variance = np.zeros(width)
    for block in _float64_blocks(features, width):
        block -= mean
        variance += np.einsum("nd,nd->d", block, block)
    scale = np.sqrt(variance / n)
    constant = scale <= np.finfo(np.float32).eps * np.abs(mean)
    with np.errstate(under="ignore"):
        spread = scale.astype(np.float32)
    spread[constant | (spread == 0)] = np.inf
    return mean.astype(np.float32), spread


def as_they_are(width: int) -> tuple[Floats, Floats]:
    """The mean and spread of `width` columns with which features keep their values."""
    return np.zeros(width, np.float32), np.ones(width, np.float32)


def constant_columns(scale: Floats) -> tuple[str, ...]:
    """A note on how many of the columns `moments` found constant; none where none is."""
    return tuple(f"{note} and not used" for note in constant_note(int(np.isinf(scale).sum()), len(scale)))


def constant_note(count: int, columns: int) -> tuple[str, ...]:
    """A note on `count` constant ones of all columns; none where none is."""
    if not count:
        return ()
    are = "column is" if count == 1 else "columns are"
    return (f"{count:,} of {columns:,} feature {are} constant in the training rows",)


def standardised(features: Floats, mean: Floats, scale: Floats, out: Floats | None = None) -> Floats:
    """(features − mean) / scale in float32, along the last axis; constant columns become zero.

    `out` is an array of that shape to write to, for those who do it again and again.
    """
    values = np.asarray(features, dtype=np.float32)
    if np.abs(mean).max(initial=0) > LARGE:
        values, mean, scale = values * np.float32(0.5), mean * np.float32(0.5), scale * np.float32(0.5)
    result: Floats = np.empty_like(values) if out is None else out
    # So few rows at a time that they are in the cache when they are divided.
    for rows in pieces(len(values), math.prod(values.shape[1:])):
        np.subtract(values[rows], mean, out=result[rows])
        result[rows] /= scale
    return result


def exactly_standardised(features: Floats, mean: Floats, scale: Floats) -> Float64s:
    """As `standardised`, in float64."""
    result = centred(features, mean)
    result /= scale
    return result


def centred(features: Floats | Float64s, mean: Floats) -> Float64s:
    """Features − mean in float64."""
    result: Float64s = np.subtract(features, mean, dtype=np.float64)
    return result


def class_sums(features: Floats | Float64s, labels: Labels, classes: int) -> Float64s:
    """(C, D) sum in float64 of the rows (n, D) of each class."""
    sums = np.zeros((classes, features.shape[1]))
    if len(labels):
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        sums[present] = np.add.reduceat(features[order], starts, axis=0, dtype=np.float64)
    return sums


def _float64_blocks(features: Features, width: int) -> Iterator[Float64s]:
    """All values as (n, width) arrays of their own, a few rows at a time."""
    for _, block in blocks(features):
        for start in range(0, len(block), ROWS):
            yield block[start : start + ROWS].reshape(-1, width).astype(np.float64)
