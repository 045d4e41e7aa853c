"""Results on the same test images, row by row: is the difference real?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.runs.predictions import Predictions
from probe.runs.run import Run
from probe.stats.clusters import joined_groups, same_groups
from probe.stats.paired import Comparison, PairResult, compare_predictions, compare_several

LEAST_SHARED = 0.5
"""Share of each test set that must be in common: below it, what remains is neither's test set, and test
images of one are likely training images of the other."""


def compare(a: Run, b: Run) -> Comparison:
    """Paired comparison of two runs' accuracy; FitError when they cannot be paired."""
    left, right = paired([a, b])
    return compare_predictions(left.correct, right.correct, groups=left.groups, name_a=a.name, name_b=b.name)


def compare_all(runs: Sequence[Run]) -> list[PairResult]:
    """Every pair of several runs on the test images that all of them share, with Holm's correction."""
    sides = paired(runs)
    correct = {run.name: side.correct for run, side in zip(runs, sides, strict=True)}
    return compare_several(correct, groups=sides[0].groups)


def compared_on(runs: Sequence[Run]) -> list[str]:
    """Which images and groups a comparison of these runs rests on, one note each."""
    return pairing_notes([run.predictions for run in runs], [run.name for run in runs])


def paired(runs: Sequence[Run]) -> list[Predictions]:
    """The test predictions of two or more runs on the images all of them have, as `align`.

    Classes are matched by name, in the order of the first run. FitError where they are others.
    """
    first = runs[0]
    sides = []
    for run in runs:
        if sorted(run.record.classes) != sorted(first.record.classes):
            raise FitError(
                f"{first.name} and {run.name} have different classes and cannot be compared",
                expected=", ".join(first.record.classes),
                found=", ".join(run.record.classes),
            )
        sides.append(_in_order(run.predictions, run.record.classes, first.record.classes))
    return align(sides, [run.name for run in runs])


def pair_predictions(
    left: Predictions, right: Predictions, name_a: str, name_b: str
) -> tuple[Predictions, Predictions]:
    """`align` of two, which need not be runs on disk."""
    first, second = align([left, right], [name_a, name_b])
    return first, second


def align(sides: Sequence[Predictions], names: Sequence[str]) -> list[Predictions]:
    """Predictions of the same classes on the images that all of them have, in the same order.

    All of them get the same groups: those that any of them knows, matched by image. FitError when less than
    half of a test set is in common, or when they disagree about a label.
    """
    ids = reduce(np.intersect1d, [side.ids for side in sides])
    _check_shared(sides, names, len(ids))
    found = [_take(side, ids) for side in sides]
    for side, name in zip(found, names, strict=True):
        if not np.array_equal(side.labels, found[0].labels):
            wrong = int((side.labels != found[0].labels).sum())
            raise FitError(
                f"{names[0]} and {name} disagree about the labels of the same images",
                expected="one label for an image",
                found=f"{wrong:,} of {len(ids):,} images with two",
                hint="fit both on the same labels",
            )
    groups = joined_groups([side.groups for side in found if side.groups is not None])
    return [Predictions(ids, side.labels, side.probabilities, groups) for side in found]


def pairing_notes(sides: Sequence[Predictions], names: Sequence[str]) -> list[str]:
    """What a reader of the comparison of such predictions has to know: which images, and whose groups."""
    ids = reduce(np.intersect1d, [side.ids for side in sides])
    sizes = [len(side.ids) for side in sides]
    same = all(size == len(ids) for size in sizes)
    of = "" if same else f" of {' and '.join(f'{size:,}' for size in sizes)}"
    notes = [f"{len(ids):,}{of} test images in common"]
    known = [name for side, name in zip(sides, names, strict=True) if side.groups is not None]
    if 0 < len(known) < len(sides):
        notes.append(f"the groups are those of {' and '.join(known)}")
    groups = [taken for taken in (_take(side, ids).groups for side in sides) if taken is not None]
    if any(not same_groups(groups[0], other) for other in groups[1:]):
        notes.append(
            f"{' and '.join(known)} disagree about the groups: what one of them puts together is together"
        )
    return notes


def _check_shared(sides: Sequence[Predictions], names: Sequence[str], shared: int) -> None:
    if all(shared and shared >= LEAST_SHARED * len(side.ids) for side in sides):
        return
    sizes = " and ".join(f"{len(side.ids):,} of {name}" for side, name in zip(sides, names, strict=True))
    raise FitError(
        f"{' and '.join(names)} have {'too few test images' if shared else 'no test image'} in common",
        expected="at least half of each test set",
        found=f"{shared:,} images in common, out of {sizes}",
        hint="compare runs on the same data set and split",
    )


def _in_order(predictions: Predictions, classes: Sequence[str], wanted: Sequence[str]) -> Predictions:
    """The same predictions with classes numbered as in `wanted`."""
    if list(classes) == list(wanted):
        return predictions
    columns = np.array([classes.index(name) for name in wanted])
    places = np.argsort(columns).astype(np.int32)
    labels = np.where(predictions.labels < 0, -1, places[predictions.labels]).astype(np.int32)
    return Predictions(predictions.ids, labels, predictions.probabilities[:, columns], predictions.groups)


def _take(predictions: Predictions, ids: NDArray[np.str_]) -> Predictions:
    order = np.argsort(predictions.ids)
    rows = order[np.searchsorted(predictions.ids, ids, sorter=order)]
    groups = None if predictions.groups is None else predictions.groups[rows]
    return Predictions(ids, predictions.labels[rows], predictions.probabilities[rows], groups)
