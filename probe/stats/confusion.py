"""Which classes are taken for which, and which single rows are wrong with conviction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.stats.clusters import share_interval
from probe.stats.intervals import wilson


@dataclass(frozen=True)
class ClassRow:
    """One class: rows, recall (with 95 % interval, by group where there are groups), precision and F1; None
    where undefined."""

    label: int
    n: int
    predicted: int
    recall: float | None
    recall_low: float
    recall_high: float
    precision: float | None
    f1: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ConfusedPair:
    """`count` of the rows of class `label` were predicted as `predicted`, `share` of that class."""

    label: int
    predicted: int
    count: int
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Mistake:
    """A wrong row: its number, true class, predicted class and the probability of the prediction."""

    row: int
    label: int
    predicted: int
    probability: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def confusion(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.intp]:
    """(C, C) counts: row the true class, column the predicted one."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def recall_intervals(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int, groups: NDArray[np.str_]
) -> list[tuple[float, float]]:
    """Per class the interval of its recall where rows (N,) come in groups."""
    mine = [labels == label for label in range(classes)]
    return [share_interval(predicted[rows] == labels[rows], groups[rows]) for rows in mine]


def per_class(
    matrix: NDArray[np.intp], intervals: Sequence[tuple[float, float]] | None = None
) -> list[ClassRow]:
    """One row per class of a confusion matrix (C, C); `intervals` of the recalls in place of Wilson's."""
    rows = []
    for label in range(len(matrix)):
        hits, n, called = (
            int(v) for v in (matrix[label, label], matrix[label].sum(), matrix[:, label].sum())
        )
        low, high = wilson(hits, n) if intervals is None else intervals[label]
        rows.append(
            ClassRow(
                label=label,
                n=n,
                predicted=called,
                recall=hits / n if n else None,
                recall_low=low,
                recall_high=high,
                precision=hits / called if called else None,
                f1=2 * hits / (n + called) if n + called else None,
            )
        )
    return rows


def most_confused(matrix: NDArray[np.intp], limit: int = 10) -> list[ConfusedPair]:
    """The off-diagonal cells with most rows, largest first."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    cells = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, errors.shape), strict=True)]
    return [
        ConfusedPair(i, j, int(errors[i, j]), float(errors[i, j] / matrix[i].sum()))
        for i, j in cells
        if errors[i, j]
    ]


def confident_mistakes(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], limit: int = 10
) -> list[Mistake]:
    """The wrong rows whose prediction had the highest probability, highest first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    order = wrong[np.argsort(-confidence, kind="stable")[:limit]]
    return [
        Mistake(int(row), int(labels[row]), int(predicted[row]), float(probabilities[row, predicted[row]]))
        for row in order
    ]
