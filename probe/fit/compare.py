"""Two runs on the same test images: is the difference real?"""

from __future__ import annotations

from typing import Any

import numpy as np

from probe.errors import FitError
from probe.runs import Predictions, Run
from probe.stats.paired import Comparison, compare_predictions


def compare(a: Run, b: Run) -> Comparison:
    """Paired comparison of two runs' accuracy; FitError when they cannot be paired."""
    left, right = paired(a, b)
    return compare_predictions(left.correct, right.correct, name_a=a.name, name_b=b.name)


def paired(a: Run, b: Run) -> tuple[Predictions, Predictions]:
    """The test predictions of two runs on the images both have, in the same order.

    FitError when they share no test image, or disagree about a label or the classes.
    """
    if a.result["classes"] != b.result["classes"]:
        raise FitError(f"{a.name} and {b.name} have different classes and cannot be compared")
    left, right = a.predictions, b.predictions
    _, mine, theirs = np.intersect1d(left.ids, right.ids, assume_unique=True, return_indices=True)
    if not len(mine):
        raise FitError(
            f"{a.name} and {b.name} have no test image in common",
            hint="compare runs on the same data set and split",
        )
    if not np.array_equal(left.labels[mine], right.labels[theirs]):
        raise FitError(f"{a.name} and {b.name} disagree about the labels of the same images")
    return _take(left, mine), _take(right, theirs)


def _take(predictions: Predictions, rows: Any) -> Predictions:
    return Predictions(predictions.ids[rows], predictions.labels[rows], predictions.probabilities[rows])
