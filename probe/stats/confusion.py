"""Which classes are taken for which, and which single rows are wrong with conviction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ConfusedPair:
    """`count` of the rows of class `label` were predicted as `predicted`, `share` of that class."""

    label: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A wrong row: its number, true class, predicted class and the probability of the prediction."""

    row: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Confusion:
    """The cells of a confusion matrix (C, C) that have rows: true class, predicted class, rows, all (P,).

    As an array it is the whole matrix, row the true class, column the predicted one; with thousands of
    classes that is a gigabyte of zeros.
    """

    classes: int
    labels: NDArray[np.intp]
    predicted: NDArray[np.intp]
    counts: NDArray[np.intp]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        matrix = np.zeros((self.classes, self.classes), dtype=dtype or np.intp)
        matrix[self.labels, self.predicted] = self.counts
        return matrix

    def rows(self) -> NDArray[np.intp]:
        """(C,) rows of each class."""
        return self._sums(self.labels, self.counts)

    def called(self) -> NDArray[np.intp]:
        """(C,) predictions of each class."""
        return self._sums(self.predicted, self.counts)

    def hits(self) -> NDArray[np.intp]:
        """(C,) rows of each class that were predicted as it."""
        return self._sums(self.labels, np.where(self.labels == self.predicted, self.counts, 0))

    def _sums(self, which: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.intp]:
        sums = np.zeros(self.classes, dtype=np.intp)
        np.add.at(sums, which, counts)
        return sums


def confusion(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> Confusion:
    """Which classes (N,) were predicted for rows of which."""
    cells, counts = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
    return Confusion(classes, cells // classes, cells % classes, counts)


def recall_intervals(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int, groups: NDArray[np.str_]
) -> list[tuple[float, float]]:
    """Per class the interval of its recall where rows (N,) come in groups."""
    ends = np.cumsum(np.bincount(labels, minlength=classes))
    mine = np.split(np.argsort(labels, kind="stable"), ends[:-1])
    return [share_interval(predicted[rows] == labels[rows], groups[rows]) for rows in mine]


def per_class(matrix: Confusion, intervals: Sequence[tuple[float, float]] | None = None) -> list[ClassRow]:
    """One row per class; `intervals` of the recalls in place of Wilson's."""
    rows = []
    totals = zip(matrix.hits().tolist(), matrix.rows().tolist(), matrix.called().tolist(), strict=True)
    for label, (hits, n, called) in enumerate(totals):
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


def most_confused(matrix: Confusion, limit: int = 10) -> list[ConfusedPair]:
    """The pairs of unlike classes with most rows, largest first, then by class number."""
    wrong = np.flatnonzero(matrix.labels != matrix.predicted)
    order = wrong[np.argsort(-matrix.counts[wrong], kind="stable")[:limit]]
    rows = matrix.rows()
    return [
        ConfusedPair(label, predicted, count, count / int(rows[label]))
        for label, predicted, count in zip(
            matrix.labels[order].tolist(),
            matrix.predicted[order].tolist(),
            matrix.counts[order].tolist(),
            strict=True,
        )
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
