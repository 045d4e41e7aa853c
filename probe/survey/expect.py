"""What accuracy a head will have once it is fitted on all images, from a part of them.

Heads change places: nearest neighbours are often behind ridge regression on few images and before it on many.
So each is cross-validated at two sizes, and its error is drawn on to the size of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import ChosenRows, HeadRow, Samples

if TYPE_CHECKING:
    from probe.survey.race import Candidate

FOLDS = 3
"""More are hardly better where the error is drawn on anyway, and each is two fits of every candidate."""

VALIDATION = 5
"""One unit in so many of those that a head is fitted on is for its choices."""


class Curve(NamedTuple):
    """Two numbers of images fitted on, and the cross-validated share of wrong answers at each."""

    few: float
    many: float
    error_at_few: float
    error_at_many: float


def folds_of(places: NDArray[np.intp], labels: NDArray[np.integer], folds: int) -> NDArray[np.intp]:
    """(n,) fold of each row of a race, -1 for the first unit of each class, which is always fitted on.

    `places` (n,) says where in the order of the race (`probe.survey.race.race_order`) a row's unit begins.
    As every beginning of that order has the classes in their shares, so has about every fold.
    """
    dealt = np.unique(places, return_inverse=True)[1] % folds
    first = np.full(int(labels.max()) + 1, places.max())
    np.minimum.at(first, labels, places)
    return np.where(np.isin(places, first), -1, dealt)


def learning_curve(row: HeadRow, samples: Samples, places: NDArray[np.intp]) -> Curve:
    """Of a head on some images of a race, each of which is judged; `places` as `folds_of` has them.

    Heads are fitted on all other folds, and on half of the units of those. FitError where one cannot be.
    """
    labels = np.unique(samples.labels, return_inverse=True)[1]
    folds = folds_of(places, labels, FOLDS)
    rounds = np.unique(places, return_inverse=True)[1] // FOLDS
    wrong, seen = np.zeros(2), np.zeros(2)
    for fold in range(FOLDS):
        for size, among in enumerate((rounds % 2 == 0, rounds >= 0)):
            fitted = (folds < 0) | (folds != fold) & among
            choosing = fitted & (folds >= 0) & (rounds // 2 % VALIDATION == 0)
            parts = (_part(samples, labels, where) for where in (fitted & ~choosing, choosing, folds == fold))
            train, val, held = parts
            head = row.fit(train, val, int(labels.max()) + 1).head
            wrong[size] += (head.predict_proba(held.features).argmax(axis=1) != held.labels).sum()
            seen[size] += fitted.sum() / FOLDS
    return Curve(*seen.tolist(), *(wrong / (folds >= 0).sum()).tolist())


def expected_accuracies(curves: Mapping[Candidate, Curve], whole: int) -> dict[Candidate, float]:
    """Of candidates fitted on `whole` images, from the curves of all that have seen the same images.

    An error is taken to be between what it is and what it would fall to as a power of the number of images:
    it does not fall for ever. The power is the same for all that have the same head, since that of one
    candidate on a few images is mostly chance, and never above 0.
    """
    found: dict[Candidate, float] = {}
    for name in {candidate.head for candidate in curves}:
        mine = {candidate: curve for candidate, curve in curves.items() if candidate.head == name}
        few, many, at_few, at_many = np.array(list(mine.values())).mean(axis=0).tolist()
        power = min(log(at_many / at_few) / log(many / few), 0.0) if at_few and at_many else 0.0
        left = (1 + max(whole / many, 1.0) ** power) / 2
        found |= {candidate: 1 - left * curve.error_at_many for candidate, curve in mine.items()}
    return found


def _part(samples: Samples, labels: NDArray[np.intp], where: NDArray[np.bool_]) -> Samples:
    rows = np.flatnonzero(where)
    units = None if samples.units is None else samples.units[rows]
    there = isinstance(samples.features, np.ndarray)
    features = samples.features[rows] if there else ChosenRows(samples.features, rows)
    return Samples(features, labels[rows], samples.map_shape, units=units)
