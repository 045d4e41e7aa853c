"""What a set of predicted probabilities is worth against the true labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.stats.clusters import share_interval
from probe.units import count_groups, group_codes

ECE_BINS = 15
TINY = 1e-15
BLOCK_VALUES = 1 << 22
"""Probabilities that are compared or sorted at a time."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one classifier on `n` labelled rows. Rates are fractions in [0, 1].

    Attributes
    ----------
    accuracy, accuracy_low, accuracy_high : top-1 with its 95 % interval: Wilson's, or by group where rows
        come in groups (`probe.stats.clusters`).
    groups : how many groups the rows come in, a row in none being one; None for rows that are independent.
    top5 : the true class is among the five most probable; 1.0 by definition when C <= 5.
    balanced_accuracy : mean recall over the classes that occur in the labels (mean per class).
    macro_f1 : mean F1 over the classes that occur in the labels or in the predictions.
    log_loss : mean negative log-likelihood, nats; probabilities are floored at 1e-15.
    ece : expected calibration error of the top-1 probability, 15 equal-width bins (Guo et al. 2017).
    auc : area under the ROC curve, one-vs-rest and averaged over the classes that occur when C > 2; None
        when fewer than two classes occur.
    absent_classes : classes without a row; no per-class figure counts them.
    """

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    top5: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    ece: float
    auc: float | None
    absent_classes: tuple[int, ...] = ()
    groups: int | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return self.accuracy_low, self.accuracy_high

    @property
    def interval_method(self) -> str:
        """How it was made."""
        return "Wilson" if self.groups is None else "clustered by group"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "absent_classes": list(self.absent_classes), "interval": self.interval_method}


def evaluate(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.str_] | None = None,
) -> Metrics:
    """All figures of `Metrics` for probabilities (N, C) and labels (N,); DataError on bad input.

    `groups` (N,) names what rows belong to, "" for a row of its own.
    """
    check_predictions(probabilities, labels)

    n, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    if not count_groups(groups):
        groups = None
    low, high = share_interval(right, groups)
    counts = np.bincount(labels, minlength=classes)
    present = np.flatnonzero(counts)
    recalls = np.bincount(labels[right], minlength=classes)[present] / counts[present]
    return Metrics(
        n=n,
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        top5=top_k_accuracy(probabilities, labels, 5),
        balanced_accuracy=float(recalls.mean()),
        macro_f1=macro_f1(predicted, labels, classes),
        log_loss=log_loss(probabilities, labels),
        ece=expected_calibration_error(probabilities, labels),
        auc=roc_auc(probabilities, labels),
        absent_classes=tuple(int(c) for c in np.flatnonzero(counts == 0)),
        groups=None if groups is None else int(group_codes(groups).max()) + 1,
    )


def check_predictions(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """DataError unless probabilities are finite (N, C) and labels (N,) lie in 0 … C-1, N > 0."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise DataError(
            "predictions and labels do not belong together",
            expected="probabilities (N, C) and labels (N,)",
            found=f"{probabilities.shape} and {labels.shape}",
        )
    if len(labels) == 0:
        raise DataError("there is nothing to score", expected="at least one labelled row", found="0 rows")
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise DataError(
            "predictions are not numbers", expected="finite probabilities", found=f"{bad} bad rows"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise DataError(
            "a label has no column among the predictions",
            expected=f"labels in 0 … {probabilities.shape[1] - 1}",
            found=f"labels in {labels.min()} … {labels.max()}",
        )


def top_k_accuracy(probabilities: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> float:
    """Fraction of rows whose true class is among the `k` most probable; ties go to the lower class number."""
    classes = probabilities.shape[1]
    if classes <= k:
        return 1.0
    within = 0
    for rows in _row_blocks(probabilities):
        some, truth = probabilities[rows], labels[rows, None]
        own = np.take_along_axis(some, truth, axis=1)
        ahead = (some > own) | ((some == own) & (np.arange(classes) < truth))
        within += int((ahead.sum(axis=1) < k).sum())
    return within / len(labels)


def macro_f1(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> float:
    """F1 = 2·hits / (rows + predictions) of each class that has either, and their mean."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    either = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def log_loss(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean negative log of the probability (N, C) given to the true class, nats."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # Subtracted, not negated: a loss of zero is no -0.0.
    return float(0.0 - np.log(np.clip(own, TINY, 1.0)).mean())


def binned_confidence(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = ECE_BINS
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]]:
    """Of every row the top-1 probability, whether it is right, and its equal-width bin, all (N,).

    Bin b holds the probabilities in (b / bins, (b + 1) / bins].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    return confidence, right, np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = ECE_BINS
) -> float:
    """|confidence − accuracy| of the top-1 prediction over equal-width bins, weighted by their rows."""
    confidence, right, which = binned_confidence(probabilities, labels, bins)
    gap = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def roc_auc(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Area under the ROC curve as `Metrics.auc` defines it; None when fewer than two classes occur.

    It is the share of pairs of a row of the class and another that are in the right order, equal ones
    counting half (Hanley & McNeil 1982), which one sort a class tells.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return None
    if probabilities.shape[1] == 2:
        present = present[-1:]
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    areas = []
    step = max(1, BLOCK_VALUES // len(labels))
    for start in range(0, len(present), step):
        some = present[start : start + step]
        columns = np.ascontiguousarray(probabilities[:, some].T)
        own = [columns[place, by_class[label]] for place, label in enumerate(some)]
        columns.sort(axis=1)
        areas += [_area(column, scores) for column, scores in zip(columns, own, strict=True)]
    return math.fsum(areas) / len(areas)


def _area(column: NDArray[np.floating], own: NDArray[np.floating]) -> float:
    """Of all scores (N,), sorted, and those of the rows of the class, in any order."""
    own = np.sort(own)
    # Twice the rank of each, which is the mean of the ranks of its equals: whole numbers, hence exact.
    twice = np.searchsorted(column, own, "left") + np.searchsorted(column, own, "right") + 1
    positive, others = len(own), len(column) - len(own)
    return (int(twice.sum()) - positive * (positive + 1)) / (2 * positive * others)


def _row_blocks(probabilities: NDArray[np.floating]) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // probabilities.shape[1])
    return (slice(start, start + step) for start in range(0, len(probabilities), step))
