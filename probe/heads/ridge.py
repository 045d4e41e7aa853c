"""Ridge regression on ±1 targets: the whole path of α from one eigendecomposition.

It minimises  ‖Y − Z W − b‖² + α‖W‖²  over standardised features, Y being +1 for the own class and −1 for the
others, as scikit-learn's RidgeClassifier does. In principal axes the solution is diagonal, and leaving one
row out has a closed form (Golub, Heath & Wahba 1979): its residual is the full fit's / (1 − leverage). Rows
that belong together (`probe.units`) are left out together: (I − H) restricted to them takes the place of 1 −
leverage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError, FitOptionError
from probe.heads.head import (
    Features,
    FitOutcome,
    FitSize,
    Floats,
    Labels,
    Samples,
    averaged,
    beyond_base,
    blocks,
    stack,
)
from probe.heads.linear import LinearHead
from probe.heads.standardise import Float64s, class_sums, constant_columns, exactly_standardised, moments
from probe.stats.calibration import fit_temperature
from probe.units import are_single, members_of

Where = slice | NDArray[np.intp]
GRID = tuple(float(alpha) for alpha in np.logspace(-2, 8, 45))
BLOCK_ELEMENTS = 1 << 22
"""Predictions, and coefficients, held at a time."""
ENOUGH_ROWS = 512
MOST_ROWS, MOST_COLUMNS = 2048, 4096
"""Brought to float64 at a time."""
SQUARES = 5
"""Matrices (R, R) at once: the products, a copy that becomes the axes, two to work in, the axes in order."""
VALUES = 4
"""Times the values of rows are there while a temperature is fitted to them."""
SMALLEST_SHARE = 1e-14
"""What the fit leaves of a row, at least: less is rounding."""


@dataclass(frozen=True)
class RidgeOptions:
    """How to fit ridge regression.

    Attributes
    ----------
    alpha : penalties to try, every one of them; by default 45 values from 1e-2 to 1e8.
    """

    alpha: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wrong = [alpha for alpha in self.alpha if not 0 < alpha < float("inf")]
        if wrong:
            raise FitOptionError(
                "alpha has to be a positive number", expected="alpha > 0", found=f"alpha = {wrong[0]:g}"
            )


@dataclass(frozen=True)
class RidgeHead(LinearHead):
    """Regression values divided by a temperature, through a softmax.

    Least squares has no probabilities of its own: the temperature is the one that fits validation best, or
    the leave-one-out predictions where there is no validation part. It changes no prediction.
    """

    name: ClassVar[str] = "ridge"


@dataclass(frozen=True)
class _Score:
    """Per value of α: (A,) accuracy and mean squared error."""

    accuracy: NDArray[np.float64]
    error: NDArray[np.float64]


def fit(
    train: Samples, val: Samples | None, classes: int, options: RidgeOptions, *, refit: bool = True
) -> FitOutcome:
    """The path on `train`; α by validation accuracy, or by leave-one-out accuracy without `val`.

    What belongs together is left out together. Among equals the smaller squared error decides.
    """
    alphas = np.array(sorted(options.alpha or GRID))
    several = train.units is None or len(np.unique(train.units)) > 1
    if val is None and not several:
        raise FitError(
            "alpha cannot be chosen by leaving out what belongs together: nothing would be left",
            expected="two groups or more, or a validation part",
            found=f"one group of {len(train)} rows",
        )
    path = RidgePath(train, classes)
    choice = path.leave_one_out(alphas) if val is None else path.score(val, alphas)
    best = max(range(len(alphas)), key=lambda i: (choice.accuracy[i], -choice.error[i]))
    alpha = float(alphas[best])
    if val is None:
        logits, labels = path.leave_one_out_values(alpha), train.labels
    else:
        logits, labels = path.values(val, alpha), val.labels
    # With validation rows to choose by, the path is spared the leave-one-out predictions of all other values.
    left_out = path.leave_one_out(alphas[[best]]) if several else None
    temperature = fit_temperature(logits, labels)
    head = path.head(alpha, temperature)
    val_probabilities = None if val is None else averaged(head, val)
    notes = constant_columns(path.axes.scale)
    # The next path needs as much again.
    del path
    if refit and val is not None:
        head = RidgePath(stack(train, val), classes).head(alpha, temperature)
    if len(alphas) > 2 and best in (0, len(alphas) - 1):
        notes += (f"the chosen alpha = {alpha:g} lies at the end of the values tried",)
    chosen = {
        "alpha": alpha,
        "temperature": temperature,
    }
    if left_out is not None:
        chosen |= {"loo_accuracy": float(left_out.accuracy[0]), "loo_error": float(left_out.error[0])}
    part = "loo" if val is None else "val"
    rows = [
        {
            "alpha": float(alphas[i]),
            f"{part}_accuracy": float(choice.accuracy[i]),
            f"{part}_error": float(choice.error[i]),
        }
        for i in range(len(alphas))
    ]
    if val is not None and val.views:
        notes += ("alpha and its temperature were chosen on plain features, not on averages",)
    used_for = "choose alpha and a temperature" if len(alphas) > 1 else "choose a temperature"
    return FitOutcome(head, chosen, rows, val_probabilities, notes, val_used_for=used_for)


def held_bytes(size: FitSize, options: RidgeOptions, *, in_memory: bool) -> int:
    """The products of columns, or of rows where these are fewer, their axes, what LAPACK works in, and the
    values of the rows that alpha is chosen by."""
    rows, width = size.fitted, size.width
    own_rows = 4 * rows * width if rows < width and not in_memory else 0
    values = beyond_base(VALUES * 8 * size.classes * (size.val or size.train))
    return own_rows + 8 * (SQUARES * min(rows, width) ** 2 + 2 * size.classes * width) + values


class RidgePath:
    """Everything about ridge on these samples that does not depend on α, in float64.

    With Z (N, R) centred and orthogonal, ZᵀZ is diagonal, so W(α) = ZᵀY / (squares + α). Small α divide by
    differences that float32 does not have, above all with fewer rows than columns. The standardisation is
    that of all rows, also for those left out; the intercept is that of the rows kept.
    """

    def __init__(self, samples: Samples, classes: int) -> None:
        self.samples = samples
        self.classes = classes
        counts = np.bincount(samples.labels, minlength=classes)
        self.offset = 2 * counts / len(samples) - 1
        rows, columns = samples.features.shape
        self.axes: _Axes = _RowAxes(samples) if rows < columns else _ColumnAxes(samples, counts)
        self.products = self.axes.class_products(samples.labels, classes)

    def head(self, alpha: float, temperature: float) -> RidgeHead:
        axes, scale = self.axes, 1 / temperature
        weights = axes.weights(self._coefficients(np.array([alpha]))[:, 0]) * scale
        bias = self.offset * scale - axes.shift @ weights
        return RidgeHead(axes.mean, axes.scale, weights.astype(np.float32), bias.astype(np.float32))

    def values(self, samples: Samples, alpha: float) -> Float64s:
        """Regression values (N, C)."""
        return self._one(samples, alpha, left_out=False)

    def leave_one_out_values(self, alpha: float) -> Float64s:
        """Regression values (N, C) of each row by the fit on all others."""
        return self._one(self.samples, alpha, left_out=True)

    def score(self, samples: Samples, alphas: Float64s) -> _Score:
        """Accuracy and squared error on other samples for every α."""
        return self._scored(samples, alphas, left_out=False)

    def leave_one_out(self, alphas: Float64s) -> _Score:
        """Accuracy and squared error of every row by the fit on all others, for every α."""
        return self._scored(self.samples, alphas, left_out=True)

    def _coefficients(self, alphas: Float64s) -> Float64s:
        """(R, A, C)."""
        shrink = 1 / (self.axes.squares[:, None] + alphas)
        result: Float64s = shrink[:, :, None] * self.products[:, None, :]
        return result

    def _one(self, samples: Samples, alpha: float, *, left_out: bool) -> Float64s:
        found = np.empty((len(samples), self.classes))
        for rows, _, values in self._predictions(samples, np.array([alpha]), left_out=left_out):
            found[rows] = values[:, 0]
        return found

    def _scored(self, samples: Samples, alphas: Float64s, *, left_out: bool) -> _Score:
        right, error = np.zeros(len(alphas)), np.zeros(len(alphas))
        for rows, some, values in self._predictions(samples, alphas, left_out=left_out):
            own = samples.labels[rows]
            right[some] += (values.argmax(axis=2) == own[:, None]).sum(axis=0)
            # Σ(v − y)² with y = ±1 is Σ(v + 1)² − 4·(v of the own class).
            values_own = values[np.arange(len(own)), :, own].sum(axis=0)
            values += 1
            error[some] += np.einsum("nac,nac->a", values, values) - 4 * values_own
        return _Score(right / len(samples), error / (len(samples) * self.classes))

    def _predictions(
        self, samples: Samples, alphas: Float64s, *, left_out: bool
    ) -> Iterator[tuple[Where, slice, Float64s]]:
        """Rows, values of α, and the regression values (n, a, C) there: all of a path are N × A × C."""
        # Enough rows in a product that making the coefficients for it costs little beside it.
        together = max(1, BLOCK_ELEMENTS // (max(len(self.products), ENOUGH_ROWS) * self.classes))
        step = int(np.clip(BLOCK_ELEMENTS // (min(together, len(alphas)) * self.classes), 64, MOST_ROWS))
        for rows in _whole_units(samples, step) if left_out else _in_order(len(samples), step):
            inputs = self.axes.inputs(samples.features, rows, left_out)
            for first in range(0, len(alphas), together):
                some = slice(first, min(first + together, len(alphas)))
                coefficients = self._coefficients(alphas[some])
                values = (inputs @ coefficients.reshape(len(coefficients), -1)).reshape(
                    len(inputs), *coefficients.shape[1:]
                )
                values += self.offset
                if left_out:
                    self._leave_out(values, inputs, rows, alphas[some])
                yield rows, some, values

    def _leave_out(self, values: Float64s, inputs: Float64s, rows: Where, alphas: Float64s) -> None:
        """Values (n, A, C) of rows become those of each without itself and what belongs to it: y − (y − ŷ) /
        (1 − leverage)."""
        labels = self.samples.labels[rows]
        squares = self.axes.squares
        shares = inputs**2 / squares
        # 1 − leverage is what the fit leaves of the row. Along the axes α/(square + α), which subtracts
        # nothing; beside them, and beside the intercept, all of it.
        own = shares @ (alphas / (squares[:, None] + alphas))
        if len(squares) < len(self.samples) - 1:
            own += np.maximum(1 - 1 / len(self.samples) - shares.sum(axis=1), 0)[:, None]
        own = np.maximum(own, SMALLEST_SHARE)[:, :, None]
        target = np.full((len(labels), 1, self.classes), -1.0)
        target[np.arange(len(labels)), 0, labels] = 1
        values -= target
        together = [] if isinstance(rows, slice) else self._several(rows)
        for mine in together:
            values[mine] = self._without(inputs[mine], values[mine], alphas)
            own[mine] = 1
        values /= own
        values += target

    def _several(self, rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Places in `rows` of each unit of several rows."""
        assert self.samples.units is not None
        return [places for places in members_of(self.samples.units[rows]) if len(places) > 1]

    def _without(self, inputs: Float64s, residuals: Float64s, alphas: Float64s) -> Float64s:
        """Residuals (g, A, C) of a unit's rows by the fit without them, from those of the full fit."""
        squares = self.axes.squares
        directions = inputs / np.sqrt(squares)
        if len(inputs) > len(squares) + 1:
            return self._without_many(directions, residuals, alphas)
        # As for one row: what the fit leaves of the unit, along the axes and beside them.
        beside = np.zeros((len(inputs), len(inputs)))
        if len(squares) < len(self.samples) - 1:
            beside = np.eye(len(inputs)) - 1 / len(self.samples) - directions @ directions.T
        found = np.empty_like(residuals)
        for place, alpha in enumerate(alphas.tolist()):
            left = beside + (directions * (alpha / (squares + alpha))) @ directions.T
            found[:, place] = np.linalg.solve(left, residuals[:, place])
        return found

    def _without_many(self, directions: Float64s, residuals: Float64s, alphas: Float64s) -> Float64s:
        """The same for a unit of more rows than there are axes (R), by matrices (R + 1, R + 1) alone.

        With H = V Vᵀ, V (g, R + 1), the inverse of 1 − H is 1 + V (1 − Vᵀ V)⁻¹ Vᵀ (Woodbury): thousands of
        pictures of one clinic would otherwise be a matrix of the square of their number.
        """
        squares = self.axes.squares
        fitted = np.hstack([np.full((len(directions), 1), len(self.samples) ** -0.5), directions])
        products = fitted.T @ fitted
        found = np.empty_like(residuals)
        for place, alpha in enumerate(alphas.tolist()):
            share = np.sqrt(np.append(1.0, squares / (squares + alpha)))[:, None]
            inner = np.eye(len(share)) - share * products * share.T
            along = share * (fitted.T @ residuals[:, place])
            found[:, place] = residuals[:, place] + fitted @ (share * np.linalg.solve(inner, along))
        return found


def _in_order(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _whole_units(samples: Samples, step: int) -> Iterator[Where]:
    """About `step` rows at a time, no unit parted; in order where every row stands alone."""
    if samples.units is None or are_single(samples.units):
        yield from _in_order(len(samples), step)
        return
    members = members_of(samples.units)
    batch = np.cumsum([len(rows) for rows in members]) // step
    for number in np.unique(batch).tolist():
        first, last = np.searchsorted(batch, [number, number + 1])
        yield np.concatenate(members[first:last])


class _Axes(Protocol):
    """Principal axes of standardised, centred rows X (N, D): R directions with their sums of squares (R,).

    `mean` and `scale` (D,) standardise in float32; `shift` (D,) is what is left of the mean after that.
    """

    mean: Floats
    scale: Floats
    shift: Float64s
    squares: Float64s

    def class_products(self, labels: Labels, classes: int) -> Float64s:
        """(R, C) products of the axes' inputs with centred ±1 targets."""
        ...

    def inputs(self, features: Features, rows: Where, own: bool) -> Float64s:
        """Rows of features along the axes, (n, R); `own` for those the axes were made from."""
        ...

    def weights(self, coefficients: Float64s) -> Float64s:
        """Coefficients (R, C) along the axes -> (D, C) of the standardised features."""
        ...


class _ColumnAxes:
    """From the covariance (D, D), with no more columns than rows."""

    def __init__(self, samples: Samples, counts: NDArray[np.intp]) -> None:
        self.mean, self.scale = moments(samples.features)
        rows, width = samples.features.shape
        gram, self._sums = np.zeros((width, width)), np.zeros((len(counts), width))
        for where, block in _small_blocks(samples.features):
            standard = exactly_standardised(block, self.mean, self.scale)
            gram += standard.T @ standard
            self._sums += class_sums(standard, samples.labels[where], len(counts))
        self.shift = self._sums.sum(axis=0) / rows
        self._sums -= counts[:, None] * self.shift
        gram -= rows * np.outer(self.shift, self.shift)
        self.squares, self._vectors = _principal(gram, rows)

    def class_products(self, labels: Labels, classes: int) -> Float64s:
        # The inputs are centred, so that the −1 of the targets and their mean drop out.
        return 2 * self._vectors.T @ self._sums.T

    def inputs(self, features: Features, rows: Where, own: bool) -> Float64s:
        standard = exactly_standardised(features[rows], self.mean, self.scale)
        standard -= self.shift
        return standard @ self._vectors

    def weights(self, coefficients: Float64s) -> Float64s:
        return self._vectors @ coefficients


class _RowAxes:
    """From the products of the rows with each other (N, N), with fewer rows than columns.

    The axes are combinations of the rows and are never written out in their D columns.
    """

    def __init__(self, samples: Samples) -> None:
        self.mean, self.scale = moments(samples.features)
        rows, width = samples.features.shape
        self._rows: Floats = np.asarray(samples.features[0:rows], dtype=np.float32)
        self.shift = np.zeros(width)
        gram = np.zeros((rows, rows))
        for columns in _column_blocks(width):
            self.shift[columns] = self._standard(self._rows, columns).mean(axis=0)
            block = self._standard(self._rows, columns)
            gram += block @ block.T
        self.squares, self._vectors = _principal(gram, width)

    def class_products(self, labels: Labels, classes: int) -> Float64s:
        return 2 * np.sqrt(self.squares)[:, None] * class_sums(self._vectors, labels, classes).T

    def inputs(self, features: Features, rows: Where, own: bool) -> Float64s:
        if own:
            return self._vectors[rows] * np.sqrt(self.squares)
        others = np.asarray(features[rows], dtype=np.float32)
        products = np.zeros((len(others), len(self._rows)))
        for columns in _column_blocks(others.shape[1]):
            products += self._standard(others, columns) @ self._standard(self._rows, columns).T
        return products @ (self._vectors / np.sqrt(self.squares))

    def weights(self, coefficients: Float64s) -> Float64s:
        by_row = (self._vectors / np.sqrt(self.squares)) @ coefficients
        found = np.empty((self._rows.shape[1], coefficients.shape[1]))
        for columns in _column_blocks(len(found)):
            found[columns] = self._standard(self._rows, columns).T @ by_row
        return found

    def _standard(self, rows: Floats, columns: slice) -> Float64s:
        standard = exactly_standardised(rows[:, columns], self.mean[columns], self.scale[columns])
        standard -= self.shift[columns]
        return standard


def _principal(gram: Float64s, other: int) -> tuple[Float64s, Float64s]:
    """Positive eigenvalues (R,), falling, of a symmetric matrix (n, n), and their vectors (n, R).

    What is beneath the rounding of the products of `other` terms counts as zero.
    """
    values, vectors = np.linalg.eigh(gram)
    smallest = max(len(gram), other) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    kept = np.flatnonzero(values > smallest)[::-1]
    return values[kept], np.ascontiguousarray(vectors[:, kept])


def _small_blocks(features: Features) -> Iterator[tuple[slice, Floats]]:
    for rows, block in blocks(features):
        for start in range(0, len(block), MOST_ROWS):
            part = block[start : start + MOST_ROWS]
            yield slice(rows.start + start, rows.start + start + len(part)), part


def _column_blocks(width: int) -> Iterator[slice]:
    return (slice(start, min(start + MOST_COLUMNS, width)) for start in range(0, width, MOST_COLUMNS))
