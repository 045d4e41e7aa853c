"""The softmax loss of B problems on shared rows: in memory, or streamed from rows that do not fit.

Both answer the same three questions along a search direction: the loss, its slope, and its gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, Labels, blocks
from probe.heads.rotation import Rotation
from probe.heads.standardise import standardised

Float64s = NDArray[np.float64]

LOGITS = 1 << 26
"""Logits that are kept in memory, a few times over; with more, rows are streamed."""
BLOCK_LOGITS = 1 << 22
"""Logits of a block of streamed rows."""


@dataclass(frozen=True)
class Look:
    """What was seen at one point: loss (B,), and either its derivative by the logits (N, B, C), or its
    gradient (R, B, C) and each class's mean p(1 − p) (B, C)."""

    loss: Float64s
    residual: Floats | None = None
    gradient: Floats | None = None
    spread: Floats | None = None


class SoftmaxLoss(Protocol):
    """Weighted mean loss of coefficients (R, B, C), intercept in the last row.

    `total` (B,) sums the row weights, `priors` (B, C) are the weighted class frequencies, `variance` (R,) is
    that of each column of the inputs. `lines_are_free` says that looking along marked points costs little.
    """

    lines_are_free: bool
    classes: int
    total: Float64s
    priors: Floats
    variance: Floats

    def reset(self, intercept: Floats) -> None:
        """Go to zero coefficients with this intercept (B, C)."""
        ...

    def mark(self) -> None:
        """Remember this point for `aim_on`; the last three are kept."""
        ...

    def aim(self, direction: Floats) -> None:
        """Prepare to look along a direction (R, B, C)."""
        ...

    def aim_on(self, order: int) -> None:
        """As `aim`, for the first or second difference of the marked points."""
        ...

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        """What is `step` (B,) along the direction aimed at."""
        ...

    def accept(self, step: Float64s) -> None:
        """Go there."""
        ...

    def slope(self, look: Look, direction: Floats) -> Float64s:
        """Slope (B,) of the loss, where it was looked at, along the direction aimed at."""
        ...

    def gradient(self, look: Look) -> Floats: ...

    def spread(self, look: Look) -> Floats: ...


class MemoryLoss:
    """Keeps the logits, which are linear in the coefficients: looking along a line costs no matrix product.

    Parameters
    ----------
    inputs : (N, R) float32, columns near uncorrelated, the last one all ones for the intercept.
    labels : (N,) in 0 … C-1.
    weights : (N, B) weight of each row in each problem, by default one problem of ones.
    """

    lines_are_free = True

    def __init__(self, inputs: Floats, labels: Labels, classes: int, weights: Floats | None = None) -> None:
        self.inputs = inputs
        self.labels = np.asarray(labels, dtype=np.intp)
        self.classes = classes
        self.total, self.weights = _normalised(weights, len(inputs))
        self.priors = _priors(self.labels, self.weights, classes)
        self.variance = np.einsum("nr,nr->r", inputs, inputs) / np.float32(len(inputs))
        self.reset(np.zeros_like(self.priors))

    def reset(self, intercept: Floats) -> None:
        self.logits = np.tile(intercept, (len(self.labels), 1, 1))
        self._along = self.logits
        self._marks = deque([self.logits], maxlen=3)

    def mark(self) -> None:
        self._marks.append(self.logits)

    def aim(self, direction: Floats) -> None:
        self._along = (self.inputs @ direction.reshape(len(direction), -1)).reshape(self.logits.shape)

    def aim_on(self, order: int) -> None:
        self._along = difference(self._marks, order)

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        loss, residual = softmax_residual(self._logits_at(step), self.labels, self.weights)
        return Look(loss, residual=residual)

    def slope(self, look: Look, direction: Floats) -> Float64s:
        assert look.residual is not None
        return dots(look.residual, self._along)

    def accept(self, step: Float64s) -> None:
        self.logits = self._logits_at(step)

    def _logits_at(self, step: Float64s) -> Floats:
        logits: Floats = self._along * step.astype(np.float32)[:, None]
        logits += self.logits
        return logits

    def gradient(self, look: Look) -> Floats:
        assert look.residual is not None
        flat = self.inputs.T @ look.residual.reshape(len(look.residual), -1)
        return flat.reshape(-1, *self.logits.shape[1:])

    def spread(self, look: Look) -> Floats:
        assert look.residual is not None
        return class_spread(look.residual, self.weights)


class StreamedLoss:
    """Reads the features block by block, one pass for every look; memory does not grow with N × D or N × C.

    The rotation is applied to the coefficients, not to the rows: D × R × C instead of N × D × R a pass.
    """

    lines_are_free = False

    def __init__(
        self,
        features: Features,
        rotation: Rotation,
        labels: Labels,
        classes: int,
        weights: Floats | None = None,
    ) -> None:
        self.features = features
        self.rotation = rotation
        self.labels = np.asarray(labels, dtype=np.intp)
        self.classes = classes
        self.total, self.weights = _normalised(weights, len(self.labels))
        self.priors = _priors(self.labels, self.weights, classes)
        self.variance = np.append(rotation.variance, np.float32(1))

    def reset(self, intercept: Floats) -> None:
        """Nothing is kept between looks."""

    def mark(self) -> None:
        """Nothing is kept between looks."""

    def aim(self, direction: Floats) -> None:
        """Nothing is kept between looks."""

    def aim_on(self, order: int) -> None:
        """Nothing is kept between looks."""

    def accept(self, step: Float64s) -> None:
        """Nothing is kept between looks."""

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        there = coefficients + direction * step.astype(np.float32)[:, None]
        problems = there.shape[1]
        flat = there.reshape(len(there), -1)
        weights, bias = self.rotation.axes @ flat[:-1], flat[-1]
        loss = np.zeros(problems)
        spread = np.zeros((problems, self.classes), dtype=np.float32)
        by_weights, by_bias = np.zeros_like(weights), np.zeros_like(bias)
        for rows, block in self._blocks(problems):
            logits = (block @ weights + bias).reshape(len(block), problems, self.classes)
            block_loss, residual = softmax_residual(logits, self.labels[rows], self.weights[rows])
            loss += block_loss
            spread += class_spread(residual, self.weights[rows])
            residual = residual.reshape(len(block), -1)
            by_weights += block.T @ residual
            by_bias += residual.sum(axis=0)
        gradient = np.vstack([self.rotation.axes.T @ by_weights, by_bias]).reshape(there.shape)
        return Look(loss, gradient=gradient, spread=spread)

    def _blocks(self, problems: int) -> Iterator[tuple[slice, Floats]]:
        """Standardised rows, so few at a time that their logits of all problems are few as well."""
        step = max(64, BLOCK_LOGITS // (problems * self.classes))
        for rows, values in blocks(self.features):
            for start in range(0, len(values), step):
                part = standardised(values[start : start + step], self.rotation.mean, self.rotation.scale)
                yield slice(rows.start + start, rows.start + start + len(part)), part

    def slope(self, look: Look, direction: Floats) -> Float64s:
        return dots(self.gradient(look), direction)

    def gradient(self, look: Look) -> Floats:
        assert look.gradient is not None
        return look.gradient

    def spread(self, look: Look) -> Floats:
        assert look.spread is not None
        return look.spread


def softmax_residual(logits: Floats, labels: Labels, weights: Floats) -> tuple[Float64s, Floats]:
    """Weighted loss (B,) of logits (N, B, C), and its derivative by them (N, B, C)."""
    at_label = np.arange(len(logits))[:, None], np.arange(logits.shape[1])[None, :], labels[:, None]
    residual = logits - logits.max(axis=2, keepdims=True)
    own = residual[at_label]
    np.exp(residual, out=residual)
    # p − 1 and log p of the true class cancel where p is near one; the share of the others does not.
    true = residual[at_label]
    residual[at_label] = 0.0
    others = residual.sum(axis=2)
    losses = np.log1p(others + (true - 1)) - own
    factors = weights / (others + true)
    residual *= factors[:, :, None]
    residual[at_label] = -others * factors
    return np.einsum("nb,nb->b", weights, losses, dtype=np.float64), residual


def class_spread(residual: Floats, weights: Floats) -> Floats:
    """Weighted sum over rows of p(1 − p), (B, C)."""
    # |residual| / weight is p, or 1 − p for the true class: p(1 − p) is the same either way.
    inverse = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
    squares = np.einsum("nbc,nbc,nb->bc", residual, residual, inverse)
    spread: Floats = np.abs(residual).sum(axis=0) - squares
    return spread


def dots(a: Floats, b: Floats) -> Float64s:
    """(B,) inner products of two (…, B, C) arrays, one per problem."""
    if a.shape[1] == 1:
        return np.array([np.vdot(a, b)], dtype=np.float64)
    return np.einsum("rbc,rbc->b", a, b).astype(np.float64)


def difference(marks: Sequence[Floats], order: int) -> Floats:
    """First or second difference of the last points of a sequence."""
    change = marks[-1] - marks[-2]
    if order == 2:
        change -= marks[-2] - marks[-3]
    return change


def _priors(labels: Labels, weights: Floats, classes: int) -> Floats:
    """Weighted frequency (B, C) of each class."""
    counts = [np.bincount(labels, weights=column, minlength=classes) for column in weights.T]
    return np.array(counts, dtype=np.float32)


def _normalised(weights: Floats | None, rows: int) -> tuple[Float64s, Floats]:
    """Sums (B,) of the row weights, and the weights (N, B) divided by them."""
    if weights is None:
        weights = np.ones((rows, 1), dtype=np.float32)
    total = weights.sum(axis=0, dtype=np.float64)
    return total, (weights / total).astype(np.float32)
