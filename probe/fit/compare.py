"""Two runs on the same test images: is the difference real?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.runs import Predictions, Run
from probe.stats.paired import Comparison, PairResult, compare_predictions, compare_several


def compare(a: Run, b: Run) -> Comparison:
    """Paired comparison of two runs' accuracy; FitError when they cannot be paired."""
    left, right = paired(a, b)
    return compare_predictions(left.correct, right.correct, name_a=a.name, name_b=b.name)


def compare_all(runs: Sequence[Run]) -> list[PairResult]:
    """Every pair of several runs on the test images that all of them share, with Holm's correction."""
    ids = reduce(np.intersect1d, [run.predictions.ids for run in runs])
    aligned = {run.name: align(run, runs[0], ids) for run in runs}
    return compare_several({name: predictions.correct for name, predictions in aligned.items()})


def paired(a: Run, b: Run) -> tuple[Predictions, Predictions]:
    """The test predictions of two runs on the images both have, in the same order; FitError as `align`."""
    ids = np.intersect1d(a.predictions.ids, b.predictions.ids)
    return align(a, b, ids), align(b, a, ids)


def align(run: Run, other: Run, ids: NDArray[np.str_]) -> Predictions:
    """The predictions of `run` on `ids`, which both runs have.

    FitError when there is no such image, or the runs disagree about a label or the classes.
    """
    if run.result["classes"] != other.result["classes"]:
        raise FitError(f"{run.name} and {other.name} have different classes and cannot be compared")
    if not len(ids):
        raise FitError(
            f"{run.name} and {other.name} have no test image in common",
            hint="compare runs on the same data set and split",
        )
    mine, theirs = _take(run.predictions, ids), _take(other.predictions, ids)
    if not np.array_equal(mine.labels, theirs.labels):
        raise FitError(f"{run.name} and {other.name} disagree about the labels of the same images")
    return mine


def _take(predictions: Predictions, ids: NDArray[np.str_]) -> Predictions:
    order = np.argsort(predictions.ids)
    rows = order[np.searchsorted(predictions.ids, ids, sorter=order)]
    return Predictions(ids, predictions.labels[rows], predictions.probabilities[rows])
