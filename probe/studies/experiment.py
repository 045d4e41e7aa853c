"""A recipe from its data set to a run on disk: trained once, resumed after a kill, scored once."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe.config import Home, canonical_json, own_place
from probe.curves import CURVES, Course, plot_curves
from probe.datasets import DatasetOptions
from probe.errors import UsageError
from probe.images.path import POLICY
from probe.records import without_nan
from probe.runs import (
    BASELINE,
    NETWORK_FILES,
    Predictions,
    Record,
    Run,
    find_finished,
    scores,
    write_run,
)
from probe.runs.record import Epochs, InputFacts, TrainFacts
from probe.runs.weight import part_notes
from probe.stats.intervals import mean_share_interval
from probe.store import slug
from probe.studies.recipe import Recipe
from probe.studies.trainer import TrainOutcome, build_model, train
from probe.train.loop import OnEpoch
from probe.train.pixels import DataSource, Pixels

IDENTITY_VERSION = 1
MODEL = NETWORK_FILES[BASELINE]


@dataclass(frozen=True)
class Experiment:
    """One training of a recipe.

    Attributes
    ----------
    pixels : the images at the recipe's size, as they are trained on.
    epochs : at most so many, None for the recipe's.
    resume : go on from an unfinished training, and do not repeat a finished one.
    """

    recipe: Recipe
    pixels: Pixels
    seed: int = 0
    epochs: int | None = None
    precision: str = "fp32"
    resume: bool = True

    @property
    def planned(self) -> Recipe:
        """The recipe with its number of epochs."""
        return replace(self.recipe, epochs=self.epochs or self.recipe.epochs)

    def identity(self) -> str:
        """sha256 of all that decides the result."""
        data = self.pixels.data.digest()
        parts = [IDENTITY_VERSION, self.planned.settings(), data, self.seed, self.precision]
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Counts:
    """Numbers of weights of the whole network, output layer included; None where only its command can say."""

    params: int | None
    trainable: int | None

    @property
    def frozen(self) -> int | None:
        return None if self.params is None or self.trainable is None else self.params - self.trainable


def count_params(recipe: Recipe) -> Counts:
    """Of the recipe on its own data: counted on the network, or as stated for a transfer experiment."""
    if recipe.kind == "transfer":
        return Counts(recipe.params, recipe.trainable)
    model = build_model(recipe)
    return Counts(model.count_params(), _size(model.trainable_weights))


def run_experiment(
    experiment: Experiment,
    home: Home,
    on_epoch: OnEpoch | None = None,
    *,
    progress: bool = False,
) -> tuple[Run, bool]:
    """Train, score and keep; the run, and whether it was there before.

    A state is written after every epoch, below ``PROBE_HOME/cache/training``, and removed when the run is
    kept. Raises UsageError for a recipe that is not one training, DataError for data that cannot be used.
    """
    check_trainable(experiment.recipe)
    started = time.perf_counter()
    pixels, identity = experiment.pixels, experiment.identity()
    done = find_finished(home, identity) if experiment.resume else None
    if done is not None:
        return done, True
    work = own_place(home.cache, "training", identity[:32])
    outcome = train(
        experiment.planned,
        pixels.data,
        seed=experiment.seed,
        precision=experiment.precision,
        folder=work,
        resume=experiment.resume,
        on_epoch=on_epoch,
        progress=progress,
    )
    test = outcome.predict("test", pixels)
    seconds = round(time.perf_counter() - started, 3)
    record = replace(_record(experiment, outcome, test), identity=identity, seconds=seconds)

    def write_more(folder: Path) -> None:
        course = Course(outcome.history, outcome.kept_epoch)
        plot_curves({experiment.recipe.name: course}, folder / CURVES)
        outcome.model.save(folder / MODEL)

    label = f"{slug(experiment.recipe.name)}-{slug(pixels.dataset.name)}-s{experiment.seed}"
    run = write_run(home, label, record, test, write_more)
    shutil.rmtree(work, ignore_errors=True)
    return run, False


def source_of(
    recipe: Recipe, home: Home, spec: str | None = None, options: DatasetOptions | None = None
) -> DataSource:
    """The data a recipe is run on: its own, or the data set `spec` in its place.

    Validation is the recipe's share of train where the set has none. On its own data a recipe keeps its
    channels, since its published count of weights belongs to them.
    """
    options = replace(options or DatasetOptions(), validation=recipe.validation)
    own = spec in (None, recipe.data)
    return DataSource(spec or recipe.data, home, options, keep_colour=own and recipe.channels == 3)


def check_trainable(recipe: Recipe) -> None:
    """UsageError for a recipe that is a grid or is run by other commands."""
    if recipe.kind == "transfer":
        raise UsageError(
            f"{recipe.name} is not trained from scratch", hint="run " + "; then ".join(recipe.commands)
        )
    if recipe.kind == "sweep":
        raise UsageError(f"{recipe.name} is a sweep, not one training", hint=f"probe sweep {recipe.name}")


def seed_summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Mean test accuracy over runs that differ in their seed, with its spread and Student-t interval.

    Spread and interval are None for fewer than two; they say how much chance in training matters, not how
    large the test set is.
    """
    values = [run.test.accuracy for run in runs if run.test is not None]
    low, high = mean_share_interval(values)
    several = len(values) > 1
    return {
        "runs": [run.name for run in runs],
        "accuracies": values,
        "mean": float(np.mean(values)) if values else None,
        "spread": float(np.std(values, ddof=1)) if several else None,
        "low": low if several else None,
        "high": high if several else None,
    }


def _record(experiment: Experiment, outcome: TrainOutcome, test: Predictions) -> Record:
    """The result of a training, but for its identity and the seconds."""
    recipe, pixels = experiment.planned, experiment.pixels
    dataset, val = pixels.dataset, outcome.predict("val", pixels)
    return Record(
        kind=BASELINE,
        head=recipe.name,
        chosen={"epoch": outcome.kept_epoch},
        test=scores(test),
        val=scores(val),
        parts={name: len(ids) for name, ids in pixels.ids.items()},
        notes=(
            *dataset.notes,
            *(f"differs from the study: {line}" for line in recipe.differs),
            *part_notes(test.labels, val.labels, dataset.classes, recipe.keep != "last"),
        ),
        classes=tuple(dataset.classes),
        dataset=dataset.name,
        dataset_facts=dict(dataset.facts),
        index=pixels.index,
        pixels=pixels.path.key_part(),
        pixel_policy=POLICY,
        facts=_facts(experiment, outcome),
    )


def _facts(experiment: Experiment, outcome: TrainOutcome) -> TrainFacts:
    recipe, pixels, normaliser = experiment.planned, experiment.pixels, outcome.normaliser
    origin = pixels.dataset.origin
    limit = origin.get("options", {}).get("limit")
    own = origin.get("spec") == recipe.data and limit is None
    channels = int(pixels.data.train.inputs.shape[-1])
    return TrainFacts(
        input=InputFacts(recipe.size, channels, tuple(normaliser.mean), tuple(normaliser.scale)),
        epochs=Epochs(
            scored=outcome.kept_epoch,
            run=len(outcome.history["loss"]),
            planned=recipe.epochs,
            rule="the last epoch" if recipe.keep == "last" else f"the best epoch by {recipe.keep}",
            stopped=outcome.stopped,
        ),
        history=without_nan(outcome.history),
        params=outcome.params,
        trainable_params=outcome.trainable,
        frozen_params=outcome.params - outcome.trainable,
        seed=experiment.seed,
        precision=experiment.precision,
        limit=limit,
        recipe=recipe.settings(),
        published=recipe.published,
        published_on_this_data=own and experiment.epochs in (None, experiment.recipe.epochs),
        unreadable=pixels.unreadable,
        training_seconds=round(outcome.seconds, 3),
    )


def _size(weights: Sequence[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)
