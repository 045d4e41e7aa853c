"""Which rows: stratified folds, few-shot draws and fractions of a training part, all seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitOptionError
from probe.heads.head import Labels


def stratified_folds(labels: Labels, folds: int, seed: int = 0) -> NDArray[np.intp]:
    """Fold (N,) of each row: every class spread as evenly as its count allows.

    Dealing goes on from class to class where it stopped, so the folds differ in size by at most one row.
    """
    if not 2 <= folds <= len(labels):
        raise FitOptionError(
            "cross-validation cannot be split this way",
            expected=f"between 2 and {len(labels)} folds",
            found=f"{folds} folds of {len(labels)} rows",
        )
    order = _by_class(labels, seed)
    result = np.empty(len(labels), dtype=np.intp)
    result[order] = np.arange(len(labels)) % folds
    return result


def few_shot(labels: Labels, shots: int, seed: int = 0) -> NDArray[np.intp]:
    """Rows of a random draw of `shots` per class, sorted; a class with fewer gives all it has.

    With one seed the draws are nested: the rows of 5 shots are among those of 10.
    """
    if shots < 1:
        raise FitOptionError("a few-shot draw needs a row per class", expected="at least 1", found=str(shots))
    order = _by_class(labels, seed)
    return np.sort(order[_place_in_class(labels, order) < shots])


def fraction(labels: Labels, share: float, seed: int = 0) -> NDArray[np.intp]:
    """Rows of a random `share` of every class, sorted, at least one row each; nested like `few_shot`."""
    if not 0 < share <= 1:
        raise FitOptionError(
            "a fraction of the training part", expected="0 < fraction <= 1", found=f"{share:g}"
        )
    order = _by_class(labels, seed)
    kept = np.maximum(1, np.round(share * np.bincount(labels))).astype(int)
    return np.sort(order[_place_in_class(labels, order) < kept[labels[order]]])


def _by_class(labels: Labels, seed: int) -> NDArray[np.intp]:
    """Rows ordered by class, shuffled within each."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _place_in_class(labels: Labels, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,) 0, 1, 2 … within each class, along `order`."""
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    return np.arange(len(labels)) - starts[labels[order]]
