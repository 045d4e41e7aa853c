"""Dividing rows into train, validation and test, so that neither file order nor machine matters."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, UNLABELLED, VAL
from probe.errors import UsageError

Fractions = tuple[float, float, float]
"""Shares of train, validation and test; they add up to 1."""

DEFAULT_FRACTIONS: Fractions = (0.7, 0.1, 0.2)
CARVED_SHARE = 0.1


def check_fractions(fractions: Fractions) -> None:
    """Raises UsageError unless there is something to train on and the shares add up to 1."""
    if min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            "the shares of the split cannot be used",
            expected="train,validation,test shares that add up to 1, train above 0",
            found=",".join(f"{share:g}" for share in fractions),
            hint="--split 0.7,0.1,0.2",
        )


def split_rows(
    hashes: NDArray[np.str_],
    labels: NDArray[np.int32],
    fractions: Fractions = DEFAULT_FRACTIONS,
    *,
    seed: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """(N,) split names: stratified by class, in the order of a seeded hash of the content.

    Rows with the same content, and rows of the same non-empty group, stay together; what is kept together
    counts for the class most of its rows have. Every class keeps a row in train. Rows without a label or
    without a hash (unreadable) get no split.
    """
    check_fractions(fractions)
    usable = np.flatnonzero((labels != UNLABELLED) & (hashes != ""))
    strata: dict[int, list[_Unit]] = defaultdict(list)
    for rows in _kept_together(usable, hashes, groups):
        unit = _Unit.of(rows, hashes, labels, seed)
        strata[unit.label].append(unit)
    splits = np.full(len(labels), NO_SPLIT, dtype="<U5")
    for units in strata.values():
        for unit, split in _divide(sorted(units, key=lambda unit: unit.key), fractions):
            splits[unit.rows] = split
    return splits


def carve_validation(
    hashes: NDArray[np.str_],
    labels: NDArray[np.int32],
    splits: NDArray[np.str_],
    *,
    share: float = CARVED_SHARE,
    seed: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """`splits` with `share` of train made validation, chosen the way `split_rows` chooses."""
    train = np.flatnonzero(splits == TRAIN)
    parts = split_rows(
        hashes[train],
        labels[train],
        (1 - share, share, 0.0),
        seed=seed,
        groups=None if groups is None else groups[train],
    )
    carved = splits.astype("<U5")
    carved[train[parts == VAL]] = VAL
    return carved


@dataclass(frozen=True)
class _Unit:
    """Rows that must not be parted."""

    rows: list[int]
    label: int
    key: str

    @classmethod
    def of(
        cls,
        rows: list[int],
        hashes: NDArray[np.str_],
        labels: NDArray[np.int32],
        seed: int,
    ) -> _Unit:
        if len(rows) == 1:
            label, lowest = int(labels[rows[0]]), str(hashes[rows[0]])
        else:
            counts = Counter(int(labels[row]) for row in rows)
            label = min(counts, key=lambda label: (-counts[label], label))
            lowest = min(str(hashes[row]) for row in rows)
        return cls(rows, label, hashlib.sha256(f"{seed}:{lowest}".encode()).hexdigest())


def _kept_together(
    rows: NDArray[np.intp], hashes: NDArray[np.str_], groups: NDArray[np.str_] | None
) -> list[list[int]]:
    """`rows` joined by equal content or equal group, also through a chain of both."""
    parent = {row: row for row in rows.tolist()}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row in parent:
        marks = [("content", str(hashes[row]))]
        if groups is not None and groups[row]:
            marks.append(("group", str(groups[row])))
        for mark in marks:
            other = first.setdefault(mark, row)
            parent[root(row)] = root(other)
    joined: dict[int, list[int]] = defaultdict(list)
    for row in parent:
        joined[root(row)].append(row)
    return list(joined.values())


def _divide(units: Sequence[_Unit], fractions: Fractions) -> list[tuple[_Unit, str]]:
    """Fill test, then validation, then train. A unit too large for what is left of a split may overfill it by
    at most half its own size."""
    total = sum(len(unit.rows) for unit in units)
    left = {TEST: int(total * fractions[2] + 0.5), VAL: int(total * fractions[1] + 0.5)}
    while sum(left.values()) >= total:
        left[max(left, key=lambda split: left[split])] -= 1
    placed = []
    for unit in units:
        split = next((name for name, room in left.items() if room > 0 and 2 * room >= len(unit.rows)), TRAIN)
        if split != TRAIN:
            left[split] -= len(unit.rows)
        placed.append((unit, split))
    if all(split != TRAIN for _, split in placed):
        placed[-1] = (placed[-1][0], TRAIN)
    return placed
