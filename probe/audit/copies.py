"""Near copies: pictures that are nearer to one another than different pictures come by chance.

How near that is depends on the pictures: two pairs of trousers are nearer than two bags. So distances are
taken relative to the surroundings, as a share of the median distance to the pictures that are nearest. How
small that share is among pictures that are no copies can be seen in the data itself: pictures of *other
classes* are none. The smallest of their shares fall off as a power (as distances do in as many dimensions as
the data have locally), which gives the limit for a stated rate of false alarms, and how often such a limit
rings on classes that did not make it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.audit.neighbours import Neighbours
from probe.stats.intervals import wilson

Rows = NDArray[np.intp]
Floats = NDArray[np.float32]

RATE = 1e-4
"""False alarms a picture that the limit is made for."""

LOW, HIGH = 0.02, 0.2
"""Quantiles between which the fall of the shares of other classes is measured: copies under two labels, which
are among them, are rarer than the first."""

ALL_LOW, ALL_HIGH = 0.1, 0.5
"""The same where no classes tell and copies are among the nearest: up to a tenth of the pictures may be."""

ENOUGH = 200
"""Pictures with neighbours of other classes, below which they are too few to measure anything by."""

PIXELS, EMBEDDINGS = "pixels", "embeddings"


@dataclass(frozen=True)
class Rule:
    """When two pictures are called near copies.

    Attributes
    ----------
    compared : ``pixels`` of thumbnails, or ``embeddings`` where the pictures are not at hand.
    limit : largest share of the median distance to the nearest pictures; 0 where nothing is called a copy.
    rate : false alarms a picture that the limit is made for.
    looked_at, alarms : pictures that cannot be copies, and how many of them a limit made by the other half of
        the classes calls one; 0 of 0 where there are no classes, and the limit is made by all pictures.
    high : upper end of the 95 % interval of the share of alarms.
    """

    compared: str
    limit: float
    rate: float
    looked_at: int
    alarms: int
    high: float


def make_rule(
    compared: str, near: Neighbours, other: Neighbours, labels: NDArray[np.int32], rate: float = RATE
) -> Rule:
    """The limit for a rate of false alarms, and what it was measured to be.

    Parameters
    ----------
    near, other : pictures near to each of N, and those among them of another class.
    """
    closest = _closest(other)
    known = np.isfinite(closest)
    if known.sum() < ENOUGH:
        nearest = _closest(near)
        nearest = nearest[np.isfinite(nearest)]
        limit = _limit(nearest, rate, ALL_LOW, ALL_HIGH) if len(nearest) >= ENOUGH else 0.0
        return Rule(compared, limit, rate, 0, 0, 1.0)
    alarms = 0
    for half in (0, 1):
        made_by, held_out = known & (labels % 2 == half), known & (labels % 2 != half)
        if made_by.any():
            alarms += int((closest[held_out] <= _limit(closest[made_by], rate, LOW, HIGH)).sum())
    looked_at = int(known.sum())
    limit = _limit(closest[known], rate, LOW, HIGH)
    return Rule(compared, limit, rate, looked_at, alarms, wilson(alarms, looked_at)[1])


def _closest(neighbours: Neighbours) -> Floats:
    """(N,) the smallest share of every picture."""
    closeness = neighbours.closeness()
    return closeness.min(axis=1) if closeness.shape[1] > 1 else np.full(len(closeness), np.inf, np.float32)


def _limit(shares: Floats, rate: float, low: float, high: float) -> float:
    """Where a power through two quantiles of the shares has the wanted rate."""
    lower, upper = (float(value) for value in np.quantile(shares, (low, high)))
    if not 0 < lower < upper:
        return 0.0
    power = np.log(high / low) / np.log(upper / lower)
    return float(lower * (rate / low) ** (1 / power))


def near_pairs(near: Neighbours, limit: float) -> tuple[Rows, Floats]:
    """Pairs (P, 2) of near copies, the smaller row first, and the share (P,) of each; the closest first."""
    closeness = near.closeness()
    found = closeness <= limit if limit > 0 else np.zeros(closeness.shape, bool)
    row, place = np.nonzero(found)
    pairs = np.sort(np.stack([row, near.rows[row, place]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    shares = closeness[row[first], place[first]]
    order = np.argsort(shares, kind="stable")
    return pairs[order], shares[order]


def clusters(count: int, pairs: Rows) -> list[Rows]:
    """The rows that hang together by pairs, of `count`, each in rising order; the first one first."""
    parent = np.arange(count)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for a, b in pairs.tolist():
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    members: dict[int, list[int]] = {}
    for row in np.unique(pairs).tolist():
        members.setdefault(root(row), []).append(row)
    return [np.array(rows, dtype=np.intp) for _, rows in sorted(members.items())]
