"""k nearest neighbours, exact, cosine or Euclidean; k chosen on validation from one search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError, FitOptionError, UsageError
from probe.heads.head import (
    Features,
    FitOutcome,
    FitSize,
    Floats,
    Labels,
    Samples,
    beyond_base,
    blocks,
    stack,
)
from probe.heads.linear import scores
from probe.heads.neighbours import METRICS, NeighbourSearch
from probe.heads.standardise import constant_columns, constant_note, moments, standardised

GRID = (1, 3, 5, 10, 20, 50, 100)
FOUND = 16
"""Bytes of a neighbour: its row and its label."""
SHARES = 1 << 22
"""Shares of classes counted at a time."""

Moments = tuple[Floats, Floats] | None
"""Mean and spread (D,) that features are standardised with; None where they stay as they are."""


@dataclass(frozen=True)
class KnnOptions:
    """How to choose neighbours.

    Attributes
    ----------
    k : numbers of neighbours to try.
    metric : ``"cosine"`` or ``"euclidean"``.
    standardise : bring the features to mean 0 and deviation 1 first; otherwise distances are between the
        features as stored.
    """

    k: tuple[int, ...] = GRID
    metric: Literal["cosine", "euclidean"] = "cosine"
    standardise: bool = False

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise FitOptionError("k has to be at least one", expected="k >= 1", found=f"k = {self.k}")
        if self.metric not in METRICS:
            raise UsageError(f"there is no metric {self.metric!r}", expected="one of " + ", ".join(METRICS))


@dataclass(frozen=True)
class KnnHead:
    """Probabilities are the shares of the k nearest training rows; equal shares go to the lower class number.

    Among rows at equal distance those that come first in the training part are the nearer ones, whatever k.
    `points` (N, D) float32, `labels` (N,) int32; with `moments` the points are standardised features.
    """

    name: ClassVar[str] = "knn"
    points: Floats
    labels: Labels
    classes: int
    k: int
    metric: str
    moments: Moments = None

    @property
    def width(self) -> int:
        return self.points.shape[1]

    def predict_proba(self, features: Features) -> Floats:
        return _shares(self.labels[_find(self._search, features, self.k, self.moments)], self.classes)

    @cached_property
    def _search(self) -> NeighbourSearch:
        return NeighbourSearch(self.points, self.metric)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {"points": self.points, "labels": self.labels}
        return found if self.moments is None else {**found, "mean": self.moments[0], "scale": self.moments[1]}

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
        known = (arrays["mean"], arrays["scale"]) if "mean" in arrays else None
        if known is not None and {part.shape for part in known} != {points.shape[1:]}:
            raise ValueError(f"mean {known[0].shape} and scale {known[1].shape}")
        return cls(points.astype(np.float32, copy=False), labels, classes, k, metric, known)


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
        head = _head(train, classes, candidates[0], options)
        return FitOutcome(head, _facts(head.k, options), notes=_constant(head.points, head.moments))
    known = _moments(train, options)
    points = _points(train, known)
    search = NeighbourSearch(points, options.metric)
    asked = (val.features, *val.views)
    nearest = [train.labels[_find(search, features, candidates[-1], known)] for features in asked]
    notes = _constant(points, known)
    # The search holds a copy of the points, and the head is to make its own.
    del search, points
    path, best, best_shares = [], (-1.0, 0.0), None
    for k in candidates:
        shares: Floats = np.stack([_shares(labels[:, :k], classes) for labels in nearest]).mean(axis=0)
        accuracy, log_loss = scores(shares, val.labels)
        path.append({"k": k, "val_accuracy": accuracy, "val_log_loss": log_loss})
        if (accuracy, -log_loss) > best:
            best, best_shares, chosen = (accuracy, -log_loss), shares, k
    head = _head(stack(train, val) if refit else train, classes, chosen, options)
    used_for = "choose k" if len(candidates) > 1 else ""
    return FitOutcome(head, _facts(chosen, options), path, best_shares, notes, val_used_for=used_for)


def held_bytes(size: FitSize, options: KnnOptions, *, in_memory: bool) -> int:
    """The points, unless they are the features, once more as the search compares them, and what it finds."""
    copies = 1 if in_memory and not options.standardise else 2
    found = beyond_base(FOUND * max(options.k) * max(size.val, size.test))
    return copies * 4 * size.fitted * size.width + found


def _head(samples: Samples, classes: int, k: int, options: KnnOptions) -> KnnHead:
    known = _moments(samples, options)
    labels = np.asarray(samples.labels, dtype=np.int32)
    return KnnHead(_points(samples, known), labels, classes, k, options.metric, known)


def _facts(k: int, options: KnnOptions) -> dict[str, Any]:
    return {"k": k, "metric": options.metric, "standardise": options.standardise}


def _moments(samples: Samples, options: KnnOptions) -> Moments:
    return moments(samples.features) if options.standardise else None


def _find(search: NeighbourSearch, features: Features, k: int, known: Moments) -> NDArray[np.intp]:
    """Rows (Q, k) of the points nearest to each row of `features` (Q, D) as they are stored."""
    if known is None:
        return search.find(features, k)
    found = np.empty((features.shape[0], k), dtype=np.intp)
    for rows, block in blocks(features):
        found[rows] = search.find(standardised(block, *known), k)
    return found


def _constant(points: Floats, known: Moments) -> tuple[str, ...]:
    """As stored they stay as they are: no Euclidean distance rests on them, and cosine knows them."""
    if known is not None:
        return constant_columns(known[1])
    varies = np.zeros(points.shape[1], dtype=bool)
    for _, block in blocks(points):
        varies |= (block != points[0]).any(axis=0)
    return constant_note(int((~varies).sum()), len(varies))


def _points(samples: Samples, known: Moments) -> Floats:
    """All features in memory, which are the model."""
    points = np.asarray(samples.features[0 : len(samples)], dtype=np.float32)
    return points if known is None else standardised(points, *known)


def _shares(labels: Labels, classes: int) -> Floats:
    """(N, k) labels of the neighbours -> (N, C) share of each class."""
    rows, k = labels.shape
    shares = np.empty((rows, classes), dtype=np.float32)
    step = max(1, SHARES // classes)
    for start in range(0, rows, step):
        some = labels[start : start + step]
        cells = (np.arange(len(some))[:, None] * classes + some).ravel()
        counts = np.bincount(cells, minlength=len(some) * classes).reshape(len(some), classes)
        shares[start : start + step] = counts / k
    return shares
