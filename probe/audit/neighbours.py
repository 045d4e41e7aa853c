"""The nearest pictures of every picture, a block of pictures at a time.

Distances are those of unit vectors around the mean of all pictures (the square root of two minus twice the
cosine): embeddings share a large common part, beside which the differences between pictures would vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import UNLABELLED
from probe.heads.head import Features, Floats, blocks
from probe.progress import Progress

Rows = NDArray[np.intp]

K = 10
"""Neighbours that are looked at; the median of their distances is the scale of a picture's surroundings."""

LEAST_SCALE = 0.25
"""Of the median scale of all pictures: where a picture has more copies than neighbours are looked at, these
are its surroundings, and would hide one another."""

QUERIES = 2048
"""Pictures asked about at a time, so that 64 MB of similarities are held."""


@dataclass(frozen=True)
class Neighbours:
    """Distances and rows (N, k) of pictures near to each of N.

    A place without a picture, of which there are too few, has an infinite distance and the row -1.
    """

    distances: Floats
    rows: Rows

    def columns(self, some: slice) -> Neighbours:
        """Some of the places of every picture."""
        return Neighbours(self.distances[:, some], self.rows[:, some])

    def closeness(self) -> Floats:
        """(N, k) every distance over the smaller of the two pictures' scales; infinite without one."""
        scale = np.median(self.distances, axis=1) if self.distances.size else np.empty(len(self.rows))
        if np.isfinite(scale).any():
            scale = np.maximum(scale, LEAST_SCALE * np.median(scale[np.isfinite(scale)]))
        smaller = np.minimum(scale[:, None], scale[self.rows])
        known = (self.rows >= 0) & np.isfinite(smaller)
        share = np.ones(self.rows.shape, np.float32)
        np.divide(self.distances, smaller, out=share, where=known & (smaller > 0))
        return np.where(known, share, np.inf).astype(np.float32)


def find_neighbours(
    features: Features, labels: NDArray[np.int32], memory: int, *, shown: bool = False
) -> tuple[Neighbours, Neighbours]:
    """The nearest of all pictures (N, D), and the nearest among those that are labelled as another class.

    A picture without a label has no picture of another class, and is none. Besides the features blocks of
    half of `memory` bytes are held; features on disk are read once for each.
    """
    count, width = features.shape
    k = min(K, count - 1)
    mean = _mean(features)
    step = max(QUERIES, memory // 4 // (4 * width) // QUERIES * QUERIES)
    near, other = _empty(count, k), _empty(count, k)
    total = -(-count // QUERIES) * count
    with Progress("compare pictures", total, shown=shown) as bar:
        for start in range(0, count, step):
            mine = slice(start, min(start + step, count))
            queries = _unit(np.asarray(features[mine], np.float32), mean)
            for some, block in blocks(features):
                points = _unit(block, mean)
                for first in range(0, len(queries), QUERIES):
                    asked = slice(start + first, min(start + first + QUERIES, mine.stop))
                    similarity = queries[first : first + QUERIES] @ points.T
                    _look(similarity, asked, some, labels, near, other)
                    bar.update(some.stop - some.start)
    return _sorted(near), _sorted(other)


def _mean(features: Features) -> NDArray[np.float64]:
    total = np.zeros(features.shape[1])
    for _, block in blocks(features):
        total += block.sum(axis=0, dtype=np.float64)
    return total / features.shape[0]


def _unit(rows: Floats, mean: NDArray[np.float64]) -> Floats:
    """A new array of unit vectors; a picture in the very middle is a zero vector, far from all others."""
    moved = rows - mean.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", moved, moved))
    moved /= np.where(lengths > 0, lengths, 1)[:, None]
    return moved


def _empty(count: int, k: int) -> tuple[Floats, Rows]:
    return np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.intp)


def _look(
    similarity: Floats,
    asked: slice,
    points: slice,
    labels: NDArray[np.int32],
    near: tuple[Floats, Rows],
    other: tuple[Floats, Rows],
) -> None:
    """Take the best of a block of similarities into what is known of the pictures that were `asked` about."""
    same = np.arange(max(asked.start, points.start), min(asked.stop, points.stop))
    similarity[same - asked.start, same - points.start] = -np.inf
    _keep_best(near, similarity, asked, points.start)
    mine, theirs = labels[asked, None], labels[None, points]
    similarity[(mine == theirs) | (mine == UNLABELLED) | (theirs == UNLABELLED)] = -np.inf
    _keep_best(other, similarity, asked, points.start)


def _keep_best(best: tuple[Floats, Rows], similarity: Floats, asked: slice, first: int) -> None:
    values, rows = best
    k = values.shape[1]
    if not k:
        return
    columns = np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape)
    if similarity.shape[1] > k:
        columns = np.argpartition(similarity, -k, axis=1)[:, -k:]
    both = np.hstack([values[asked], np.take_along_axis(similarity, columns, axis=1)])
    which = np.hstack([rows[asked], columns + first])
    kept = np.argpartition(both, -k, axis=1)[:, -k:]
    values[asked] = np.take_along_axis(both, kept, axis=1)
    rows[asked] = np.take_along_axis(which, kept, axis=1)


def _sorted(best: tuple[Floats, Rows]) -> Neighbours:
    """Nearest first, among equals by row."""
    values, rows = best
    order = np.lexsort((rows, -values), axis=1)
    values, rows = np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)
    distances = np.sqrt(np.maximum(2 - 2 * values, 0))
    return Neighbours(distances.astype(np.float32), np.where(np.isfinite(values), rows, -1))
