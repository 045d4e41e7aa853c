"""A recipe is an experiment as data: everything `probe.studies.trainer` needs, and what was published."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from probe.errors import UsageError, unknown_name
from probe.images.augment import parse_augment
from probe.networks import format_network, parse, replace_activation
from probe.networks.notation import ACTIVATIONS
from probe.runs.record import Published
from probe.train.rules import DEFAULT_RATES, EarlyStop, Optimiser, ReduceLr
from probe.train.schedule import parse_schedule

NORMALISATIONS = ("unit", "norm", "pixelwise", "raw")
"""Pixels to [0, 1]; mean 0 and deviation 1 over the training part, per channel or at every place of
the picture by itself; 0 … 255 as they are."""


@dataclass(frozen=True)
class Ran:
    """How the study's own training went, for comparison of curves.

    `epochs` it ran; the best validation accuracy, and the epoch of it, where the study shows them.
    """

    epochs: int
    val_accuracy: float | None = None
    best_epoch: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Experiments whose curves the study draws over one another; `rows` are their names."""

    title: str
    rows: tuple[str, ...]


DIGITS = 9
"""Of a whole number, at most."""


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes
    ----------
    name : ``<study>/<experiment>``.
    summary : one line for ``probe baseline list``.
    data : name of the data set it is defined on.
    network : network string, without the output layer; ``""`` for rows that are run by `commands`.
    size, channels, classes : of the input and the output; adapted when it runs on other data.
    normalise : one of `NORMALISATIONS`, fitted on the training part.
    augment : augmentation of the training part, as `parse_augment` reads it.
    stops : early stopping; the first that is due ends the training.
    keep : which epoch is scored, one of `KEEP`.
    epochs : passes over the training part, at most; 0 for a head that is solved and not trained.
    kernel_l2 : L2 penalty on every kernel but the last.
    validation : share of the published training part that becomes validation where the data set has none; 0
        for a study that trains on all of it.
    binary : one sigmoid unit instead of a softmax.
    params, trainable : golden counts of the whole network, output layer included.
    published : what the study reports.
    source : where it reports it.
    ran : how the study's own training went, where that is known.
    sweep : (field, values) pairs for the rows that are a grid, values as `override` reads them.
    folds : cross-validation folds over training and validation part; 0 for none.
    commands : the command lines of a transfer experiment, in order; such a row is not run by the trainer.
    ours : what the study leaves open and had to be chosen here.
    differs : where the study did something that this recipe does not do.
    """

    name: str
    summary: str
    data: str
    network: str = ""
    size: int = 32
    channels: int = 3
    classes: int = 10
    normalise: str = "unit"
    augment: str = "none"
    optimiser: Optimiser = field(default_factory=Optimiser)
    stops: tuple[EarlyStop, ...] = ()
    reduce_lr: ReduceLr | None = None
    keep: str = "val_accuracy"
    epochs: int = 100
    batch_size: int = 32
    kernel_l2: float = 0.0
    validation: float = 0.1
    binary: bool = False
    params: int | None = None
    trainable: int | None = None
    published: tuple[Published, ...] = ()
    source: str = ""
    ran: Ran | None = None
    sweep: tuple[tuple[str, tuple[str, ...]], ...] = ()
    folds: int = 0
    commands: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def study(self) -> str:
        return self.name.partition("/")[0]

    @property
    def kind(self) -> str:
        """``transfer`` (run by `commands`), ``sweep`` (a grid or folds) or ``train``."""
        if self.commands:
            return "transfer"
        return "sweep" if self.sweep or self.folds else "train"

    @property
    def command_lines(self) -> tuple[str, ...]:
        """What a user types to run it, in order."""
        verb = "sweep" if self.kind == "sweep" else "baseline run"
        return self.commands or (f"probe {verb} {self.name}",)

    def settings(self) -> dict[str, Any]:
        """What decides the trained network, as plain JSON values; part of the identity of a run."""
        described = ("summary", "data", "params", "trainable", "published", "source", "ran")
        planned = ("sweep", "folds", "commands", "ours", "differs", "validation")
        return {k: v for k, v in asdict(self).items() if k not in (*described, *planned, "name")}


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """The recipe with fields replaced, values as text: what ``--set`` and sweeps do.

    `changes` maps a name in `FIELDS` to its value; the order does not matter, a learning rate is set after
    the optimiser that would reset it. Golden counts and published figures no longer hold and are dropped.
    Raises UsageError for an unknown field or a value that cannot be read.
    """
    for name in changes:
        if name not in FIELDS:
            raise unknown_name("recipe field", name, FIELDS)
    for name, change in FIELDS.items():
        if name in changes:
            recipe = change(recipe, changes[name].strip())
    return replace(recipe, params=None, trainable=None, published=()) if changes else recipe


def _network(recipe: Recipe, text: str) -> Recipe:
    return replace(recipe, network=format_network(parse(text)))


def _activation(recipe: Recipe, text: str) -> Recipe:
    names = tuple(ACTIVATIONS.values())
    if text not in names:
        raise unknown_name("activation", text, names)
    return replace(recipe, network=format_network(replace_activation(parse(recipe.network), text)))


def _optimiser(recipe: Recipe, text: str) -> Recipe:
    if text not in DEFAULT_RATES:
        raise unknown_name("optimiser", text, DEFAULT_RATES)
    return replace(recipe, optimiser=Optimiser(text, DEFAULT_RATES[text]))


def _schedule(recipe: Recipe, text: str) -> Recipe:
    parse_schedule(text)
    return replace(recipe, optimiser=replace(recipe.optimiser, schedule=text))


def _augment(recipe: Recipe, text: str) -> Recipe:
    parse_augment(text)
    return replace(recipe, augment=text)


def _normalise(recipe: Recipe, text: str) -> Recipe:
    if text not in NORMALISATIONS:
        raise unknown_name("normalisation", text, NORMALISATIONS)
    return replace(recipe, normalise=text)


def _whole(field: str) -> Callable[[Recipe, str], Recipe]:
    def change(recipe: Recipe, text: str) -> Recipe:
        # Python makes no number of thousands of digits.
        if not text.isdecimal() or len(text) > DIGITS or int(text) < 1:
            raise UsageError(f"{field} cannot be {text[:40]!r}", expected="a whole number of 1 or more")
        return replace(recipe, **{field: int(text)})  # type: ignore[arg-type]

    return change


def _fraction(recipe_field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"{recipe_field} cannot be {text!r}", expected="a number of 0 or more")
    return number


FIELDS: Mapping[str, Callable[[Recipe, str], Recipe]] = {
    "network": _network,
    "activation": _activation,
    "size": _whole("size"),
    "augment": _augment,
    "normalise": _normalise,
    "optimiser": _optimiser,
    "lr": lambda r, text: replace(r, optimiser=replace(r.optimiser, lr=_fraction("lr", text))),
    "momentum": lambda r, text: replace(
        r, optimiser=replace(r.optimiser, momentum=_fraction("momentum", text))
    ),
    "schedule": _schedule,
    "kernel_l2": lambda r, text: replace(r, kernel_l2=_fraction("kernel_l2", text)),
    "batch_size": _whole("batch_size"),
    "epochs": _whole("epochs"),
}
"""What can be set on a recipe, in the order in which it is applied."""
