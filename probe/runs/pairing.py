"""Runs on the same test images, row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.runs.run import Predictions, Run


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
    return _align(run.predictions, other.predictions, ids, f"{run.name} and {other.name}")


def pair_predictions(
    left: Predictions, right: Predictions, name_a: str, name_b: str
) -> tuple[Predictions, Predictions]:
    """As `paired`, for predictions of the same classes that need not be those of a run on disk."""
    ids = np.intersect1d(left.ids, right.ids)
    names = f"{name_a} and {name_b}"
    return _align(left, right, ids, names), _align(right, left, ids, names)


def _align(mine: Predictions, other: Predictions, ids: NDArray[np.str_], names: str) -> Predictions:
    if not len(ids):
        raise FitError(
            f"{names} have no test image in common", hint="compare runs on the same data set and split"
        )
    found, theirs = _take(mine, ids), _take(other, ids)
    if not np.array_equal(found.labels, theirs.labels):
        raise FitError(f"{names} disagree about the labels of the same images")
    return found


def _take(predictions: Predictions, ids: NDArray[np.str_]) -> Predictions:
    order = np.argsort(predictions.ids)
    rows = order[np.searchsorted(predictions.ids, ids, sorter=order)]
    groups = None if predictions.groups is None else predictions.groups[rows]
    return Predictions(ids, predictions.labels[rows], predictions.probabilities[rows], groups)
