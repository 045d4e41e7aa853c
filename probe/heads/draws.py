"""Which rows: stratified folds, few-shot draws and fractions of a training part, all seeded.

Rows of one unit (`probe.units`: copies of one picture, pictures of one group) lie in one fold; a draw takes
one of them before a second, or all of them. Where every row stands alone, units change nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitOptionError
from probe.heads.head import Labels
from probe.units import are_single, deal_folds

Units = NDArray[np.intp]


def stratified_folds(
    labels: Labels, folds: int, seed: int = 0, units: Units | None = None
) -> NDArray[np.intp]:
    """Fold (N,) of each row: every class spread as evenly as its count allows, no unit (N,) parted.

    Without units of several rows, dealing goes on from class to class where it stopped, so the folds differ
    in size by at most one row.
    """
    if not 2 <= folds <= len(labels):
        raise FitOptionError(
            "cross-validation cannot be split this way",
            expected=f"between 2 and {len(labels)} folds",
            found=f"{folds} folds of {len(labels)} rows",
        )
    if units is not None and not are_single(units):
        count = len(np.unique(units))
        if folds > count:
            raise FitOptionError(
                "cross-validation cannot be split this way",
                expected=f"between 2 and {count} folds: groups and exact copies stay together",
                found=f"{folds} folds of {count} groups ({len(labels)} rows)",
            )
        return deal_folds(labels, units, folds, seed)
    order = np.lexsort((_shuffled(labels, seed), labels))
    result = np.empty(len(labels), dtype=np.intp)
    result[order] = np.arange(len(labels)) % folds
    return result


def few_shot(labels: Labels, shots: int, seed: int = 0, units: Units | None = None) -> NDArray[np.intp]:
    """Rows of a random draw of `shots` per class, sorted; a class with fewer gives all it has.

    Shots come from as many units (N,) as a class has: one row of each before a second of any. With one seed
    the draws are nested: the rows of 5 shots are among those of 10.
    """
    if shots < 1:
        raise FitOptionError("a few-shot draw needs a row per class", expected="at least 1", found=str(shots))
    place = _shuffled(labels, seed)
    unit = _unit_of_class(labels, units)
    by_unit = np.lexsort((place, unit))
    turn = np.empty(len(labels), dtype=np.intp)
    turn[by_unit] = _place_within(unit[by_unit])
    order = np.lexsort((place, turn, labels))
    return np.sort(order[_place_within(labels[order]) < shots])


def fraction(labels: Labels, share: float, seed: int = 0, units: Units | None = None) -> NDArray[np.intp]:
    """Rows of a random `share` of every class, sorted, at least one row each; nested like `few_shot`.

    Units (N,) are drawn whole, since less data means fewer patients and not fewer pictures of each: as many
    as come nearest to the share, at least one.
    """
    if not 0 < share <= 1:
        raise FitOptionError(
            "a fraction of the training part", expected="0 < fraction <= 1", found=f"{share:g}"
        )
    place = _shuffled(labels, seed)
    _, number, sizes = np.unique(_unit_of_class(labels, units), return_inverse=True, return_counts=True)
    first = np.full(len(sizes), len(labels))
    np.minimum.at(first, number, place)
    order = np.lexsort((place, first[number], labels))
    start = np.empty(len(labels), dtype=np.intp)
    start[order] = _place_within(labels[order])
    np.minimum.at(unit_start := np.full(len(sizes), len(labels)), number, start)
    kept = np.maximum(1, np.round(share * np.bincount(labels))).astype(int)
    wanted = (unit_start[number] + sizes[number] / 2 <= kept[labels]) | (unit_start[number] == 0)
    return np.flatnonzero(wanted)


def _shuffled(labels: Labels, seed: int) -> NDArray[np.intp]:
    """(N,) place of each row in a seeded order."""
    place = np.empty(len(labels), dtype=np.intp)
    place[np.random.default_rng(seed).permutation(len(labels))] = np.arange(len(labels))
    return place


def _unit_of_class(labels: Labels, units: Units | None) -> NDArray[np.intp]:
    """(N,) numbers, equal for the rows of one class in one unit."""
    if units is None:
        return np.arange(len(labels))
    return labels.astype(np.intp) * (int(units.max(initial=0)) + 1) + units


def _place_within(runs: NDArray[np.integer]) -> NDArray[np.intp]:
    """(N,) 0, 1, 2 … within each run of equal numbers."""
    starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
    return np.arange(len(runs)) - np.repeat(starts, np.diff(np.r_[starts, len(runs)]))
