"""Dividing rows into train, validation and test, so that neither file order nor machine matters."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.datasets.allotment import Units, allot
from probe.datasets.dataset import NO_SPLIT, SPLITS, TEST, TRAIN, UNLABELLED, VAL
from probe.datasets.indexing import UNREADABLE
from probe.datasets.listing import Listing
from probe.errors import UsageError
from probe.text import count_of
from probe.units import count_groups, kept_together

Fractions = tuple[float, float, float]
"""Shares of train, validation and test; they add up to 1."""

DEFAULT_FRACTIONS: Fractions = (0.7, 0.1, 0.2)
CARVED_SHARE = 0.1


MISSED = 0.01
"""Share of the images by which a part may miss the size asked for without a word."""


def check_fractions(fractions: Fractions) -> None:
    """Raises UsageError unless there is something to train on and the shares add up to 1."""
    if min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            "the shares of the split cannot be used",
            expected="train,validation,test shares that add up to 1, train above 0",
            found=",".join(f"{share:g}" for share in fractions),
            hint="--split 0.7,0.1,0.2",
        )


def divide(
    listing: Listing,
    hashes: NDArray[np.str_],
    *,
    fractions: Fractions | None,
    validation: float,
    seed: int,
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """The split (N,) of every row, and what the user should know about how it was made.

    `fractions` are shares asked for in place of the set's own split, `validation` the share of train that
    becomes validation where the set has none.
    """
    labels, groups = listing.labels, listing.groups
    own = Counter(listing.splits.tolist())
    del own[NO_SPLIT]
    if not (labels != UNLABELLED).any():
        return listing.splits, ()
    if fractions is not None or not own:
        fractions = fractions or DEFAULT_FRACTIONS
        splits = split_rows(hashes, labels, fractions, seed=seed, groups=groups)
        shares = "/".join(f"{100 * share:g}" for share in fractions)
        instead = "in place of the set's own split " if own else ""
        came_out = _counts_text(splits, fractions)
        kept = ", groups kept together" if count_groups(groups) else ""
        return splits, (f"split {instead}{shares} % by content, stratified{kept}, seed {seed}: {came_out}",)
    if own[TRAIN] and not own[VAL] and validation:
        splits = carve_validation(hashes, labels, listing.splits, share=validation, seed=seed, groups=groups)
        carved = int((splits == VAL).sum())
        share = f"{100 * validation:g} %"
        made = f"validation: {count_of(carved, 'image')} ({share}) taken from train, seed {seed}"
    else:
        splits, made = listing.splits, ""
    nowhere = int(((splits == NO_SPLIT) & (labels != UNLABELLED) & (hashes != UNREADABLE)).sum())
    left = f"{count_of(nowhere, 'labelled image')} in no split: not used" if nowhere else ""
    without = [
        f"there is no {part} split: nothing can be {what} (--split makes one)"
        for part, what in ((TEST, "scored on it"), (TRAIN, "fitted on it"))
        if not own[part]
    ]
    return splits, tuple(note for note in (made, left, *without) if note)


def _counts_text(splits: NDArray[np.str_], fractions: Fractions) -> str:
    """``train 420, val 60, test 120``, and the shares that this is where they are not those asked for."""
    counts = [int((splits == split).sum()) for split in SPLITS]
    total = sum(counts)
    told = [(split, count) for split, count, share in zip(SPLITS, counts, fractions, strict=True) if share]
    text = ", ".join(f"{split} {count:,}" for split, count in told)
    missed = max(abs(count - share * total) for count, share in zip(counts, fractions, strict=True))
    if missed < max(1, MISSED * total):
        return text
    shares = "/".join(f"{100 * count / total:.3g}" for count in counts)
    return f"{text}, which is {shares} %: what belongs together or is a class's last image was not parted"


def split_rows(
    hashes: NDArray[np.str_],
    labels: NDArray[np.int32],
    fractions: Fractions = DEFAULT_FRACTIONS,
    *,
    seed: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> NDArray[np.str_]:
    """(N,) split names: stratified by class, in the order of a seeded hash of the content.

    The sizes of the parts are those of the largest remainder over all rows, see `probe.datasets.allotment`.
    Rows with the same content, and rows of the same non-empty group, stay together; what is kept together
    counts for the class most of its rows have. Every class keeps a row in train. Rows without a label or
    without a hash (unreadable) get no split.
    """
    check_fractions(fractions)
    usable = np.flatnonzero((labels != UNLABELLED) & (hashes != ""))
    units = _dealing_order(_units(usable, hashes, labels, seed, groups))
    splits = np.full(len(labels), NO_SPLIT, dtype="<U5")
    parts = allot(_for_allotment(units), fractions)
    for unit, part in zip(units, parts.tolist(), strict=True):
        splits[unit.rows] = SPLITS[part]
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
    """Rows that must not be parted, the class most of them have, and all classes that they have."""

    rows: NDArray[np.intp]
    label: int
    classes: frozenset[int]
    key: str

    @classmethod
    def of(
        cls,
        rows: NDArray[np.intp],
        hashes: NDArray[np.str_],
        labels: NDArray[np.int32],
        seed: int,
    ) -> _Unit:
        if len(rows) == 1:
            label, key = int(labels[rows[0]]), _key(seed, str(hashes[rows[0]]))
            return cls(rows, label, frozenset((label,)), key)
        counts = Counter(labels[rows].tolist())
        label = min(counts, key=lambda label: (-counts[label], label))
        return cls(rows, label, frozenset(counts), _key(seed, min(hashes[rows].tolist())))


def _key(seed: int, content: str) -> str:
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def _units(
    rows: NDArray[np.intp],
    hashes: NDArray[np.str_],
    labels: NDArray[np.int32],
    seed: int,
    groups: NDArray[np.str_] | None,
) -> list[_Unit]:
    if not len(rows):
        return []
    together = kept_together(hashes[rows], None if groups is None else groups[rows])
    ends = np.cumsum(np.bincount(together))[:-1]
    members = np.split(rows[np.argsort(together, kind="stable")], ends)
    return [_Unit.of(mine, hashes, labels, seed) for mine in members]


def _dealing_order(units: list[_Unit]) -> list[_Unit]:
    """By class and within it by key; the classes by their first keys, so that no class is favoured by its
    name."""
    first: dict[int, str] = {}
    for unit in units:
        first[unit.label] = min(first.get(unit.label, unit.key), unit.key)
    return sorted(units, key=lambda unit: (first[unit.label], unit.key))


def _for_allotment(units: list[_Unit]) -> Units:
    number = {label: place for place, label in enumerate(dict.fromkeys(unit.label for unit in units))}
    return Units(
        np.array([number[unit.label] for unit in units], dtype=np.intp),
        np.array([len(unit.rows) for unit in units], dtype=np.intp),
        _needed_in_train(units, set(number)),
    )


def _needed_in_train(units: list[_Unit], strata: set[int]) -> NDArray[np.bool_]:
    """(U,) one unit for each class whose rows all sit in units that count for other classes."""
    needed = np.zeros(len(units), dtype=bool)
    covered = set(strata)
    for place in reversed(range(len(units))):
        if not units[place].classes <= covered:
            needed[place] = True
            covered |= units[place].classes
    return needed
