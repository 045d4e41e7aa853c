"""Ridge regression on ±1 targets: the whole path of α from one eigendecomposition.

It minimises  ‖Y − Z W − b‖² + α‖W‖²  over standardised features, Y being +1 for the own class and −1 for the
others, as scikit-learn's RidgeClassifier does. In principal axes the solution is diagonal, and leaving one
row out has a closed form (Golub, Heath & Wahba 1979): its residual is the full fit's / (1 − leverage).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.heads.head import FitOutcome, Floats, Labels, Samples, stack
from probe.heads.linear import LinearHead
from probe.heads.rotation import Rotation
from probe.stats.calibration import fit_temperature

GRID = tuple(float(alpha) for alpha in np.logspace(-2, 8, 45))
BLOCK_ELEMENTS = 1 << 22
"""Predictions held at a time (rows × values of α × classes)."""


@dataclass(frozen=True)
class RidgeOptions:
    """How to fit ridge regression.

    Attributes
    ----------
    alpha : penalties to try, every one of them; empty for 45 values from 1e-2 to 1e8.
    """

    alpha: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wrong = [alpha for alpha in self.alpha if not 0 < alpha < float("inf")]
        if wrong:
            raise FitError(
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

    Among equals the smaller squared error decides.
    """
    alphas = np.array(sorted(options.alpha or GRID))
    path = RidgePath(train, classes)
    choice = path.leave_one_out(alphas) if val is None else path.score(val, alphas)
    best = max(range(len(alphas)), key=lambda i: (choice.accuracy[i], -choice.error[i]))
    alpha = float(alphas[best])
    if val is None:
        logits, labels = path.leave_one_out_values(alpha), train.labels
    else:
        logits, labels = path.values(val, alpha), val.labels
    # With validation rows to choose by, the path is spared the leave-one-out predictions of all other values.
    left_out = path.leave_one_out(alphas[[best]])
    temperature = fit_temperature(logits, labels)
    head = path.head(alpha, temperature)
    val_probabilities = None if val is None else head.predict_proba(val.features)
    if refit and val is not None:
        head = RidgePath(stack(train, val), classes).head(alpha, temperature)
    notes: tuple[str, ...] = ()
    if len(alphas) > 2 and best in (0, len(alphas) - 1):
        notes = (f"the chosen alpha = {alpha:g} lies at the end of the values tried",)
    chosen = {
        "alpha": alpha,
        "temperature": temperature,
        "loo_accuracy": float(left_out.accuracy[0]),
        "loo_error": float(left_out.error[0]),
    }
    part = "loo" if val is None else "val"
    rows = [
        {
            "alpha": float(alphas[i]),
            f"{part}_accuracy": float(choice.accuracy[i]),
            f"{part}_error": float(choice.error[i]),
        }
        for i in range(len(alphas))
    ]
    return FitOutcome(head, chosen, rows, val_probabilities, notes)


class RidgePath:
    """Everything about ridge on these samples that does not depend on α.

    With Z (N, R) centred and orthogonal, ZᵀZ is diagonal, so W(α) = ZᵀY / (variance·N + α).
    """

    def __init__(self, samples: Samples, classes: int) -> None:
        self.samples = samples
        self.classes = classes
        self.rotation = Rotation.of(samples.features)
        self.inputs = self.rotation.inputs(samples.features)[:, :-1]
        targets = np.full((len(samples), classes), -1, dtype=np.float32)
        targets[np.arange(len(samples)), samples.labels] = 1
        self.offset = targets.mean(axis=0)
        self.products = self.inputs.T @ (targets - self.offset)
        self.squares = np.einsum("nr,nr->r", self.inputs, self.inputs).astype(np.float64)

    def coefficients(self, alphas: NDArray[np.float64]) -> Floats:
        """(R, A, C)."""
        shrink = (1 / (self.squares[:, None] + alphas)).astype(np.float32)
        result: Floats = shrink[:, :, None] * self.products[:, None, :]
        return result

    def head(self, alpha: float, temperature: float) -> RidgeHead:
        weights = self.rotation.axes @ self.coefficients(np.array([alpha]))[:, 0]
        scale = np.float32(1 / temperature)
        return RidgeHead(self.rotation.mean, self.rotation.scale, weights * scale, self.offset * scale)

    def values(self, samples: Samples, alpha: float) -> Floats:
        """Regression values (N, C)."""
        inputs = self.rotation.inputs(samples.features)[:, :-1]
        return inputs @ self.coefficients(np.array([alpha]))[:, 0] + self.offset

    def leave_one_out_values(self, alpha: float) -> Floats:
        """Regression values (N, C) of each row by the fit on all others."""
        alphas = np.array([alpha])
        return self._left_out(slice(None), self.coefficients(alphas), self._inverse(alphas))[:, 0]

    def score(self, samples: Samples, alphas: NDArray[np.float64]) -> _Score:
        """Accuracy and squared error on other samples for every α."""
        inputs = self.rotation.inputs(samples.features)[:, :-1]
        coefficients = self.coefficients(alphas)
        return self._scored(
            samples.labels, len(alphas), lambda rows: self._predicted(inputs[rows], coefficients)
        )

    def leave_one_out(self, alphas: NDArray[np.float64]) -> _Score:
        """Accuracy and squared error of every row by the fit on all others, for every α."""
        coefficients, inverse = self.coefficients(alphas), self._inverse(alphas)
        return self._scored(
            self.samples.labels, len(alphas), lambda rows: self._left_out(rows, coefficients, inverse)
        )

    def _inverse(self, alphas: NDArray[np.float64]) -> Floats:
        inverse: Floats = (1 / (self.squares[:, None] + alphas)).astype(np.float32)
        return inverse

    def _left_out(self, rows: slice, coefficients: Floats, inverse: Floats) -> Floats:
        """(n, A, C) values of the rows, each without itself: y − (y − ŷ) / (1 − leverage)."""
        inputs, labels = self.inputs[rows], self.samples.labels[rows]
        predicted = self._predicted(inputs, coefficients)
        leverage = 1 / len(self.inputs) + (inputs**2) @ inverse
        own = np.maximum(1 - leverage, 1e-6)[:, :, None]
        target = np.full((len(labels), 1, self.classes), -1, dtype=np.float32)
        target[np.arange(len(labels)), 0, labels] = 1
        result: Floats = target - (target - predicted) / own
        return result

    def _predicted(self, inputs: Floats, coefficients: Floats) -> Floats:
        """(n, A, C)."""
        flat = inputs @ coefficients.reshape(len(coefficients), -1)
        values: Floats = flat.reshape(len(inputs), *coefficients.shape[1:])
        values += self.offset
        return values

    def _scored(self, labels: Labels, count: int, predict: Any) -> _Score:
        """Block by block, since all predictions of a path are N × A × C."""
        block = max(1, BLOCK_ELEMENTS // (count * self.classes))
        right, error = np.zeros(count), np.zeros(count)
        for start in range(0, len(labels), block):
            rows = slice(start, start + block)
            values, own = predict(rows), labels[rows]
            right += (values.argmax(axis=2) == own[:, None]).sum(axis=0)
            # Σ(v − y)² with y = ±1 is Σ(v + 1)² − 4·(v of the own class).
            values_own = values[np.arange(len(own)), :, own].sum(axis=0)
            values += 1
            error += np.einsum("nac,nac->a", values, values) - 4 * values_own
        return _Score(right / len(labels), error / (len(labels) * self.classes))
