"""How the learning rate moves over a training, step by step; Keras's own schedules, counted in epochs.

* ``constant``        stays as it is;
* ``cosine``          falls along half a cosine to 0 at the last epoch; ``cosine=2`` first rises for 2 epochs;
* ``linear``          falls in a straight line to 0 at the last epoch;
* ``exponential=f``   is multiplied by f in the course of every epoch;
* ``step=f:n``        is multiplied by f after every n epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from probe.errors import UsageError

CONSTANT, COSINE, LINEAR, EXPONENTIAL, STEP = "constant", "cosine", "linear", "exponential", "step"
_EXPECTED = "constant, cosine, cosine=WARMUP_EPOCHS, linear, exponential=FACTOR or step=FACTOR:EPOCHS"


@dataclass(frozen=True)
class Schedule:
    """A schedule as read.

    Attributes
    ----------
    factor : what the rate is multiplied by, above 0 and below 1; of ``exponential`` and ``step``.
    epochs : warm-up of ``cosine``, or the distance of two steps.
    """

    kind: str
    factor: float = 1.0
    epochs: int = 0

    @property
    def needs_end(self) -> bool:
        """Whether the rate depends on the number of epochs planned."""
        return self.kind in (COSINE, LINEAR)

    def keras_rate(self, rate: float, steps: int, epochs: int) -> Any:
        """What a Keras optimiser takes as ``learning_rate``: `steps` an epoch, `epochs` planned."""
        from probe.tensorflow_setup import keras

        schedules, total = keras.optimizers.schedules, steps * epochs
        if self.kind == COSINE and self.epochs:
            warm = min(self.epochs, epochs - 1) * steps
            return schedules.CosineDecay(0.0, total - warm, warmup_target=rate, warmup_steps=warm)
        if self.kind == COSINE:
            return schedules.CosineDecay(rate, total)
        if self.kind == LINEAR:
            return schedules.PolynomialDecay(rate, total, end_learning_rate=0.0)
        if self.kind == EXPONENTIAL:
            return schedules.ExponentialDecay(rate, steps, self.factor)
        if self.kind == STEP:
            return schedules.ExponentialDecay(rate, self.epochs * steps, self.factor, staircase=True)
        return rate


def parse_schedule(text: str) -> Schedule:
    """Read one of the forms above; UsageError for anything else."""
    kind, _, value = text.strip().partition("=")
    try:
        return _READ[kind](kind, value)
    except (KeyError, ValueError):
        raise UsageError("the schedule cannot be read", expected=_EXPECTED, found=text) from None


def _bare(kind: str, value: str) -> Schedule:
    if value:
        raise ValueError(value)
    return Schedule(kind)


def _cosine(kind: str, value: str) -> Schedule:
    return Schedule(kind, epochs=_whole(value)) if value else Schedule(kind)


def _exponential(kind: str, value: str) -> Schedule:
    return Schedule(kind, _factor(value))


def _step(kind: str, value: str) -> Schedule:
    factor, _, epochs = value.partition(":")
    return Schedule(kind, _factor(factor), _whole(epochs))


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 < factor < 1:
        raise ValueError(text)
    return factor


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_READ = {CONSTANT: _bare, COSINE: _cosine, LINEAR: _bare, EXPONENTIAL: _exponential, STEP: _step}
