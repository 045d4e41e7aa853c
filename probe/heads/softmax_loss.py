"""The softmax loss of B problems on shared rows: in memory, or streamed from rows that do not fit.

Both answer the same three questions along a search direction: the loss, its slope, and its gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, Labels, block_rows
from probe.heads.rotation import Rotation
from probe.heads.softmax_kernel import Float64s, class_spread, in_order, pieces, softmax_residual
from probe.heads.softmax_products import BlasProducts, Products
from probe.heads.softmax_rows import Block, StandardRows, StreamedRows
from probe.machine import usable_cpus

LOGITS = 1 << 26
"""Logits that are kept in memory, a few times over; with more, rows are streamed."""
TIMES = 7
"""Arrays of logits at once: of the point, of a direction, of three marked points, and two to work in."""
BLOCK_LOGITS = 1 << 23
"""Logits of a block of streamed rows."""
PAGE = 4096
SHARED_LOGITS = 1 << 18
"""Logits of a piece of rows that one thread looks at; beneath it others are not worth starting."""

SHARED_PRODUCT = 1 << 29
"""Multiplications of a product from which its rows are shared out to threads of our own."""
RESOLUTION = 1e-7
"""Relative rounding of a loss in float32."""


@dataclass(frozen=True)
class Look:
    """What was seen at one point: loss (B,), and either its derivative by the logits (N, B, C), or its
    gradient (R, B, C), each class's mean p(1 − p) (B, C) and the sums that these are made of."""

    loss: Float64s
    residual: Floats | None = None
    gradient: Floats | None = None
    spread: Floats | None = None
    sums: Sums | None = None


@dataclass(frozen=True)
class Sums:
    """What one pass over rows adds up, for B problems at weights (D, B·C) of the standardised features and
    bias (B·C,): loss (B,), spread (B, C), and the derivative of the loss by the transposed weights (B·C, D)
    and by the bias (B·C,), in float64."""

    weights: Floats
    bias: Floats
    loss: Float64s
    spread: Float64s
    by_weights: Float64s
    by_bias: Float64s


class SoftmaxLoss(Protocol):
    """Weighted mean loss of coefficients (R, B, C), intercept in the last row.

    `total` (B,) sums the row weights, `priors` (B, C) are the weighted class frequencies, `variance` (R,) is
    that of each column of the inputs. `lines_are_free` says that looking along marked points costs little,
    `resolution` how far, relative to itself, a loss may be off by rounding.
    """

    lines_are_free: bool
    resolution: float
    classes: int
    total: Float64s
    priors: Floats
    variance: Floats

    def reset(self, coefficients: Floats) -> None:
        """Go to these coefficients (R, B, C), from wherever it was."""
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

    def look_closely(self, coefficients: Floats) -> Look | None:
        """The point that was gone to as exactly as float32 has it; None where every look is as exact."""
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
    resolution = RESOLUTION

    def __init__(
        self,
        inputs: Floats,
        labels: Labels,
        classes: int,
        weights: Floats | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.inputs = inputs
        self.labels = np.asarray(labels, dtype=np.intp)
        self.classes = classes
        self.threads = threads or usable_cpus()
        self.total, self.weights = _normalised(weights, len(inputs))
        self.priors = _priors(self.labels, self.weights, classes)
        self.variance = np.einsum("nr,nr->r", inputs, inputs) / np.float32(len(inputs))
        self.reset(np.zeros((inputs.shape[1], *self.priors.shape), dtype=np.float32))

    def reset(self, coefficients: Floats) -> None:
        self.logits = self._logits_of(coefficients)
        self._along = self.logits
        self._marks = deque([self.logits], maxlen=3)

    def mark(self) -> None:
        self._marks.append(self.logits)

    def aim(self, direction: Floats) -> None:
        self._along = self._logits_of(direction)

    def aim_on(self, order: int) -> None:
        self._along = difference(self._marks, order)

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        residual = np.empty_like(self.logits)

        def look_at(rows: slice) -> Float64s:
            loss = np.zeros(len(step))
            for few in pieces(rows.stop - rows.start, problems * classes):
                here = slice(rows.start + few.start, rows.start + few.stop)
                self._go(step, here, residual[here])
                loss += softmax_residual(residual[here], self.labels[here], self.weights[here])
            return loss

        rows, problems, classes = residual.shape
        shares = pieces(rows, problems * classes, SHARED_LOGITS)
        found = in_order(look_at, shares, self.threads if len(shares) > 1 else 1)
        return Look(np.sum(list(found), axis=0), residual=residual)

    def look_closely(self, coefficients: Floats) -> Look | None:
        return None

    def slope(self, look: Look, direction: Floats) -> Float64s:
        assert look.residual is not None
        return dots(look.residual, self._along)

    def accept(self, step: Float64s) -> None:
        there = np.empty_like(self.logits)
        self._go(step, slice(None), there)
        self.logits = there

    def _go(self, step: Float64s, rows: slice, there: Floats) -> None:
        """Write the logits of some rows a step along into `there`."""
        np.multiply(self._along[rows], step.astype(np.float32)[:, None], out=there)
        there += self.logits[rows]

    def _logits_of(self, coefficients: Floats) -> Floats:
        """(N, B, C) of coefficients (R, B, C)."""
        _, problems, classes = coefficients.shape
        return (self.inputs @ coefficients.reshape(len(coefficients), -1)).reshape(-1, problems, classes)

    def gradient(self, look: Look) -> Floats:
        assert look.residual is not None
        flat = look.residual.reshape(len(look.residual), -1)
        return np.ascontiguousarray(self._by_rows(flat).T).reshape(-1, *self.logits.shape[1:])

    def _by_rows(self, flat: Floats) -> Floats:
        """flatᵀ · inputs of flat (N, B·C), whose transpose is slower to come by where classes are few."""
        from threadpoolctl import threadpool_limits

        rows, columns = flat.shape
        if self.threads == 1 or rows * columns * self.inputs.shape[1] < SHARED_PRODUCT:
            return flat.T @ self.inputs
        # The library divides this product among its threads by its columns, and loses half of the time.
        shares = pieces(rows, 1, -(-rows // self.threads))
        with threadpool_limits(limits=1, user_api="blas"):
            parts = in_order(lambda mine: flat[mine].T @ self.inputs[mine], shares, self.threads)
            return np.sum(list(parts), axis=0)

    def spread(self, look: Look) -> Floats:
        assert look.residual is not None
        return class_spread(look.residual, self.labels, self.weights)


class StandaloneLooks:
    """The looks of a loss that keeps nothing between them: each says its gradient and spread."""

    lines_are_free = False

    def reset(self, coefficients: Floats) -> None:
        """Nothing is kept between looks."""

    def mark(self) -> None:
        """Nothing is kept between looks."""

    def aim(self, direction: Floats) -> None:
        """Nothing is kept between looks."""

    def aim_on(self, order: int) -> None:
        """Nothing is kept between looks."""

    def accept(self, step: Float64s) -> None:
        """Nothing is kept between looks."""

    def slope(self, look: Look, direction: Floats) -> Float64s:
        return dots(self.gradient(look), direction)

    def gradient(self, look: Look) -> Floats:
        assert look.gradient is not None
        return look.gradient

    def spread(self, look: Look) -> Floats:
        assert look.spread is not None
        return look.spread


def working_bytes(rows: int, width: int, columns: int) -> int:
    """What all threads work in on streamed rows: `width` features and `columns` logits of each of a block."""
    step = min(_rows_of_block(BLOCK_LOGITS, columns), block_rows(width))
    return 4 * min(rows, step * usable_cpus()) * (width + columns)


class StreamedLoss(StandaloneLooks):
    """Reads the features block by block, one pass for every look; memory does not grow with N × D or N × C.

    The rotation is applied to the coefficients, not to the rows: D × R × C instead of N × D × R a pass.
    """

    resolution = RESOLUTION

    def __init__(
        self,
        features: Features,
        rotation: Rotation,
        labels: Labels,
        classes: int,
        weights: Floats | None = None,
        *,
        threads: int | None = None,
        rows: StreamedRows | None = None,
    ) -> None:
        self.features = features
        self.rotation = rotation
        self.threads = threads or usable_cpus()
        self.labels = np.asarray(labels, dtype=np.intp)
        self.classes = classes
        self.total, self.weights = _normalised(weights, len(self.labels))
        self.priors = _priors(self.labels, self.weights, classes)
        self.variance = np.append(rotation.variance, np.float32(1))
        self.products: Products = BlasProducts()
        self.streamed = rows or StreamedRows(features, rotation.mean, rotation.scale)
        self.rows: StandardRows = self.streamed
        self.block_logits = BLOCK_LOGITS
        self._scratch: list[_Scratch] = []

    def by(self, products: Products, rows: StandardRows, block_logits: int) -> Self:
        """The same loss by other products, on the same rows as these are handed out to them."""
        twin = copy(self)
        twin.products, twin.rows, twin.block_logits = products, rows, block_logits
        return twin

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        there = coefficients + direction * step.astype(np.float32)[:, None]
        sums = self.sums_at(there)
        return replace(self.seen(sums, there), sums=sums)

    def look_closely(self, coefficients: Floats) -> Look | None:
        return None

    def seen(self, sums: Sums, coefficients: Floats) -> Look:
        """What these sums mean for coefficients (R, B, C)."""
        by_axes = sums.by_weights.astype(np.float32) @ self.rotation.axes
        gradient = np.vstack([by_axes.T, sums.by_bias.astype(np.float32)]).reshape(coefficients.shape)
        return Look(sums.loss, gradient=gradient, spread=sums.spread.astype(np.float32))

    def sums_at(self, coefficients: Floats) -> Sums:
        """The sums over all rows, those of each block in float32, all of them in float64."""
        from threadpoolctl import threadpool_limits

        flat = coefficients.reshape(len(coefficients), -1)
        weights, bias = self.rotation.axes @ flat[:-1], np.ascontiguousarray(flat[-1])
        width, columns = weights.shape
        problems = columns // self.classes
        sums = Sums(
            weights,
            bias,
            loss=np.zeros(problems),
            spread=np.zeros((problems, self.classes)),
            by_weights=np.zeros((columns, width)),
            by_bias=np.zeros(columns),
        )
        # A thread of its own for every block: products within one are not divided again.
        with threadpool_limits(limits=1 if self.threads > 1 else None, user_api="blas"):
            work = partial(self.sums_of_block, weights, bias)
            blocks = self.rows.blocks(self._step(problems))
            for loss, spread, by_weights, by_bias in in_order(work, blocks, self.threads):
                sums.loss[:] += loss
                sums.spread[:] += spread
                sums.by_weights[:] += by_weights
                sums.by_bias[:] += by_bias
        return sums

    def sums_of_block(
        self, weights: Floats, bias: Floats, block: Block
    ) -> tuple[Float64s, Floats, Floats, Floats]:
        """The share of one block in loss, spread, and the derivatives by weights and bias, as in `Sums`."""
        rows = block[0]
        count, problems = rows.stop - rows.start, len(bias) // self.classes
        try:
            mine = self._scratch.pop()
        except IndexError:  # asking first, another thread could come between
            mine = _Scratch()
        inputs = mine.inputs((count, len(weights)), self.rows.dtype)
        logits = mine.logits((count, len(bias)), np.dtype(np.float32))
        self.rows.write(block, inputs)
        self.products.logits(inputs, weights, logits)
        logits += bias
        residual = logits.reshape(count, problems, self.classes)
        loss = softmax_residual(residual, self.labels[rows], self.weights[rows])
        spread = class_spread(residual, self.labels[rows], self.weights[rows])
        found = loss, spread, self.products.by_weights(logits, inputs), logits.sum(axis=0)
        self._scratch.append(mine)
        return found

    def slices(self, problems: int) -> list[slice]:
        """The rows of each block of a look at so many problems."""
        return self.streamed.slices(self._step(problems))

    def _step(self, problems: int) -> int:
        return _rows_of_block(self.block_logits, problems * self.classes)


def _rows_of_block(logits: int, columns: int) -> int:
    """Rows of a block, so few that their logits of all problems are few as well."""
    return max(64, logits // columns)


class _Memory:
    """Memory that is used again and again, for arrays of any type."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with anything in it, at the start of a page: products take a tenth less time there."""
        size = shape[0] * shape[1] * dtype.itemsize
        if len(self._bytes) < size + PAGE:
            self._bytes = np.empty(size + PAGE, np.uint8)
        start = -self._bytes.ctypes.data % PAGE
        return self._bytes[start : start + size].view(dtype).reshape(shape)


class _Scratch:
    """What one thread writes a block to, kept for the next: new memory costs a tenth of a look."""

    def __init__(self) -> None:
        self.inputs, self.logits = _Memory(), _Memory()


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
