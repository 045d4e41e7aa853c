"""How much of every class goes to train, validation and test.

The parts of the whole come first: rounding class by class misses them where classes are small (four rows of a
class are 3/0/1 by themselves, and 150 such classes have no validation at all). So each class is rounded by
itself, as far as that goes, and then units move from parts with too much to parts with too little until the
totals are those of the largest remainder, first in the classes whose own shares gain most by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.intp]
PARTS = 3
TRAIN, VAL, TEST = range(PARTS)


def largest_remainder(total: int, shares: tuple[float, ...]) -> Counts:
    """`total` divided into whole numbers by shares that add up to 1 (Hamilton's method).

    Of equal remainders the later share goes first, so that train, which comes first, gives way.
    """
    quotas = total * np.asarray(shares, dtype=np.float64)
    # The rounding keeps the errors of floats from deciding between equal remainders.
    floors = np.floor(np.round(quotas, 6)).astype(np.intp)
    remainders = np.round(quotas - floors, 6)
    order = sorted(range(len(shares)), key=lambda part: (-remainders[part], -part))
    floors[order[: total - int(floors.sum())]] += 1
    return floors


@dataclass(frozen=True)
class Units:
    """U units in the order in which they are dealt out: stratum by stratum, each in a seeded order.

    Attributes
    ----------
    strata : (U,) numbers 0 … S-1, ascending.
    sizes : (U,) rows of each.
    pinned : (U,) units that have to be in train, because a class has its rows in no other.
    """

    strata: Counts
    sizes: Counts
    pinned: NDArray[np.bool_]


def allot(units: Units, shares: tuple[float, float, float]) -> Counts:
    """(U,) TRAIN, VAL or TEST for every unit.

    Every stratum keeps a unit in train. With units of one row the totals are those of the largest remainder,
    as far as that leaves them; larger ones come as near as moving one at a time brings them, and then no
    stratum gives up more than half of what is its own share of train.
    """
    if not len(units.sizes):
        return np.empty(0, np.intp)
    parts = np.concatenate([_fill(units, rows, shares) for rows in _each_stratum(units.strata)])
    return _balanced(units, parts, shares)


def _each_stratum(strata: Counts) -> list[slice]:
    ends = np.cumsum(np.bincount(strata)).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _fill(units: Units, rows: slice, shares: tuple[float, float, float]) -> Counts:
    """One stratum by itself: fill test, then validation, then train. A unit too large for what is left of a
    part may overfill it by at most half its own size."""
    sizes, pinned = units.sizes[rows].tolist(), units.pinned[rows].tolist()
    total = sum(sizes)
    left = {TEST: int(total * shares[TEST] + 0.5), VAL: int(total * shares[VAL] + 0.5)}
    while sum(left.values()) >= total:
        left[max(left, key=lambda part: left[part])] -= 1
    found = []
    for size, fixed in zip(sizes, pinned, strict=True):
        fitting = (part for part, room in left.items() if not fixed and room > 0 and 2 * room >= size)
        part = next(fitting, TRAIN)
        if part != TRAIN:
            left[part] -= size
        found.append(part)
    if TRAIN not in found:
        found[-1] = TRAIN
    return np.array(found, dtype=np.intp)


def _balanced(units: Units, parts: Counts, shares: tuple[float, float, float]) -> Counts:
    """`parts` with units moved until the totals are right.

    Units of one stratum and size are interchangeable: only their numbers in each part are worked on, and then
    they are dealt out again in their order, test first, as `_fill` does.
    """
    free = ~units.pinned
    keys = np.stack([units.strata[free], units.sizes[free]])
    kinds, kind_of = np.unique(keys, axis=1, return_inverse=True)
    kind_of = kind_of.reshape(-1)
    counts = np.zeros((kinds.shape[1], PARTS), np.intp)
    np.add.at(counts, (kind_of, parts[free]), 1)
    _move(units, kinds, counts, parts, shares)
    dealt = parts.copy()
    order = np.argsort(kind_of, kind="stable")
    dealt[np.flatnonzero(free)[order]] = np.repeat(
        np.tile([TEST, VAL, TRAIN], len(counts)), counts[:, [TEST, VAL, TRAIN]].ravel()
    )
    return dealt


def _move(
    units: Units, kinds: Counts, counts: Counts, parts: Counts, shares: tuple[float, float, float]
) -> None:
    """Change `counts` (K, 3), units of each kind (stratum, size) in each part, move by move."""
    strata, sizes = kinds
    rows = np.zeros((int(units.strata.max()) + 1, PARTS), np.intp)
    np.add.at(rows, (units.strata, parts), units.sizes)
    in_train = np.bincount(units.strata[parts == TRAIN], minlength=len(rows))
    own = rows.sum(axis=1, keepdims=True) * np.asarray(shares)
    targets = _targets(units, shares)
    least = np.zeros(len(rows)) if (units.sizes == 1).all() else own[:, TRAIN] / 2
    while True:
        off, excess = rows.sum(axis=0) - targets, (rows - own)[strata]
        best = (np.inf, 0, 0, 0)
        for source in np.flatnonzero(off > 0).tolist():
            for goal in np.flatnonzero(off < 0).tolist():
                possible = (counts[:, source] > 0) & (sizes < off[source] - off[goal])
                if source == TRAIN:
                    possible &= (in_train[strata] > 1) & (rows[strata, TRAIN] - sizes >= least[strata])
                # Half of what the move adds to the squared distance from the stratum's own shares, for each
                # row.
                cost = np.where(possible, np.round(sizes - excess[:, source] + excess[:, goal], 6), np.inf)
                kind = int(cost.argmin()) if len(cost) else 0
                best = min(best, (float(cost[kind]) if len(cost) else np.inf, kind, source, goal))
        cost_of_best, kind, source, goal = best
        if np.isinf(cost_of_best):
            return
        stratum, size = strata[kind], sizes[kind]
        counts[kind, [source, goal]] += [-1, 1]
        rows[stratum, [source, goal]] += [-size, size]
        in_train[stratum] += (goal == TRAIN) - (source == TRAIN)


def _targets(units: Units, shares: tuple[float, float, float]) -> Counts:
    """Rows of every part; train has at least what its strata cannot do without."""
    total = int(units.sizes.sum())
    targets = largest_remainder(total, shares)
    smallest = np.full(int(units.strata.max()) + 1, total)
    np.minimum.at(smallest, units.strata, units.sizes)
    needed = int(smallest.sum())
    if targets[TRAIN] >= needed:
        return targets
    rest = shares[VAL] + shares[TEST]
    scored = largest_remainder(total - needed, (shares[VAL] / rest, shares[TEST] / rest))
    return np.array([needed, *scored], dtype=np.intp)
