"""A backbone as a user may say it: a name, a saved model, a function, or a run of ``probe finetune``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.config import Home
from probe.datasets.dataset import Dataset
from probe.errors import ProbeError, UnknownNameError
from probe.runs import FINE_TUNED, Run, find_run, network_file
from probe.runs.record import NetworkFacts, TuneFacts
from probe.workspace.context import Context

if TYPE_CHECKING:
    from probe.backbones.backbone import BackboneSpec


@dataclass(frozen=True)
class Choice:
    """What `probe.backbones.resolve` is called with; None leaves a choice to the backbone.

    ``features`` is the layer that a fine-tuned network's embeddings come from.
    """

    name: str
    size: int | None
    preprocess: str | None
    features: str | None = None


def choose(context: Context, name: str, size: int | None, preprocess: str | None) -> Choice:
    """Look a name up among the backbones, and then among the fine-tuned runs; call it where it is a function.

    UnknownNameError lists the backbones when it is neither, WeightsError is raised for a network that is not
    the one its run scored.
    """
    from probe.backbones import find_row
    from probe.backbones.user_function import is_function, saved_model

    if is_function(name):
        path = saved_model(name, context.home)
        context.say(f"{name} was called: its model is {path}")
        return Choice(str(path), size, preprocess)
    try:
        find_row(name)
    except UnknownNameError:
        found = _fine_tuned(context.home, name)
        if found is None:
            raise
        run, network = found
        return Choice(str(network_file(run)), size, preprocess or network.preprocess, network.features)
    return Choice(name, size, preprocess)


def _fine_tuned(home: Home, name: str) -> tuple[Run, NetworkFacts] | None:
    try:
        run = find_run(home, name, lambda run: run.record.kind == FINE_TUNED)
    except ProbeError:
        return None
    facts = run.record.facts
    return (run, facts.network) if isinstance(facts, TuneFacts) else None


def standardised(preprocess: str | None, dataset: Dataset, size: int, exif: bool) -> str | None:
    """``standardise`` with the numbers of the training part; any other preprocessing as it is."""
    from probe.extract import STANDARDISE, training_standardisation

    if preprocess != STANDARDISE:
        return preprocess
    return training_standardisation(dataset, size, exif=exif)


def check_choice(choice: Choice, *, outputs: list[str] | None, precision: str, engine: str) -> None:
    """Errors that need no data set, before one is read and hashed."""
    from probe.backbones import check
    from probe.extract import STANDARDISE

    # Any other name does: which numbers standardise the pictures is not known yet.
    preprocess = "none" if choice.preprocess == STANDARDISE else choice.preprocess
    check(
        choice.name,
        size=choice.size,
        preprocess=preprocess,
        outputs=outputs,
        precision=precision,
        engine=engine,
    )


def resolve_choice(
    home: Home,
    choice: Choice,
    dataset: Dataset,
    *,
    weights: str,
    outputs: list[str] | None,
    precision: str,
    exif: bool,
    engine: str = "auto",
) -> BackboneSpec:
    """`probe.backbones.resolve`, with ``standardise`` worked out on the data set."""
    from probe.backbones import find_row, resolve

    size = choice.size or find_row(choice.name).size
    return resolve(
        choice.name,
        size=choice.size,
        preprocess=standardised(choice.preprocess, dataset, size, exif),
        weights=weights,
        outputs=outputs or ([choice.features] if choice.features else None),
        precision=precision,
        engine=engine,
        home=home,
    )
