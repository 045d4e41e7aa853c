"""Multinomial logistic regression with its regularisation path; C is chosen on validation.

The objective is scikit-learn's: C·Σ loss + ½‖W‖², the penalty on the weights of *standardised* features (mean
and spread of the training rows only), the intercept unpenalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from probe.errors import FitError, UsageError
from probe.heads.head import FitOutcome, Floats, Labels, Samples, stack
from probe.heads.linear import LinearHead, softmax
from probe.heads.rotation import Rotation
from probe.heads.softmax_loss import MemoryLoss, SoftmaxLoss, StreamedLoss
from probe.heads.softmax_path import TOLERANCE, SoftmaxPath

GRID = tuple(float(c) for c in np.logspace(-6, 2, 45))
STRIDE = 4
"""The bracketed search first looks at every fourth value of the grid, then at those around the best."""


@dataclass(frozen=True)
class LogregOptions:
    """How to fit logistic regression.

    Attributes
    ----------
    c : values of C to try, every one of them; empty for a bracketed search over 45 values from 1e-6 to 1e2.
    full_path : try every one of the 45 values instead of searching.
    class_weight : ``"balanced"`` weights each row by N / (C · rows of its class); None weights all alike.
    tolerance : relative distance to the minimum at which a fit counts as converged.
    """

    c: tuple[float, ...] = ()
    full_path: bool = False
    class_weight: str | None = None
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        wrong = [c for c in self.c if not 0 < c < float("inf")]
        if wrong:
            raise FitError("C has to be a positive number", expected="C > 0", found=f"C = {wrong[0]:g}")
        if self.class_weight not in (None, "balanced"):
            raise UsageError(
                "there is no such class weight", expected="balanced or none", found=str(self.class_weight)
            )


@dataclass(frozen=True)
class LogregHead(LinearHead):
    name: ClassVar[str] = "logreg"


@dataclass(frozen=True)
class Candidate:
    """One value of C and what it scored on validation."""

    c: float
    accuracy: float
    log_loss: float
    converged: bool
    row: dict[str, Any]
    coefficients: Floats
    probabilities: Floats

    @property
    def rank(self) -> tuple[float, float]:
        """Most accurate first; among equals the lower log-loss."""
        return self.accuracy, -self.log_loss


def fit(
    train: Samples, val: Samples | None, classes: int, options: LogregOptions, *, refit: bool = True
) -> FitOutcome:
    """Fit the path on `train`, choose C on `val`, refit on both.

    The rule: highest validation accuracy, among equals lowest validation log-loss, among equals the C tried
    first (the smaller). Without `val` exactly one value of C must be given.
    """
    if val is None:
        return _fit_single(train, classes, options)
    rotation = Rotation.of(train.features)
    path = _path(rotation, train, classes, options)
    predict = _predictor(rotation, val)

    def score(c: float) -> Candidate:
        solution = path.solve(c)
        coefficients = solution.coefficients[:, 0]
        probabilities = predict(coefficients)
        accuracy, loss = _scores(probabilities, val.labels)
        row = {
            "c": c,
            "val_accuracy": accuracy,
            "val_log_loss": loss,
            "train_loss": float(solution.loss[0]),
            "objective": float(solution.objective[0]),
            "iterations": solution.iterations,
        }
        return Candidate(c, accuracy, loss, solution.converged, row, coefficients, probabilities)

    tried = _try(score, options)
    best = max(tried, key=lambda candidate: candidate.rank)
    head = _head(rotation, best.coefficients)
    if refit:
        both = stack(train, val)
        head = _fit_single(both, classes, options, c=best.c).head  # type: ignore[assignment]
    return FitOutcome(
        head,
        {"c": best.c},
        [candidate.row for candidate in tried],
        best.probabilities,
        _notes(best.c, tried, options),
    )


def bracketed(score: Callable[[float], Candidate], grid: tuple[float, ...] = GRID) -> list[Candidate]:
    """Score about a quarter of the grid: every fourth value upwards until two in a row are worse, then the
    neighbours of the best at half the distance, and again.

    Accuracy over log C is flat and single-peaked near its top, which is what makes this enough.
    """
    tried: dict[int, Candidate] = {}
    best, worse = 0, 0
    for position in range(0, len(grid), STRIDE):
        tried[position] = score(grid[position])
        if tried[position].rank > tried[best].rank:
            best, worse = position, 0
        elif position:
            worse += 1
        if worse == 2:
            break
    distance = STRIDE
    while distance > 1:
        distance //= 2
        centre = best
        for position in (centre - distance, centre + distance):
            if 0 <= position < len(grid) and position not in tried:
                tried[position] = score(grid[position])
                if tried[position].rank > tried[best].rank:
                    best = position
    return list(tried.values())


def _try(score: Callable[[float], Candidate], options: LogregOptions) -> list[Candidate]:
    if options.c or options.full_path:
        return [score(c) for c in sorted(options.c or GRID)]
    return bracketed(score)


def _fit_single(samples: Samples, classes: int, options: LogregOptions, c: float | None = None) -> FitOutcome:
    if c is None:
        if len(options.c) != 1:
            raise FitError(
                "C cannot be chosen without a validation part",
                expected="a validation part, or one value of C",
                found=f"{len(options.c) or 'no'} values of C",
                hint="give one value of C",
            )
        c = options.c[0]
    rotation = Rotation.of(samples.features)
    solution = _path(rotation, samples, classes, options).solve(c)
    row = {"c": c, "train_loss": float(solution.loss[0]), "objective": float(solution.objective[0])}
    return FitOutcome(_head(rotation, solution.coefficients[:, 0]), {"c": c}, [row])


def _path(rotation: Rotation, samples: Samples, classes: int, options: LogregOptions) -> SoftmaxPath:
    weights = None
    if options.class_weight == "balanced":
        weights = balanced_weights(samples.labels, classes)[:, None]
    return SoftmaxPath(softmax_loss(rotation, samples, classes, weights), options.tolerance)


def softmax_loss(rotation: Rotation, samples: Samples, classes: int, weights: Floats | None) -> SoftmaxLoss:
    """In memory for an array, streamed for any other source of rows."""
    if isinstance(samples.features, np.ndarray):
        return MemoryLoss(rotation.inputs(samples.features), samples.labels, classes, weights)
    return StreamedLoss(samples.features, rotation, samples.labels, classes, weights)


def _predictor(rotation: Rotation, val: Samples) -> Callable[[Floats], Floats]:
    """Coefficients (R + 1, C) -> validation probabilities (N, C); rotates an array once for all of them."""
    if isinstance(val.features, np.ndarray):
        inputs = rotation.inputs(val.features)
        return lambda coefficients: softmax(inputs @ coefficients)
    return lambda coefficients: _head(rotation, coefficients).predict_proba(val.features)


def balanced_weights(labels: Labels, classes: int) -> Floats:
    """(N,) weights N / (C · rows of the class), so that every class weighs the same and the mean is 1."""
    counts = np.bincount(labels, minlength=classes)
    weights: Floats = (len(labels) / (classes * counts))[labels].astype(np.float32)
    return weights


def _head(rotation: Rotation, coefficients: Floats) -> LogregHead:
    weights, bias = rotation.back(coefficients)
    return LogregHead(rotation.mean, rotation.scale, weights, bias)


def _scores(probabilities: Floats, labels: Labels) -> tuple[float, float]:
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(-np.log(np.maximum(own, 1e-15)).mean())


def _notes(c: float, tried: list[Candidate], options: LogregOptions) -> tuple[str, ...]:
    notes = [
        f"the fit at C = {candidate.c:g} stopped before it had converged"
        for candidate in tried
        if not candidate.converged
    ]
    values = sorted(options.c or GRID)
    if len(values) > 2 and c in (values[0], values[-1]):
        end = "lower" if c == values[0] else "upper"
        notes.append(f"the chosen C = {c:g} lies at the {end} end of the values tried")
    return tuple(notes)
