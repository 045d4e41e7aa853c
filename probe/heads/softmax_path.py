"""L2-regularised multinomial logistic regression along a path of C, in float32.

For each C it minimises scikit-learn's objective  C·Σ wᵢ·lossᵢ + ½‖W‖²  (intercept unpenalised), here divided
by C·Σw, with full-batch L-BFGS (Nocedal 1980; Nocedal & Wright, Numerical Optimization, ch. 7). What makes
a whole path cheap:

* the inputs are in their principal axes, where the Hessian is nearly diagonal, so a diagonal first guess of
  it (variance of the axis × mean p(1 − p) of the class + penalty) does most of the work;
* logits are linear in the coefficients, so once those of the search direction are known a line search costs
  no matrix product: an iteration is exactly two, Z·P and Zᵀ·R;
* the solution of one C starts the next, moved on along the last change by a line search that is free for
  the same reason, and the curvature pairs are kept: only the penalty's share in them changes with C.

Several problems that share the inputs (cross-validation folds, as 0/1 row weights) are solved in one go, so
that few classes still make products large enough to be fast.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats, Labels

MEMORY = 8
DECADE = 10.0
ENOUGH = (1e-4, 1e-5)
MAX_ITERATIONS = 500
MAX_TRIALS = 12
TOLERANCE = 3e-6
Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """Coefficients (R, B, C), the intercept in the last row, of B problems at one value of C.

    `objective` (B,) is divided by C·Σw; `loss` (B,) is its mean-loss part. `converged` says that the last
    estimate of the distance to the minimum was within 1e-4 of the objective plus 1e-5.
    """

    c: float
    coefficients: Floats
    objective: Float64s
    loss: Float64s
    iterations: int
    converged: bool


class SoftmaxPath:
    """B problems over the same inputs, solved for one C after another (rising C is cheapest).

    Parameters
    ----------
    inputs : (N, R) float32, columns near uncorrelated, the last one all ones for the intercept.
    labels : (N,) in 0 … C-1.
    weights : (N, B) weight of each row in each problem, by default one problem of ones.
    tolerance : relative distance to the minimum at which a problem counts as solved, as the L-BFGS
        model estimates it.
    """

    def __init__(
        self,
        inputs: Floats,
        labels: Labels,
        classes: int,
        weights: Floats | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        rows = len(inputs)
        if weights is None:
            weights = np.ones((rows, 1), dtype=np.float32)
        self.inputs = inputs
        self.labels = np.asarray(labels, dtype=np.intp)
        self.tolerance = tolerance
        self.total = weights.sum(axis=0, dtype=np.float64)
        self.weights = (weights / self.total).astype(np.float32)
        self.variance = np.einsum("nr,nr->r", inputs, inputs) / np.float32(rows)
        self.penalised = np.ones((inputs.shape[1], 1, 1), dtype=np.float32)
        self.penalised[-1] = 0.0
        self.classes = classes
        self._change: tuple[Floats, Floats] | None
        self._pairs: deque[tuple[Floats, Floats]] = deque(maxlen=MEMORY)
        self._row_index = np.arange(rows)[:, None]
        self._problem_index = np.arange(weights.shape[1])[None, :]
        self._restart()

    def solve(self, c: float) -> Solution:
        """The minimum at `c`, reached from the last one in steps of at most a decade.

        Going straight to a large C from far below takes several times the iterations and stops further off.
        """
        if c * DECADE < self._last:
            self._restart()
        steps = math.ceil(math.log(c / self._last, DECADE)) if c > self._last else 1
        for between in np.geomspace(self._last, c, steps + 1)[1:-1]:
            self._minimise(float(between))
        return self._minimise(c)

    def _restart(self) -> None:
        """Back to zero coefficients: climbing again is shorter than coming down from overgrown ones."""
        rows, problems = self.weights.shape
        width, classes = self.inputs.shape[1], self.classes
        self.coefficients = np.zeros((width, problems, classes), dtype=np.float32)
        self.logits = np.zeros((rows, problems, classes), dtype=np.float32)
        self._change = None
        self._pairs.clear()
        # Where the penalty's curvature equals the loss's on the widest axis; below it there is little to fit.
        self._last = classes / float(self.total.max() * self.variance[:-1].max(initial=1e-30))

    def _minimise(self, c: float) -> Solution:
        start = self.coefficients, self.logits
        penalty = self._share(c) / self.total
        self._extrapolate(penalty)
        loss, residual = self._evaluate(self.logits)
        preconditioner = self._preconditioner(residual, penalty)
        gradient = self._loss_gradient(residual)
        iterations = 0
        while iterations < MAX_ITERATIONS:
            iterations += 1
            objective = loss + 0.5 * penalty * self._squares(self.coefficients)
            full = gradient + self._ridge(penalty) * self.coefficients
            direction = -self._inverse_times(full, preconditioner, penalty)
            slope = _dots(full, direction)
            gap = -0.5 * slope
            gap_is_small = gap <= ENOUGH[0] * objective + ENOUGH[1]
            active = gap > self.tolerance * objective
            if not active.any():
                break
            direction[:, ~active] = 0.0
            along = self._product(direction)
            step, loss, residual = self._search(
                direction, along, objective, np.where(active, slope, 0), penalty
            )
            if not step.any():
                if not self._pairs:
                    break
                # Pairs from elsewhere can mislead; without them the direction always goes down.
                self._pairs.clear()
                continue
            scaled = direction * step[:, None].astype(np.float32)
            self.coefficients = self.coefficients + scaled
            self.logits = self.logits + along * step[:, None].astype(np.float32)
            new_gradient = self._loss_gradient(residual)
            self._pairs.append((scaled, new_gradient - gradient))
            gradient = new_gradient
        self._change = self.coefficients - start[0], self.logits - start[1]
        self._last = c
        objective = loss + 0.5 * penalty * self._squares(self.coefficients)
        return Solution(c, self.coefficients, objective, loss, iterations, bool(gap_is_small.all()))

    def _share(self, c: float) -> float:
        """1 / C, doubled for two classes.

        scikit-learn gives two classes one weight vector w; the symmetric softmax ±w/2 pays half its penalty.
        """
        return (2.0 if self.coefficients.shape[2] == 2 else 1.0) / c

    def _extrapolate(self, penalty: Float64s) -> None:
        """Go on in the direction of the last change, as far as the new objective falls."""
        if self._change is None:
            return
        direction, along = self._change
        loss, residual = self._evaluate(self.logits)
        slope = _dots(residual, along) + penalty * _dots(self.penalised * self.coefficients, direction)
        objective = loss + 0.5 * penalty * self._squares(self.coefficients)
        step, _, _ = self._search(direction, along, objective, np.where(slope < 0, slope, 0), penalty)
        self.coefficients = self.coefficients + direction * step[:, None].astype(np.float32)
        self.logits = self.logits + along * step[:, None].astype(np.float32)

    def _search(
        self, direction: Floats, along: Floats, objective: Float64s, slope: Float64s, penalty: Float64s
    ) -> tuple[Float64s, Float64s, Floats]:
        """Step lengths (B,) with the slope at most halved in size, and loss and residual there.

        The objective is convex along the line, so its slope rises and a safeguarded secant finds the zero.
        A problem whose slope is zero stays where it is.
        """
        moving = slope < 0
        straight = penalty * _dots(self.penalised * self.coefficients, direction)
        bend = penalty * self._squares(direction)
        size = 0.5 * penalty * self._squares(self.coefficients)
        step = np.where(moving, 1.0, 0.0)
        low, low_slope = np.zeros_like(step), slope.copy()
        high, high_slope = np.full_like(step, np.inf), np.full_like(step, np.inf)
        for _ in range(MAX_TRIALS):
            loss, residual = self._evaluate(self.logits + along * step[:, None].astype(np.float32))
            here = _dots(residual, along) + straight + step * bend
            value = loss + size + step * straight + 0.5 * step**2 * bend
            # Rounding of a float32 loss must not send a step this close to the minimum back to zero.
            fine = (np.abs(here) <= 0.5 * np.abs(slope)) & (value <= objective * (1 + 1e-7))
            if (fine | ~moving).all():
                break
            short = here < 0
            low, low_slope = np.where(short, step, low), np.where(short, here, low_slope)
            high, high_slope = np.where(short, high, step), np.where(short, high_slope, here)
            open_end = np.isinf(high)
            with np.errstate(invalid="ignore"):
                secant = low - low_slope * (high - low) / (high_slope - low_slope)
                inside = np.clip(secant, low + 0.1 * (high - low), high - 0.1 * (high - low))
            step = np.where(fine | ~moving, step, np.where(open_end, 3.0 * step, inside))
        else:
            # What is left is rounding: those problems stay where they are, and so end.
            step = np.where(fine, step, 0.0)
            loss, residual = self._evaluate(self.logits + along * step[:, None].astype(np.float32))
        return step, loss, residual

    def _evaluate(self, logits: Floats) -> tuple[Float64s, Floats]:
        """Weighted mean loss (B,) and its derivative by the logits (N, B, C)."""
        at_label = self._row_index, self._problem_index, self.labels[:, None]
        residual = logits - logits.max(axis=2, keepdims=True)
        own = residual[at_label]
        np.exp(residual, out=residual)
        # p − 1 and log p of the true class cancel where p is near one; the share of the others does not.
        true = residual[at_label]
        residual[at_label] = 0.0
        others = residual.sum(axis=2)
        losses = np.einsum("nb,nb->b", self.weights, np.log1p(others + (true - 1)) - own, dtype=np.float64)
        factors = self.weights / (others + true)
        residual *= factors[:, :, None]
        residual[at_label] = -others * factors
        return losses, residual

    def _loss_gradient(self, residual: Floats) -> Floats:
        flat = self.inputs.T @ residual.reshape(len(residual), -1)
        return flat.reshape(self.coefficients.shape)

    def _product(self, direction: Floats) -> Floats:
        flat = self.inputs @ direction.reshape(len(direction), -1)
        return flat.reshape(self.logits.shape)

    def _ridge(self, penalty: Float64s) -> Floats:
        ridge: Floats = self.penalised * penalty[:, None].astype(np.float32)
        return ridge

    def _squares(self, coefficients: Floats) -> Float64s:
        """Squared norm (B,) without the intercept."""
        return _dots(self.penalised * coefficients, coefficients)

    def _preconditioner(self, residual: Floats, penalty: Float64s) -> Floats:
        """Diagonal guess (R, B, C) of the Hessian."""
        probability = residual.copy()
        probability[self._row_index, self._problem_index, self.labels[:, None]] += self.weights
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = np.where(self.weights[:, :, None] > 0, probability**2 / self.weights[:, :, None], 0)
        spread = np.maximum(probability.sum(axis=0) - squares.sum(axis=0), 1e-8)
        return self.variance[:, None, None] * spread + self._ridge(penalty)

    def _inverse_times(self, gradient: Floats, preconditioner: Floats, penalty: Float64s) -> Floats:
        """The L-BFGS two-loop recursion, for every problem at once."""
        ridge = self._ridge(penalty)
        q = gradient.copy()
        kept = []
        for change, bend in reversed(self._pairs):
            full_bend = bend + ridge * change
            curvature = _dots(change, full_bend)
            inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=curvature > 0)
            alpha = inverse * _dots(change, q)
            q -= alpha[:, None].astype(np.float32) * full_bend
            kept.append((change, full_bend, inverse, alpha))
        q /= preconditioner
        for change, full_bend, inverse, alpha in reversed(kept):
            beta = inverse * _dots(full_bend, q)
            q += (alpha - beta)[:, None].astype(np.float32) * change
        return q


def _dots(a: Floats, b: Floats) -> Float64s:
    """(B,) inner products of two (…, B, C) arrays, one per problem."""
    if a.shape[1] == 1:
        return np.array([np.vdot(a, b)], dtype=np.float64)
    return np.einsum("rbc,rbc->b", a, b, optimize=False).astype(np.float64)
