"""Which training images lie nearest to a few others, whatever the number of training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.fit.rows import StoredRows

BLOCK_VALUES = 1 << 24


def nearest(
    points: StoredRows, queries: StoredRows, count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """(Q, k) places among `points` of the rows nearest to each query by cosine, nearest first, and cosines.

    The points are read once, a block at a time.
    """
    wanted = _unit(queries[:])
    total, width = points.shape
    best = np.full((len(wanted), 0), -np.inf, np.float32)
    places = np.zeros((len(wanted), 0), np.intp)
    step = max(1, BLOCK_VALUES // width)
    for start in range(0, total, step):
        block = _unit(points[start : start + step])
        found = np.concatenate([best, wanted @ block.T], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), (len(wanted), len(block)))
        known = np.concatenate([places, numbers], axis=1)
        order = np.argsort(-found, axis=1, kind="stable")[:, :count]
        best, places = np.take_along_axis(found, order, 1), np.take_along_axis(known, order, 1)
    return places, best


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
