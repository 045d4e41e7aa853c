"""The rules of a training: optimiser, learning rate, when to stop, which epoch to keep, precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.errors import UsageError
from probe.train.schedule import CONSTANT, parse_schedule

DEFAULT_RATES: Mapping[str, float] = {
    "sgd": 1e-2,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamax": 1e-3,
    "nadam": 1e-3,
    "adagrad": 1e-3,
    "adadelta": 1e-3,
}
"""The optimisers there are, with Keras's own default learning rates."""

KEEP = ("val_accuracy", "val_loss", "last")
"""Which epoch's weights are kept: the best by a validation figure, or the last."""

MONITORS = ("loss", "accuracy", "val_loss", "val_accuracy")

POLICIES: Mapping[str, str] = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}
"""Precision to the Keras dtype policy of the hidden layers; weights and output stay float32."""


@dataclass(frozen=True)
class Optimiser:
    """`lr` falls as lr / (1 + decay · step), the `decay` of Keras before version 3, or along `schedule`.

    `schedule` is read by `probe.train.schedule.parse_schedule`.
    """

    name: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    schedule: str = CONSTANT


@dataclass(frozen=True)
class EarlyStop:
    """Stop once `monitor` has not improved for `patience` epochs."""

    monitor: str
    patience: int


@dataclass(frozen=True)
class ReduceLr:
    """Multiply the rate by `factor` after `patience` epochs without improvement, down to `min_lr`."""

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 5
    min_lr: float = 0.0


def check_rate_rules(optimiser: Optimiser, reduce_lr: ReduceLr | None) -> None:
    """UsageError when more than one rule moves the learning rate, or the schedule cannot be read."""
    scheduled = parse_schedule(optimiser.schedule).kind != CONSTANT
    ruled = {"decay": optimiser.decay, "a schedule": scheduled, "a plateau": reduce_lr}
    rules = [name for name, given in ruled.items() if given]
    if len(rules) > 1:
        raise UsageError(
            f"the learning rate cannot follow both {' and '.join(rules)}", expected="one of them at most"
        )
