"""Outliers: pictures whose tenth neighbour is far away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.audit.neighbours import Neighbours

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]

FENCE = 3.0
"""Tukey's outer fence, in interquartile ranges of the logarithm of distances: of a normal distribution one in
400,000 lies beyond."""


def outliers(near: Neighbours) -> tuple[Rows, Floats]:
    """Rows beyond the fence, the farthest first, and how many times the median distance (n,) theirs is."""
    far = near.distances.max(axis=1, initial=0).astype(np.float64)
    known = np.isfinite(far) & (far > 0)
    if known.sum() < 2:
        return np.empty(0, np.intp), np.empty(0)
    logs = np.log(far[known])
    lower, middle, upper = np.quantile(logs, (0.25, 0.5, 0.75))
    beyond = np.flatnonzero(logs > upper + FENCE * (upper - lower))
    beyond = beyond[np.argsort(-logs[beyond], kind="stable")]
    return np.flatnonzero(known)[beyond], np.exp(logs[beyond] - middle)
