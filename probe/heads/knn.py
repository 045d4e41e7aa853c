"""k nearest neighbours, exact, cosine or Euclidean; k chosen on validation from one search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError, UsageError
from probe.heads.head import Features, FitOutcome, Floats, Labels, Samples, stack
from probe.heads.linear import scores

METRICS = ("cosine", "euclidean")
GRID = (1, 3, 5, 10, 20, 50, 100)
QUERY_BLOCK, TRAIN_BLOCK = 1024, 8192
"""Similarities held at a time: 32 MB, whatever the number of rows."""


@dataclass(frozen=True)
class KnnOptions:
    """How to choose neighbours.

    Attributes
    ----------
    k : numbers of neighbours to try.
    metric : ``"cosine"`` or ``"euclidean"``, on the features as stored.
    """

    k: tuple[int, ...] = GRID
    metric: Literal["cosine", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise FitError("k has to be at least one", expected="k >= 1", found=f"k = {self.k}")
        if self.metric not in METRICS:
            raise UsageError(f"there is no metric {self.metric!r}", expected="one of " + ", ".join(METRICS))


@dataclass(frozen=True)
class KnnHead:
    """Probabilities are the shares of the k nearest training rows; equal shares go to the lower class number.

    `points` (N, D) float32 (of unit length for cosine), `labels` (N,) int32.
    """

    name: ClassVar[str] = "knn"
    points: Floats
    labels: Labels
    classes: int
    k: int
    metric: str

    @property
    def width(self) -> int:
        return self.points.shape[1]

    def predict_proba(self, features: Features) -> Floats:
        found = neighbours(features, self.points, self.k, self.metric)
        return _shares(self.labels[found], self.classes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"points": self.points, "labels": self.labels}

    def meta(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width, "k": self.k, "metric": self.metric}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        points, labels = arrays["points"], arrays["labels"]
        classes, k, metric = int(meta["classes"]), int(meta["k"]), str(meta["metric"])
        if points.ndim != 2 or points.shape[1] != int(meta["width"]) or labels.shape != points.shape[:1]:
            raise ValueError(f"points {points.shape} and labels {labels.shape}")
        if metric not in METRICS or not 1 <= k <= len(points):
            raise ValueError(f"metric {metric!r}, k = {k}")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError("a label is out of range")
        return cls(points.astype(np.float32, copy=False), labels, classes, k, metric)


def fit(
    train: Samples, val: Samples | None, classes: int, options: KnnOptions, *, refit: bool = True
) -> FitOutcome:
    """k by validation accuracy, among equals by log-loss, then the smaller; one value needs no `val`."""
    candidates = sorted({min(k, len(train)) for k in options.k})
    if val is None:
        if len(candidates) > 1:
            raise FitError(
                "k cannot be chosen without a validation part",
                expected="a validation part, or one value of k",
                found=f"k = {candidates}",
            )
        return FitOutcome(_head(train, classes, candidates[0], options.metric), {"k": candidates[0]})
    points = _points(train.features, options.metric)
    nearest = train.labels[neighbours(val.features, points, candidates[-1], options.metric)]
    path, best, best_shares = [], (-1.0, 0.0), None
    for k in candidates:
        shares = _shares(nearest[:, :k], classes)
        accuracy, log_loss = scores(shares, val.labels)
        path.append({"k": k, "val_accuracy": accuracy, "val_log_loss": log_loss})
        if (accuracy, -log_loss) > best:
            best, best_shares, chosen = (accuracy, -log_loss), shares, k
    head = _head(stack(train, val) if refit else train, classes, chosen, options.metric)
    return FitOutcome(head, {"k": chosen, "metric": options.metric}, path, best_shares)


def neighbours(features: Features, points: Floats, k: int, metric: str) -> NDArray[np.intp]:
    """Rows (N, k) of the `points` nearest to each row of `features`, nearest first."""
    rows = features.shape[0]
    # Ranking by q·x − |x|²/2 is ranking by Euclidean distance; unit vectors need only q·x.
    halves = np.einsum("nd,nd->n", points, points) / 2 if metric == "euclidean" else None
    found = np.empty((rows, k), dtype=np.intp)
    for start in range(0, rows, QUERY_BLOCK):
        query = _points(features[start : start + QUERY_BLOCK], metric)
        found[start : start + QUERY_BLOCK] = _nearest(query, points, halves, k)
    return found


def _nearest(query: Floats, points: Floats, halves: Floats | None, k: int) -> NDArray[np.intp]:
    """The k best of one block of queries, keeping the best so far while the points go by."""
    best = np.full((len(query), 0), -np.inf, dtype=np.float32)
    rows = np.empty((len(query), 0), dtype=np.intp)
    for start in range(0, len(points), TRAIN_BLOCK):
        similarity = query @ points[start : start + TRAIN_BLOCK].T
        if halves is not None:
            similarity -= halves[start : start + TRAIN_BLOCK]
        values, columns = _top(similarity, k)
        best = np.hstack([best, values])
        rows = np.hstack([rows, columns + start])
        best, kept = _top(best, k)
        rows = np.take_along_axis(rows, kept, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def _top(values: Floats, k: int) -> tuple[Floats, NDArray[np.intp]]:
    """The k largest of each row, in any order, and their columns."""
    if values.shape[1] <= k:
        return values, np.broadcast_to(np.arange(values.shape[1]), values.shape)
    columns = np.argpartition(values, -k, axis=1)[:, -k:]
    return np.take_along_axis(values, columns, axis=1), columns


def _points(features: Features, metric: str) -> Floats:
    rows = np.asarray(features[0 : features.shape[0]], dtype=np.float32)
    if metric == "euclidean":
        return rows
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    unit: Floats = rows / np.maximum(length, np.finfo(np.float32).tiny)[:, None]
    return unit


def _head(samples: Samples, classes: int, k: int, metric: str) -> KnnHead:
    labels = np.asarray(samples.labels, dtype=np.int32)
    return KnnHead(_points(samples.features, metric), labels, classes, k, metric)


def _shares(labels: Labels, classes: int) -> Floats:
    """(N, k) labels of the neighbours -> (N, C) share of each class."""
    rows, k = labels.shape
    cells = (np.arange(rows)[:, None] * classes + labels).ravel()
    counts = np.bincount(cells, minlength=rows * classes).reshape(rows, classes)
    return (counts / k).astype(np.float32)
