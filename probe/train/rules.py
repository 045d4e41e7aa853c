"""The rules of a training: optimiser, learning rate, when to stop, which epoch to keep, precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from probe.config import canonical_json
from probe.errors import UsageError, unknown_name
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

WITH_MOMENTUM = ("sgd", "rmsprop")

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


def check_keep(keep: str) -> None:
    """UnknownNameError unless `keep` is one of `KEEP`."""
    if keep not in KEEP:
        raise unknown_name("epoch to keep", keep, KEEP)


@dataclass(frozen=True)
class LoopSettings:
    """How `probe.train.loop.fit_loop` trains a model.

    Attributes
    ----------
    loss : Keras name, ``sparse_categorical_crossentropy`` or ``binary_crossentropy``.
    stops, reduce_lr : what ends the training early, and what lowers its rate.
    keep : the epoch whose weights are kept, one of `KEEP`.
    class_weights : class -> weight of its images in the loss.
    clip_norm : largest norm of the whole gradient, None for no limit.
    scale_loss : scale the loss against underflow; needed with float16 compute, not with bfloat16.
    one_pass : weights are updated as `probe.train.one_pass` does it, which rounds otherwise than Keras.

    UsageError, at once, for what no training could follow.
    """

    optimiser: Optimiser
    epochs: int
    loss: str = "sparse_categorical_crossentropy"
    stops: tuple[EarlyStop, ...] = ()
    reduce_lr: ReduceLr | None = None
    keep: str = "val_accuracy"
    class_weights: Mapping[int, float] | None = None
    clip_norm: float | None = None
    scale_loss: bool = False
    one_pass: bool = False

    def __post_init__(self) -> None:
        check_keep(self.keep)
        if self.optimiser.name not in DEFAULT_RATES:
            raise unknown_name("optimiser", self.optimiser.name, DEFAULT_RATES)
        if self.optimiser.momentum and self.optimiser.name not in WITH_MOMENTUM:
            raise UsageError(f"{self.optimiser.name} has no momentum to set", hint="use sgd or rmsprop")
        check_rate_rules(self.optimiser, self.reduce_lr)

    def check(self, *, has_validation: bool) -> None:
        """UsageError when a figure is watched that there is not without a validation part."""
        watched = [self.keep, *(rule.monitor for rule in self.stops)]
        if self.reduce_lr:
            watched.append(self.reduce_lr.monitor)
        missing = [monitor for monitor in watched if monitor.startswith("val_")]
        if missing and not has_validation:
            raise UsageError(
                f"{missing[0]} is watched, but there is no validation part",
                hint="carve one from the training part, or keep the last epoch",
            )

    def identity(self, training: str) -> str:
        """What a state of `training` must agree on; not the epochs, so that a training can be prolonged.

        A schedule that ends with the last epoch is another one when that epoch moves.
        """
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if not parse_schedule(self.optimiser.schedule).needs_end:
            del plain["epochs"]
        if not self.one_pass:  # as before there was the choice
            del plain["one_pass"]
        return canonical_json([training, plain])

    def keras_optimiser(self, steps: int) -> Any:
        """The Keras optimiser for epochs of `steps` batches."""
        from probe.tensorflow_setup import keras, pin
        from probe.train.one_pass import one_pass

        pin()
        asked = self.optimiser
        # Keras 3 dropped the `decay` argument of its optimisers; this is what it meant.
        inverse = keras.optimizers.schedules.InverseTimeDecay
        rate = (
            inverse(asked.lr, 1, asked.decay)
            if asked.decay
            else parse_schedule(asked.schedule).keras_rate(asked.lr, steps, self.epochs)
        )
        extra: dict[str, Any] = {}
        if asked.momentum:
            extra["momentum"] = asked.momentum
        if asked.nesterov and asked.name == "sgd":
            extra["nesterov"] = True
        kind = type(keras.optimizers.get(asked.name))
        if self.one_pass:
            kind = one_pass(kind)
        made = kind(learning_rate=rate, global_clipnorm=self.clip_norm, **extra)
        return keras.optimizers.LossScaleOptimizer(made) if self.scale_loss else made
