"""Rows that must not be parted: equal content, or one group, also through a chain of both.

Several pictures of one patient, or the same picture twice, on both sides of a border between what is fitted
and what is scored make a figure that no new patient will confirm. Splits, folds and draws all go by the units
made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Names = NDArray[np.str_] | NDArray[np.bytes_]


def kept_together(hashes: Names, groups: NDArray[np.str_] | None = None) -> NDArray[np.intp]:
    """(N,) unit of every row, numbered from 0 in the order in which units first occur.

    Parameters
    ----------
    hashes : (N,) content hashes, as text or bytes; a row without one (empty) has the content of no other.
    groups : (N,) names; a row without one ("") is in no group.
    """
    contents = group_codes(hashes)
    if groups is not None and (groups != "").any():
        named = np.flatnonzero(groups != "")
        pairs = np.unique(np.stack([group_codes(groups[named]), contents[named]]), axis=1)
        contents = _joined(int(contents.max()) + 1, zip(*pairs.tolist(), strict=True))[contents]
    _, first, units = np.unique(contents, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.intp)
    number[np.argsort(first)] = np.arange(len(first))
    return number[units]


def are_single(units: NDArray[np.intp] | None) -> bool:
    """Whether every row stands alone, so that nothing has to be kept together."""
    return units is None or len(np.unique(units)) == len(units)


def count_groups(groups: NDArray[np.str_] | None) -> int:
    """How many different groups have a name."""
    return 0 if groups is None else len(np.unique(groups[groups != ""]))


def group_codes(names: Names) -> NDArray[np.intp]:
    """(N,) numbers from 0, equal where the name is; every empty name has a number of its own."""
    found, codes = np.unique(names, return_inverse=True)
    alone = names == names.dtype.type()
    codes = codes.astype(np.intp)
    codes[alone] = len(found) + np.arange(alone.sum())
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """(count,) a common number for all contents that lie in one group, given as pairs (group, content)."""
    parent = list(range(count))

    def root(content: int) -> int:
        while parent[content] != content:
            parent[content] = parent[parent[content]]
            content = parent[content]
        return content

    first: dict[int, int] = {}
    for group, content in pairs:
        parent[root(content)] = root(first.setdefault(group, content))
    return np.array([root(content) for content in range(count)], dtype=np.intp)


def deal_folds(
    labels: NDArray[np.integer], units: NDArray[np.intp], folds: int, seed: int
) -> NDArray[np.intp]:
    """Fold (N,) of each row: whole units, so that every class is spread as evenly as they allow.

    Units are dealt from the largest to the smallest, shuffled among equals, each to the fold that has the
    least of its classes, relative to their size, and among equals to the smallest. That is the aim of
    scikit-learn's StratifiedGroupKFold, which looks at every class for every fold and unit: 18 s for 20,000
    units of 100 classes, where this takes half a second. No fold stays empty while there are units
    for all of them.
    """
    members = [labels[rows].tolist() for rows in members_of(units)]
    order = np.random.default_rng(seed).permutation(len(members)).tolist()
    order.sort(key=lambda unit: -len(members[unit]))
    sizes = np.bincount(labels).tolist()
    held, total = [[0] * folds for _ in sizes], [0] * folds
    fold_of = [0] * len(members)
    for unit in order:
        counts = Counter(members[unit])
        shares = [(held[label], count / sizes[label] ** 2) for label, count in sorted(counts.items())]
        crowded = [sum(there[fold] * weight for there, weight in shares) for fold in range(folds)]
        fold_of[unit] = fold = min(range(folds), key=lambda fold: (crowded[fold], total[fold]))
        for label, count in counts.items():
            held[label][fold] += count
        total[fold] += len(members[unit])
    return np.array(fold_of, dtype=np.intp)[np.unique(units, return_inverse=True)[1]]


def members_of(units: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The rows of every unit, in the order of their numbers."""
    _, number = np.unique(units, return_inverse=True)
    ends = np.cumsum(np.bincount(number))[:-1]
    return np.split(np.argsort(number, kind="stable"), ends)
