"""Is it the minimum? The objective in float64, a bound on how far it is, and Newton's way there.

With penalty λ on the weights the objective F is λ-strongly convex in them, so  F − F* ≤ |∇F|²/(2λ)  whatever
the data (Nesterov, Introductory Lectures on Convex Optimization, 2.1.3). The intercept has no penalty; its
own curvature, the mean p(1 − p) of each class, takes the place of λ there. At large C the bound asks for
gradients that float32 does not have. Then truncated Newton steps in float64 go on (Nocedal & Wright,
Numerical Optimization, ch. 7.1), preconditioned by the same diagonal as the float32 path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from probe.heads.head import Features, Floats, Labels, blocks
from probe.heads.rotation import Rotation
from probe.heads.softmax_kernel import CACHED, Float64s, class_spread, in_order, residual_of_rows
from probe.heads.standardise import centred
from probe.machine import usable_cpus

KEPT_VALUES = 1 << 24
"""Features kept in float64 while one problem is solved; more are converted anew in every pass."""
ROWS, BLOCK_LOGITS = 1024, 1 << 21
"""Rows, and logits, that a thread works on at a time."""
ROWS_A_CLASS = 4
"""Rows of a piece within them, for each class at least: the gradient is added to once a piece."""
Block = tuple[slice, Floats | Float64s]
"""Which rows, and their features as they are stored (float32), or minus their mean (float64)."""

MAX_STEPS = 60
MAX_PRODUCTS = 2000
"""Newton steps, and Hessian products of all of them together, before the fit counts as not converged."""
ENOUGH = 0.25
"""Of the squared residual that would do if the bound fell as it does: their norms differ."""


@dataclass(frozen=True)
class Solved:
    """Weights (D, C) of standardised features and intercept (C,) in float32, as a head has them.

    `coefficients` (R + 1, C) are the same along the axes. `objective` and its mean `loss` are those of
    these very numbers in float64; `excess` bounds how far the objective lies above its minimum, and
    `converged` says that this is within the tolerance, relative to the objective.
    """

    weights: Floats
    bias: Floats
    coefficients: Floats
    objective: float
    loss: float
    excess: float
    converged: bool

    @property
    def gap(self) -> float:
        """Bound on how far the objective lies above its minimum, relative to itself."""
        return self.excess / self.objective


@dataclass(frozen=True)
class _Point:
    """Coefficients (R + 1, C) in float64 and what was seen there; `excess` bounds F − F*."""

    coefficients: Float64s
    loss: float
    objective: float
    gradient: Float64s
    spread: Float64s
    excess: float


class ExactLoss:
    """The mean loss and penalty of one problem, over rows read block by block.

    Parameters
    ----------
    weights : (N,) of the rows; None for all alike.
    """

    def __init__(
        self,
        features: Features,
        rotation: Rotation,
        labels: Labels,
        classes: int,
        weights: Floats | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.labels, self.classes, self.rotation = labels, classes, rotation
        self.threads = threads or usable_cpus()
        row_weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
        self.total = float(row_weights.sum())
        self.weights = row_weights / self.total
        self._features = features
        self._axes = rotation.axes.astype(np.float64)
        self._scale = rotation.scale.astype(np.float64)
        self._kept: list[tuple[slice, Float64s]] | None = None
        self._rows = min(ROWS, max(64, BLOCK_LOGITS // classes))

    def solve(self, start: Floats, c: float, tolerance: float) -> Solved:
        """From coefficients (R + 1, C) to within `tolerance` of the minimum, or as near as it goes."""
        penalty = self.penalty(c)
        weights, bias = self.rotation.back(start)
        point = self._at(start.astype(np.float64), weights.astype(np.float64), penalty)
        if point.excess > tolerance * point.objective:
            point = self._descend(point, penalty, tolerance)
            weights = (self._axes @ point.coefficients[:-1]).astype(np.float32)
            bias = point.coefficients[-1].astype(np.float32)
            rounded = np.vstack([point.coefficients[:-1], bias])
            seen = self._at(rounded, weights.astype(np.float64), penalty)
            # The minimum lies no lower than the bound found before the coefficients were rounded.
            excess = min(seen.excess, seen.objective - point.objective + point.excess)
            point = _Point(rounded, seen.loss, seen.objective, seen.gradient, seen.spread, excess)
        return Solved(
            weights,
            bias,
            point.coefficients.astype(np.float32),
            point.objective,
            point.loss,
            point.excess,
            point.excess <= tolerance * point.objective,
        )

    def penalty(self, c: float) -> float:
        """λ, that of the objective divided by C·Σw."""
        # scikit-learn gives two classes one weight vector w; the softmax ±w/2 pays half its penalty.
        return (2.0 if self.classes == 2 else 1.0) / (c * self.total)

    def _descend(self, point: _Point, penalty: float, tolerance: float) -> _Point:
        products = 0
        for _ in range(MAX_STEPS):
            # Half of what is allowed, so that rounding the result to float32 has the other half.
            missing = 0.5 * tolerance * point.objective / point.excess if point.excess else 1.0
            if missing >= 1 or products >= MAX_PRODUCTS:
                break
            direction, used = self._newton_direction(point, penalty, missing, MAX_PRODUCTS - products)
            products += used
            there = self._search(point, direction, penalty)
            if there is None:
                break
            point = there
        return point

    def _search(self, point: _Point, direction: Float64s, penalty: float) -> _Point | None:
        """The first of the steps 1, ½, ¼ … that lowers the objective enough; None when rounding is left."""
        slope = float((point.gradient * direction).sum())
        step = 1.0
        while slope < 0 and step > 1e-6:
            there = point.coefficients + step * direction
            seen = self._at(there, self._axes @ there[:-1], penalty)
            if seen.objective <= point.objective + 1e-4 * step * slope or seen.excess < 0.25 * point.excess:
                return seen
            step /= 2
        return None

    def _newton_direction(
        self, point: _Point, penalty: float, missing: float, most: int
    ) -> tuple[Float64s, int]:
        """Conjugate gradients on H d = −g, the closer the smaller the gradient is, but no closer than brings
        the bound to the share of itself that is `missing`; and products used."""
        inverse = 1 / self._diagonal(point, penalty)
        residual = -point.gradient
        scaled = inverse * residual
        size = first = float((residual * scaled).sum())
        quadratic = min(0.01, max(point.excess, 0.0) / point.objective)
        target = max(quadratic, ENOUGH * missing) * first
        direction, found = scaled.copy(), np.zeros_like(residual)
        used = 0
        while used < most and size > max(target, 1e-26 * first):
            bent = self._curvature(point, direction, penalty)
            used += 1
            along = float((direction * bent).sum())
            if along <= 0:
                break
            step = size / along
            found += step * direction
            residual = residual - step * bent
            scaled = inverse * residual
            before, size = size, float((residual * scaled).sum())
            direction = scaled + (size / before) * direction
        return (found if used else scaled), used

    def _diagonal(self, point: _Point, penalty: float) -> Float64s:
        """(R + 1, C): each axis's variance times each class's mean p(1 − p), plus the penalty."""
        variance = self.rotation.variance.astype(np.float64)
        spread = np.maximum(point.spread, 1e-300)
        return np.vstack([variance[:, None] * spread + penalty, spread])

    def _at(self, coefficients: Float64s, weights: Float64s, penalty: float) -> _Point:
        """Look at weights (D, C), which are the coefficients (R + 1, C) off the axes."""
        work = partial(self._sums_of_rows, weights / self._scale[:, None], coefficients[-1])
        loss, spread, by_weights, by_bias = self._sums(work)
        by_weights /= self._scale[:, None]
        by_weights += penalty * weights
        objective = loss + 0.5 * penalty * float((weights**2).sum())
        excess = float((by_weights**2).sum()) / (2 * penalty)
        excess += float((by_bias**2 / np.maximum(spread, 1e-300)).sum())
        gradient = np.vstack([self._axes.T @ by_weights, by_bias])
        return _Point(coefficients, loss, objective, gradient, spread, excess)

    def _curvature(self, point: _Point, direction: Float64s, penalty: float) -> Float64s:
        """The Hessian at a point times a direction, both (R + 1, C)."""
        weights, along = self._axes @ point.coefficients[:-1], self._axes @ direction[:-1]
        inner, inner_along = weights / self._scale[:, None], along / self._scale[:, None]

        def bend_at(part: Block) -> tuple[Float64s, Float64s]:
            by_weights, by_bias = np.zeros_like(along), np.zeros(self.classes)
            for rows, block in self._pieces(part):
                shares = block @ inner
                shares += point.coefficients[-1]
                _, true = residual_of_rows(shares, self.labels[rows])
                shares[np.arange(len(true)), self.labels[rows]] = true
                bent = block @ inner_along
                bent += direction[-1]
                bent -= np.einsum("nc,nc->n", shares, bent)[:, None]
                bent *= shares
                bent *= self.weights[rows][:, None]
                by_weights += block.T @ bent
                by_bias += bent.sum(axis=0)
            return by_weights, by_bias

        by_weights, by_bias = self._sums(bend_at)
        by_weights /= self._scale[:, None]
        return np.vstack([self._axes.T @ (by_weights + penalty * along), by_bias])

    def sums_of_block(
        self, weights: Floats, bias: Floats, part: Block
    ) -> tuple[float, Float64s, Float64s, Float64s]:
        """What some rows add to the loss, to each class's mean p(1 − p) (C,), and to the derivatives by
        weights (D, C) of standardised features and bias (C,)."""
        inner = weights.astype(np.float64) / self._scale[:, None]
        loss, spread, by_weights, by_bias = self._sums_of_rows(inner, bias.astype(np.float64), part)
        by_weights /= self._scale[:, None]
        return loss, spread, by_weights, by_bias

    def _sums_of_rows(
        self, weights: Float64s, bias: Float64s, part: Block
    ) -> tuple[float, Float64s, Float64s, Float64s]:
        """As `sums_of_block`, for weights, and the derivative by them, of features that are only centred."""
        loss, spread = 0.0, np.zeros(self.classes)
        by_weights, by_bias = np.zeros_like(weights), np.zeros(self.classes)
        for rows, block in self._pieces(part):
            residual = block @ weights
            residual += bias
            losses, _ = residual_of_rows(residual, self.labels[rows])
            mine = self.weights[rows]
            residual *= mine[:, None]
            spread += class_spread(residual[:, None], self.labels[rows], mine[:, None])[0]
            loss += float(mine @ losses)
            by_weights += block.T @ residual
            by_bias += residual.sum(axis=0)
        return loss, spread, by_weights, by_bias

    def _pieces(self, part: Block) -> Iterator[tuple[slice, Float64s]]:
        """Features minus their mean in float64: what is kept as it is, else so few rows that they stay in
        the cache between being converted and multiplied."""
        rows, values = part
        if values.dtype == np.float64:
            yield rows, values.astype(np.float64, copy=False)
            return
        step = max(ROWS_A_CLASS * self.classes, CACHED // values.shape[1], 1)
        for start in range(0, len(values), step):
            piece = values[start : start + step]
            first = rows.start + start
            yield slice(first, first + len(piece)), centred(piece, self.rotation.mean)

    def _sums(self, work: Callable[[Block], tuple[Any, ...]]) -> list[Any]:
        """The sum over all blocks of each thing that `work` finds in one, blocks side by side."""
        from threadpoolctl import threadpool_limits

        threads = self.threads if len(self.labels) > self._rows else 1
        with threadpool_limits(limits=1 if threads > 1 else None, user_api="blas"):
            found = in_order(work, self._blocks(), threads)
            sums = list(next(found))
            for some in found:
                for number, share in enumerate(some):
                    sums[number] += share
        return sums

    def _blocks(self) -> Iterator[Block]:
        """Rows as they are stored, or minus their mean in float64 where these are kept."""
        count, width = self._features.shape
        if count * width > KEPT_VALUES:
            return self._read()
        if self._kept is None:
            self._kept = [(rows, centred(part, self.rotation.mean)) for rows, part in self._read()]
        return iter(self._kept)

    def _read(self) -> Iterator[tuple[slice, Floats]]:
        for rows, block in blocks(self._features):
            for start in range(0, len(block), self._rows):
                part = block[start : start + self._rows]
                first = rows.start + start
                yield slice(first, first + len(part)), part
