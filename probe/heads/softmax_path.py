"""L2-regularised multinomial logistic regression along a path of C, in float32.

For each C it minimises scikit-learn's objective  C·Σ wᵢ·lossᵢ + ½‖W‖²  (intercept unpenalised), here divided
by C·Σw, with full-batch L-BFGS (Nocedal 1980; Nocedal & Wright, Numerical Optimization, ch. 7). What makes
a whole path cheap:

* the inputs are in their principal axes, where the Hessian is nearly diagonal, so a diagonal first guess of
  it (variance of the axis × mean p(1 − p) of the class + penalty) does most of the work;
* logits are linear in the coefficients, so once those of the search direction are known a line search costs
  no matrix product: an iteration is exactly two, Z·P and Zᵀ·R;
* the solution of one C starts the next, moved on the way the last ones went by line searches that are free
  for the same reason, and the curvature pairs are kept: only the penalty's share in them changes with C;
* a C between two that are solved starts between their solutions, and what is only climbed through is solved
  roughly;
* a fit of more rows starts where that of fewer ended, or at the best multiple of the mean of folds;
* the first guess is scaled to the last curvature pair (Nocedal & Wright, eq. 7.20), so that nearly every
  iteration is done at the first step that is looked at: a pass over streamed rows, not two.

It ends where |gradient|²/(2·penalty) bounds the distance to the minimum well enough, as in
`probe.heads.softmax_exact`, which goes on in float64 where float32 does not get there.

Several problems that share the inputs (cross-validation folds, as 0/1 row weights) are solved in one go, so
that few classes still make products large enough to be fast.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats
from probe.heads.softmax_kernel import Float64s
from probe.heads.softmax_loss import Look, SoftmaxLoss, difference, dots

MEMORY, FEWER = 10, 4
"""Curvature pairs that are kept; and where that many would be more numbers than `PAIRED`."""
PAIRED = 1 << 26
CLIMB, ROUGHLY = 4.0, 1e-2
"""A large C is climbed to by this factor at a time, with solutions in between as rough as this."""
DECADE = 10.0
SPAN = 100.0
"""Solutions further apart than this factor in C say little of those between them."""
KEPT = 6
"""Solutions that are kept, those nearest in C to the last."""
NEAR, LONGER = 10.0, 0.25
"""The relative bound up to which coefficients from elsewhere are a start; multiples are tried in such steps.

Where rows can be fitted without error, a fit of other rows can be further off than no fit at all: beside
climbing from zero, the mean of five folds (a bound of 3) takes two thirds of the iterations, one fold alone
(600) twice as many.
"""
DEPTH = 1e-4
RESOLUTION = 1e-9
STALLED = 1e-8
MAX_ITERATIONS = 200
MAX_TRIALS = 12
TOLERANCE = 3e-6


@dataclass(frozen=True)
class Solution:
    """Coefficients (R, B, C), the intercept in the last row, of B problems at one value of C.

    `objective` (B,) is divided by C·Σw; `loss` (B,) is its mean-loss part. `excess` (B,) bounds the distance
    to the minimum as far as float32 goes, `converged` (B,) says that it is within the tolerance, relative to
    the objective. `look` is what was seen there.
    """

    c: float
    coefficients: Floats
    objective: Float64s
    loss: Float64s
    iterations: int
    excess: Float64s
    converged: NDArray[np.bool_]
    look: Look


class SoftmaxPath:
    """B problems on the same rows, solved for one C after another (rising C is cheapest).

    `tolerance` is the relative distance to the minimum at which a problem counts as solved; `solved` has the
    coefficients (R, B, C) at some values of C, those nearest to the last.
    """

    def __init__(self, loss: SoftmaxLoss, tolerance: float = TOLERANCE) -> None:
        self.loss = loss
        self.tolerance = tolerance
        self._penalised = np.ones((len(loss.variance), 1, 1), dtype=np.float32)
        self._penalised[-1] = 0.0
        numbers = 2 * len(loss.variance) * loss.priors.size
        memory = MEMORY if MEMORY * numbers <= PAIRED else FEWER
        self._pairs: deque[_Pair] = deque(maxlen=memory)
        self._penalty: Float64s = np.zeros(len(loss.total))
        self.solved: dict[float, Floats] = {}
        self._restart()

    def solve(self, c: float) -> Solution:
        """The minimum at `c`, from between its neighbours or from below in steps of `CLIMB`.

        Going straight to a large C from far below takes several times the iterations and stops further off.
        """
        self._approach(c)
        if c > DECADE * self._last:
            steps = math.ceil(math.log(c / self._last, CLIMB))
            for between in np.geomspace(self._last, c, steps + 1)[1:-1]:
                self._minimise(float(between), max(ROUGHLY, self.tolerance))
        solution = self._minimise(c, self.tolerance)
        self._keep(solution)
        return solution

    def know(self, c: float, coefficients: Floats) -> None:
        """Take these coefficients (R, B, C) for near the minimum at `c`."""
        self.solved[c] = coefficients

    def start(self, c: float, coefficients: Floats) -> None:
        """Begin at coefficients (R, B, C) that ought to be near the minimum at `c`, or at the best multiple
        of them; at zero, as without, where they are further off than `NEAR`."""
        self._go_to(coefficients, c)
        penalty = self._penalty_at(c)
        if self.loss.lines_are_free:
            longer = np.float32(LONGER) * coefficients
            self.loss.aim(longer)
            slope = self.loss.slope(self._here, longer)
            self._advance(longer, slope + penalty * dots(self._penalised * coefficients, longer), penalty)
        full = self.loss.gradient(self._here) + self._ridge(penalty) * self.coefficients
        excess = self._excess(full, penalty, self.loss.spread(self._here))
        if (excess > NEAR * self._objective(penalty)).any():
            self._restart()

    def _approach(self, c: float) -> None:
        """Go where to start for `c`, by what is solved below and above it."""
        below = max((known for known in self.solved if known <= c), default=0.0)
        above = min((known for known in self.solved if known > c), default=math.inf)
        if below and above > SPAN * below:
            if below != self._last:
                self._go_to(self.solved[below], below)
        elif below:
            share = np.float32(math.log(c / below) / math.log(above / below))
            self._go_to((1 - share) * self.solved[below] + share * self.solved[above], c)
        elif c * DECADE >= above:
            self._go_to(self.solved[above], above)
        elif above < math.inf:
            self._restart()

    def _go_to(self, coefficients: Floats, c: float) -> None:
        """Leave the way the last solutions went, and go on from here."""
        self.coefficients, self._last = coefficients, c
        self.loss.reset(coefficients)
        self._marks = deque([coefficients], maxlen=3)
        nowhere = np.zeros_like(coefficients)
        self._here = self.loss.look(coefficients, nowhere, np.zeros(len(self.loss.total)))

    def _keep(self, solution: Solution) -> None:
        self.solved[solution.c] = solution.coefficients
        if len(self.solved) > KEPT:
            del self.solved[max(self.solved, key=lambda known: abs(math.log(known / solution.c)))]

    def _restart(self) -> None:
        """Back to zero coefficients: climbing again is shorter than coming down from overgrown ones."""
        loss = self.loss
        start = np.zeros((len(loss.variance), len(loss.total), loss.classes), dtype=np.float32)
        # The minimum as C goes to zero: class frequencies alone. A class without rows gets next to nothing.
        start[-1] = np.log(np.maximum(loss.priors, 0.1 / loss.total.max()))
        start[-1] -= start[-1].mean(axis=1, keepdims=True)
        # Where the penalty's curvature equals the loss's on the widest axis; below it there is little to fit.
        widest = float(loss.total.max() * loss.variance[:-1].max(initial=1e-30))
        self._go_to(start, loss.classes / widest)
        self._null = self._here.loss
        self._pairs.clear()

    def _minimise(self, c: float, tolerance: float) -> Solution:
        penalty = self._penalty_at(c)
        self._bend_by(penalty)
        self._extrapolate(penalty)
        spread = self.loss.spread(self._here)
        hessian = self._hessian_guess(penalty, spread)
        gradient = self.loss.gradient(self._here)
        iterations = 0
        # Solutions that are only passed through are as rough as looks may be.
        closely = tolerance > self.tolerance
        while iterations < MAX_ITERATIONS:
            iterations += 1
            objective = self._objective(penalty)
            full = gradient + self._ridge(penalty) * self.coefficients
            direction = -self._inverse_times(full, hessian)
            slope = dots(full, direction)
            excess = self._excess(full, penalty, spread)
            converged = excess <= tolerance * objective
            # What the L-BFGS model still expects to gain is then beneath the rounding of float32.
            stalled = -0.5 * slope <= STALLED * objective
            active = (excess > self._allowed(objective, tolerance)) & ~(stalled & ~converged)
            if active.any():
                direction[:, ~active] = 0.0
                self.loss.aim(direction)
                step = self._advance(direction, np.where(active, slope, 0.0), penalty)
                if step.any():
                    previous, gradient = gradient, self.loss.gradient(self._here)
                    change = direction * step.astype(np.float32)[:, None]
                    self._pairs.append(_Pair.of(change, gradient - previous + self._ridge(penalty) * change))
                    closely = tolerance > self.tolerance
                    continue
                if self._pairs:
                    # Pairs from elsewhere can mislead; without them the direction always goes down.
                    self._pairs.clear()
                    continue
            if closely or not self._look_closely():
                break
            gradient, closely = self.loss.gradient(self._here), True
        if not closely and self._look_closely():
            gradient = self.loss.gradient(self._here)
        self._marks.append(self.coefficients)
        self.loss.mark()
        self._last = c
        objective = self._objective(penalty)
        full = gradient + self._ridge(penalty) * self.coefficients
        excess = self._excess(full, penalty, self.loss.spread(self._here))
        converged = excess <= tolerance * objective
        here = self._here
        return Solution(c, self.coefficients, objective, here.loss, iterations, excess, converged, here)

    def _penalty_at(self, c: float) -> Float64s:
        """λ (B,), that of the objective divided by C·Σw."""
        # scikit-learn gives two classes one weight vector w; the softmax ±w/2 pays half its penalty.
        return np.asarray((2.0 if self.loss.classes == 2 else 1.0) / (c * self.loss.total))

    def _look_closely(self) -> bool:
        """See this point as exactly as the loss can; whether that is any closer than it was seen."""
        look = self.loss.look_closely(self.coefficients)
        if look is None:
            return False
        self._here = look
        return True

    def _excess(self, gradient: Floats, penalty: Float64s, spread: Floats) -> Float64s:
        """Bound (B,) on the distance to the minimum; the intercept's part is by its own curvature."""
        squares = self._squares(gradient) / (2 * penalty)
        intercept = gradient[-1].astype(np.float64) ** 2 / np.maximum(spread, 1e-30)
        return np.asarray(squares + intercept.sum(axis=1))

    def _allowed(self, objective: Float64s, tolerance: float) -> Float64s:
        """The distance to the minimum (B,) that counts as none.

        At small C the whole fit lowers the objective by little, and a share of the objective would allow it
        all: there the share is of what has been gained over class frequencies, down to what float32 resolves.
        """
        gained = np.maximum(max(DEPTH, tolerance) * (self._null - objective), RESOLUTION * objective)
        return np.minimum(tolerance * objective, gained)

    def _objective(self, penalty: Float64s) -> Float64s:
        return self._here.loss + 0.5 * penalty * self._squares(self.coefficients)

    def _extrapolate(self, penalty: Float64s) -> None:
        """Go on the way the last solutions went, straight and then along its bend, to where it is lowest."""
        orders = min(len(self._marks) - 1, 2 if self.loss.lines_are_free else 1)
        for order in range(1, orders + 1):
            self.loss.aim_on(order)
            direction = difference(self._marks, order)
            slope = self.loss.slope(self._here, direction)
            slope += penalty * dots(self._penalised * self.coefficients, direction)
            self._advance(direction, slope, penalty)

    def _advance(self, direction: Floats, slope: Float64s, penalty: Float64s) -> Float64s:
        """Line search, then go there; the steps (B,) taken."""
        step, look = self._search(direction, slope, penalty)
        if step.any():
            self.loss.accept(step)
            self.coefficients = self.coefficients + direction * step.astype(np.float32)[:, None]
            self._here = look
        return step

    def _search(self, direction: Floats, slope: Float64s, penalty: Float64s) -> tuple[Float64s, Look]:
        """Step lengths (B,) at which the slope is at most half as steep, and what is seen there.

        The objective is convex along the line, so its slope rises and a safeguarded secant finds the zero.
        Where the slope rises the search goes the other way, where it is zero nowhere.
        """
        way = -np.sign(slope)
        slope = -np.abs(slope)
        moving = slope < 0
        straight = way * penalty * dots(self._penalised * self.coefficients, direction)
        bend = penalty * self._squares(direction)
        size = 0.5 * penalty * self._squares(self.coefficients)
        limit = (self._here.loss + size) * (1 + self.loss.resolution)
        step = np.where(moving, 1.0, 0.0)
        low, low_slope = np.zeros_like(step), slope.copy()
        high, high_slope = np.full_like(step, np.inf), np.full_like(step, np.inf)
        for _ in range(MAX_TRIALS):
            look = self.loss.look(self.coefficients, direction, way * step)
            here = way * self.loss.slope(look, direction) + straight + step * bend
            value = look.loss + size + step * straight + 0.5 * step**2 * bend
            fine = ~moving | ((np.abs(here) <= 0.5 * np.abs(slope)) & (value <= limit))
            if fine.all():
                return way * step, look
            short = here < 0
            low, low_slope = np.where(short, step, low), np.where(short, here, low_slope)
            high, high_slope = np.where(short, high, step), np.where(short, high_slope, here)
            with np.errstate(invalid="ignore"):
                secant = low - low_slope * (high - low) / (high_slope - low_slope)
                inside = np.clip(secant, low + 0.1 * (high - low), high - 0.1 * (high - low))
            step = np.where(fine, step, np.where(np.isinf(high), 3.0 * step, inside))
        # What is left is rounding: those problems stay where they are, and so end.
        step = np.where(fine, way * step, 0.0)
        return step, self.loss.look(self.coefficients, direction, step)

    def _ridge(self, penalty: Float64s) -> Floats:
        ridge: Floats = self._penalised * penalty.astype(np.float32)[:, None]
        return ridge

    def _squares(self, coefficients: Floats) -> Float64s:
        """Squared norm (B,) without the intercept."""
        return dots(self._penalised * coefficients, coefficients)

    def _hessian_guess(self, penalty: Float64s, spread: Floats) -> Floats:
        """Diagonal (R, B, C): each axis's variance times each class's mean p(1 − p), plus the penalty."""
        return self.loss.variance[:, None, None] * np.maximum(spread, 1e-8) + self._ridge(penalty)

    def _bend_by(self, penalty: Float64s) -> None:
        """Have the curvature pairs be those of the objective at this penalty."""
        more = self._ridge(penalty - self._penalty)
        for _ in range(len(self._pairs)):
            pair = self._pairs.popleft()
            self._pairs.append(_Pair.of(pair.change, pair.bend + more * pair.change))
        self._penalty = penalty

    def _inverse_times(self, gradient: Floats, hessian: Floats) -> Floats:
        """The L-BFGS two-loop recursion, for every problem at once."""
        q = gradient.copy()
        moved = np.empty_like(q)
        alphas = []
        for pair in reversed(self._pairs):
            alphas.append(pair.inverse * dots(pair.change, q))
            q -= np.multiply(pair.bend, alphas[-1].astype(np.float32)[:, None], out=moved)
        q /= hessian
        if self._pairs:
            q *= self._pairs[-1].scale(hessian).astype(np.float32)[:, None]
        for pair, alpha in zip(self._pairs, reversed(alphas), strict=True):
            beta = pair.inverse * dots(pair.bend, q)
            q += np.multiply(pair.change, (alpha - beta).astype(np.float32)[:, None], out=moved)
        return q


@dataclass(frozen=True)
class _Pair:
    """A curvature pair: a change of the coefficients (R, B, C), what it changed the gradient by, and one
    over their inner products (B,), zero where these are not positive."""

    change: Floats
    bend: Floats
    inverse: Float64s

    @classmethod
    def of(cls, change: Floats, bend: Floats) -> Self:
        curvature = dots(change, bend)
        inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=curvature > 0)
        return cls(change, bend, inverse)

    def scale(self, hessian: Floats) -> Float64s:
        """What to multiply the inverse of a guessed Hessian (B,) by for it to fit this pair."""
        guessed = dots(np.divide(self.bend, hessian, dtype=np.float32), self.bend)
        bent = (self.inverse > 0) & (guessed > 0)
        return np.divide(1.0, self.inverse * guessed, out=np.ones_like(guessed), where=bent)
