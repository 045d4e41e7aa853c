"""Exact nearest neighbours: float32 finds the candidates, float64 decides between them.

Ranking by q·x − |x|²/2 is ranking by Euclidean distance. In float32 it is trusted only as far as its
rounding is bounded (Higham, Accuracy and Stability of Numerical Algorithms, ch. 3: an inner product of D
terms is off by at most D·u·|q||x| in any order of summation). Rows that the bound cannot tell apart are
measured by the sum of squared differences in float64, which has no cancellation and is the same for equal
rows wherever they stand. Both sides are moved to the mean of the points first, so that a common offset costs
no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats

Float64s = NDArray[np.float64]
Rows = NDArray[np.intp]

METRICS = ("cosine", "euclidean")
QUERY_BLOCK, POINT_BLOCK = 1024, 8192
"""Similarities held at a time: 32 MB, whatever the number of rows."""
CENTRED_ROWS, CENTRE_ROWS = 64, 1024
"""Rows brought to float64 at a time, which should stay in the cache; and rows whose mean is the centre."""
SPARE = 24
"""Points kept beyond the k wanted, so that those too close to call are there."""
HARD_VALUES = 1 << 23
"""Similarities held at a time for the queries that float32 could not decide."""
PAIR_VALUES = 1 << 20
"""Differences held at a time."""
SAME_DIRECTION = 16 * np.finfo(np.float64).eps
"""Unit vectors whose distances differ by less are equally far: normalising may have moved them as much."""
FAR = 1e15
"""Times the spread of the points: a query beyond this could overflow float32."""


class NeighbourSearch:
    """Points (N, D) float32, searched for the nearest to each query.

    The order is by distance, and among equal distances by row number, whatever k and the block sizes. Cosine
    distance is that of unit vectors; a zero vector has cosine 0 with everything.
    """

    def __init__(self, points: Floats, metric: str) -> None:
        self.points = points
        self.cosine = metric == "cosine"
        self._lengths = _lengths(points) if self.cosine else np.ones(len(points))
        self._zeros = np.flatnonzero(self._lengths == 0)
        # Any centre will do that is as near to the points as their mean is.
        some = np.arange(0, len(points), max(1, len(points) // CENTRE_ROWS))
        self._centre = self._unit_or_raw(some).mean(axis=0)
        # A power of two scales without rounding; it only keeps float32 from overflow and from vanishing.
        largest = 0.0 if self.cosine else max(float(points.max()), -float(points.min()))
        self._scale = float(np.exp2(-np.floor(np.log2(largest)))) if largest > 0 else 1.0
        self._scaled = np.empty(points.shape, dtype=np.float32)
        squares = np.empty(len(points))
        for rows, block in self._blocks_of_points():
            self._scaled[rows] = block
            squares[rows] = np.einsum("nd,nd->n", block, block)
        self._halves = squares / 2
        self._radius = float(np.sqrt(squares.max()))

    def find(self, features: Features, k: int) -> Rows:
        """Rows (Q, k) of the points nearest to each row of `features` (Q, D), nearest first."""
        count = features.shape[0]
        found = np.empty((count, k), dtype=np.intp)
        for start in range(0, count, QUERY_BLOCK):
            block = np.asarray(features[start : start + QUERY_BLOCK], dtype=np.float32)
            found[start : start + len(block)] = self._nearest(self._queries(block), k)
        return found

    def _queries(self, rows: Floats) -> _Queries:
        exact = rows.astype(np.float64)
        zero = np.zeros(len(rows), dtype=bool)
        if self.cosine:
            lengths = _lengths(exact)
            zero = lengths == 0
            exact /= _divisors(lengths)[:, None]
        scaled = self._moved(exact.copy())
        norms = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))
        return _Queries(exact, zero, scaled, norms)

    def _moved(self, rows: Float64s) -> Float64s:
        """In place: relative to the centre, in the scaled units."""
        rows -= self._centre
        if self._scale != 1:
            rows *= self._scale
        return rows

    def _unit_or_raw(self, rows: slice | Rows) -> Float64s:
        """Points in float64, of unit length for cosine; a new array."""
        points = self.points[rows].astype(np.float64)
        if self.cosine:
            points /= _divisors(self._lengths[rows])[:, None]
        return points

    def _blocks_of_points(self) -> Iterator[tuple[slice, Float64s]]:
        """All points relative to the centre in the scaled units, a few rows at a time."""
        for start in range(0, len(self.points), CENTRED_ROWS):
            rows = slice(start, min(start + CENTRED_ROWS, len(self.points)))
            yield rows, self._moved(self._unit_or_raw(rows))

    def _nearest(self, queries: _Queries, k: int) -> Rows:
        found = np.empty((len(queries.scaled), k), dtype=np.intp)
        values, rows = self._best(queries, min(k + SPARE, len(self.points)))
        allowed = values[:, k - 1] - 2 * self._error(queries.norms, np.float32)
        near = values >= allowed[:, None]
        complete = ~near[:, -1] if values.shape[1] < len(self.points) else np.ones(len(near), dtype=bool)
        easy = np.flatnonzero(complete & (queries.norms < FAR) & ~queries.zero)
        if len(easy):
            margin = 2 * self._error(queries.norms[easy], np.float32)
            pairs = _candidates(values[easy], rows[easy], near[easy], margin, easy)
            found[easy] = self._decide(queries, pairs, k)
        hard = np.setdiff1d(np.flatnonzero(~queries.zero), easy)
        step = max(1, HARD_VALUES // len(self.points))
        for start in range(0, len(hard), step):
            found[hard[start : start + step]] = self._nearest_of_hard(queries, hard[start : start + step], k)
        found[queries.zero] = np.arange(k)
        return found

    def _best(self, queries: _Queries, count: int) -> tuple[Floats, Rows]:
        """The `count` largest similarities of each query in float32, largest first, and their rows."""
        best = np.full((len(queries.scaled), 0), -np.inf, dtype=np.float32)
        rows = np.empty(best.shape, dtype=np.intp)
        far = queries.norms >= FAR
        with np.errstate(over="ignore"):
            scaled = queries.scaled.astype(np.float32)
        scaled[far] = 0
        halves = self._halves.astype(np.float32)
        for start in range(0, len(self.points), POINT_BLOCK):
            similarity = scaled @ self._scaled[start : start + POINT_BLOCK].T
            similarity -= halves[start : start + POINT_BLOCK]
            self._set_zeros(similarity, slice(start, start + POINT_BLOCK), queries.norms)
            values, columns = _top(similarity, count)
            best, rows = np.hstack([best, values]), np.hstack([rows, columns + start])
            best, kept = _top(best, count)
            rows = np.take_along_axis(rows, kept, axis=1)
        order = np.argsort(-best, axis=1)
        return np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _nearest_of_hard(self, queries: _Queries, which: Rows, k: int) -> Rows:
        """For queries with too many points too close to call in float32: all similarities in float64."""
        values = np.empty((len(which), len(self.points)))
        scaled = queries.scaled[which]
        for rows, block in self._blocks_of_points():
            values[:, rows] = scaled @ block.T - self._halves[rows]
        self._set_zeros(values, slice(0, len(self.points)), queries.norms[which])
        kth = np.partition(values, -k, axis=1)[:, -k]
        near = values >= (kth - 2 * self._error(queries.norms[which], np.float64))[:, None]
        query, points = np.nonzero(near)
        pairs = _Pairs(which[query], points, np.zeros_like(points), np.ones(len(points), dtype=bool))
        return self._decide(queries, pairs, k)

    def _set_zeros(self, similarity: NDArray[Any], rows: slice, norms: Float64s) -> None:
        """Zero vectors are not where the algebra of unit vectors puts them: their distance is √2."""
        zeros = self._zeros[(self._zeros >= rows.start) & (self._zeros < rows.stop)] - rows.start
        if len(zeros):
            similarity[:, zeros] = (norms[:, None] ** 2 / 2) - self._scale**2

    def _error(self, norms: Float64s, kind: type[np.floating]) -> Float64s:
        """What a similarity of queries of such norms (Q,) can be off by, in the scaled units."""
        unit = float(np.finfo(kind).eps) / 2
        products = 1.01 * (self.points.shape[1] + 8) * unit * norms * self._radius
        # Halves and the difference are rounded once each; making the unit vectors is beneath float32.
        bound: Float64s = products + 2 * unit * self._radius**2 + 1e-30
        if self.cosine:
            bound += 4 * SAME_DIRECTION * self._scale**2 + 2 * unit * norms**2
        return bound

    def _decide(self, queries: _Queries, pairs: _Pairs, k: int) -> Rows:
        """The k nearest rows of each query among its candidates, from exact distances where needed."""
        distance = np.zeros(len(pairs.query))
        open_ = np.flatnonzero(pairs.unsure)
        step = max(1, PAIR_VALUES // max(self.points.shape[1], 1))
        for start in range(0, len(open_), step):
            some = open_[start : start + step]
            distance[some] = self._distances(queries, pairs.query[some], pairs.rows[some])
        query, rows, group = pairs.query, pairs.rows, pairs.group
        order = np.lexsort((rows, distance, group, query))
        if self.cosine:
            query, rows, group, distance = query[order], rows[order], group[order], distance[order]
            new = (np.diff(query) != 0) | (np.diff(group) != 0) | (np.diff(distance) > SAME_DIRECTION)
            order = np.lexsort((rows, np.cumsum(np.r_[False, new])))
        query, rows = query[order], rows[order]
        first = np.flatnonzero(np.r_[True, np.diff(query) != 0])
        return rows[first[:, None] + np.arange(k)]

    def _distances(self, queries: _Queries, query: Rows, rows: Rows) -> Float64s:
        """Squared Euclidean distances of pairs; distances of unit vectors for cosine."""
        difference = self._unit_or_raw(rows)
        difference -= queries.rows[query]
        np.square(difference, out=difference)
        squares: Float64s = difference.sum(axis=1)
        if not self.cosine:
            return squares
        squares[self._lengths[rows] == 0] = 2.0
        return np.asarray(np.sqrt(squares))


@dataclass(frozen=True)
class _Queries:
    """Queries (Q, D) in float64 (of unit length for cosine), which of them are zero vectors, the same in the
    scaled units of the search, and their length there (Q,)."""

    rows: Float64s
    zero: NDArray[np.bool_]
    scaled: Float64s
    norms: Float64s


@dataclass(frozen=True)
class _Pairs:
    """Candidates: query, point, rank of a group of points within which the order is not known, and whether
    the group is more than this point; all (P,)."""

    query: Rows
    rows: Rows
    group: Rows
    unsure: NDArray[np.bool_]


def _candidates(
    values: Floats, rows: Rows, near: NDArray[np.bool_], margin: Float64s, queries: Rows
) -> _Pairs:
    """The near ones of similarities (Q, M), largest first, in groups that `margin` (Q,) tells apart."""
    apart = values[:, :-1] - values[:, 1:] > margin[:, None]
    apart |= ~near[:, 1:]
    edge = np.ones((len(values), 1), dtype=bool)
    first, last = np.hstack([edge, apart]), np.hstack([apart, edge])
    place, column = np.nonzero(near)
    group = np.cumsum(first, axis=1)[place, column]
    unsure = ~(first & last)[place, column]
    return _Pairs(queries[place], rows[place, column], group, unsure)


def _top(values: Floats, count: int) -> tuple[Floats, Rows]:
    """The `count` largest of each row, in any order, and their columns."""
    if values.shape[1] <= count:
        return values, np.broadcast_to(np.arange(values.shape[1]), values.shape)
    columns = np.argpartition(values, -count, axis=1)[:, -count:]
    return np.take_along_axis(values, columns, axis=1), columns


def _lengths(rows: NDArray[np.floating]) -> Float64s:
    """Euclidean norm (N,) in float64."""
    squares = np.empty(len(rows))
    for start in range(0, len(rows), CENTRED_ROWS):
        block = rows[start : start + CENTRED_ROWS].astype(np.float64, copy=False)
        squares[start : start + CENTRED_ROWS] = np.einsum("nd,nd->n", block, block)
    return np.asarray(np.sqrt(squares))


def _divisors(lengths: Float64s) -> Float64s:
    return np.where(lengths > 0, lengths, 1.0)
