"""Likely wrong labels, and classes that cannot be told apart, from probabilities of rows held out.

Confident learning (Northcutt, Jiang and Chuang 2021): a row speaks confidently for a class where its
probability reaches the mean that rows of this class have of it. As many rows are called suspect as speak for
another class than their own: of those that are predicted as another one, the rows with the lowest
probability of their own. cleanlab has this order as an option (``low_self_confidence``); by its default it
calls more rows suspect and finds fewer of the wrong ones (``python -m bench audit`` has both beside this).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.heads.crossval import CrossValidator
from probe.heads.draws import stratified_folds
from probe.heads.head import Features, Floats, Samples
from probe.stats.clusters import share_interval

Rows = NDArray[np.intp]
Labels = NDArray[np.integer]

FOLDS = 5
CLOSE = 1e-6
"""By so much a probability may miss the mean of its class."""
PAIRS = 50
"""Pairs of classes that are told the least apart, for which intervals are worked out."""


@dataclass(frozen=True)
class HeldOut:
    """What folds say of rows that they hold out.

    Attributes
    ----------
    probabilities : (N, C).
    labels : (N,) in 0 … C-1.
    judged : (C,) classes with rows in several folds: of others nothing can be said.
    """

    probabilities: Floats
    labels: Labels
    judged: NDArray[np.bool_]


def hold_out(features: Features, labels: Labels, classes: int, units: Rows, c: float, seed: int) -> HeldOut:
    """Logistic regression at C in folds that part no unit; rows (N,) of two classes and two units or more."""
    folds = stratified_folds(labels, min(FOLDS, len(np.unique(units))), seed, units)
    samples = Samples(features, labels, units=units)
    probabilities = CrossValidator(samples, classes, folds).held_out(c)
    in_folds = np.unique(np.stack([labels, folds]), axis=1)[0]
    return HeldOut(probabilities, labels, np.bincount(in_folds, minlength=classes) > 1)


def suspect_labels(probabilities: Floats, labels: Labels, judged: NDArray[np.bool_] | None = None) -> Rows:
    """Rows whose label is likely wrong, the likeliest first.

    Parameters
    ----------
    probabilities : (N, C) of rows held out.
    labels : (N,) in 0 … C-1.
    judged : (C,) classes that anything can be said of; all where it is not given.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    means = np.bincount(labels, own, classes) / np.maximum(counts, 1)
    known = (counts > 0) & (True if judged is None else judged)
    confident = (probabilities >= means.astype(np.float32) - CLOSE) & known
    spoken = np.where(confident, probabilities, -1).argmax(axis=1)
    other = int((confident.any(axis=1) & (spoken != labels) & known[labels]).sum())
    open_ = np.flatnonzero((probabilities.argmax(axis=1) != labels) & known[labels])
    found: Rows = open_[np.argsort(own[open_], kind="stable")[:other]]
    return found


@dataclass(frozen=True)
class Told:
    """How far two classes are told apart: `share` of pictures of the two that are called the right one of
    them, the mean of both classes, with its 95 % interval. 0.5 is what guessing has."""

    first: int
    second: int
    share: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Whether it is shown that they are told apart at all."""
        return self.low > 0.5


def told_apart(held: HeldOut, groups: NDArray[np.str_] | None) -> list[Told]:
    """The pairs of classes that are told apart least, the worst first.

    Between two classes the one of the larger probability is taken, whatever third class has a larger one.
    """
    right = _pairwise(held)
    both = np.triu((right + right.T) / 2, 1)
    usable = np.triu(held.judged[:, None] & held.judged[None, :], 1)
    first, second = np.nonzero(usable)
    order = np.argsort(both[first, second], kind="stable")[:PAIRS]
    return [_told(held, groups, a, b) for a, b in zip(first[order], second[order], strict=True)]


def _pairwise(held: HeldOut) -> Floats:
    """(C, C) share of the rows of a class whose probability of it is larger than of another, by column."""
    classes = held.probabilities.shape[1]
    right = np.ones((classes, classes), np.float32)
    for label in np.flatnonzero(held.judged).tolist():
        mine = held.probabilities[held.labels == label]
        right[label] = (mine[:, [label]] > mine).mean(axis=0)
    return right


def _told(held: HeldOut, groups: NDArray[np.str_] | None, a: int, b: int) -> Told:
    """Newcombe's interval (1998, method 10) of the sum of two shares, halved."""
    shares, below, above = [], 0.0, 0.0
    for label, other in ((a, b), (b, a)):
        rows = held.labels == label
        right = held.probabilities[rows, label] > held.probabilities[rows, other]
        low, high = share_interval(right, None if groups is None else groups[rows])
        shares.append(float(right.mean()))
        below, above = below + (shares[-1] - low) ** 2, above + (high - shares[-1]) ** 2
    mean = sum(shares) / 2
    return Told(int(a), int(b), mean, mean - below**0.5 / 2, mean + above**0.5 / 2)
