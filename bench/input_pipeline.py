"""A training step on real input beside the same step on one batch that is ready in memory.

Interleaved in rounds over the same compiled model, on pictures of the bundled sample:

* ``real``   what the trainer feeds: shuffled rows gathered, augmented where the recipe says so, normalised;
* ``ready``  one prepared batch, repeated.

A ratio of 1 means that the input costs nothing; the bar is 1.05.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import interleave, machine, paired_ratio, print_table, write_results
from probe.backbones import choose_precision
from probe.config import Home
from probe.datasets import open_dataset
from probe.images.augment import parse_augment
from probe.studies.baselines import BASELINES
from probe.studies.trainer import build_model
from probe.train.inputs import ArrayInputs, Part, fit_normaliser
from probe.train.pixels import read_pixels

RECIPES = {
    "cifar10/exp1": 5_120,
    "cifar10/exp7": 5_120,
    "cifar100-a/basenet": 11_250,
    "cifar100-a/basenet-flipzoom": 11_250,
}
"""Images an epoch: those of the study where its steps are so short that starting an epoch counts."""


@dataclass(frozen=True)
class Sides:
    """The two trainings of a recipe, each of `steps` steps."""

    real: Any
    ready: Any
    steps: int


def prepare(name: str, images: int, precision: str) -> Sides:
    """A compiled model and its two inputs, both run once so that nothing is left to trace."""
    recipe = BASELINES[name]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        pixels = read_pixels(open_dataset("fashion-sample", home), recipe.size, home.cache)
    part = pixels.data.train
    rows = np.resize(np.arange(len(part)), images // recipe.batch_size * recipe.batch_size)
    normaliser = fit_normaliser(recipe.normalise, part.inputs)
    inputs = ArrayInputs(
        Part(part.inputs[rows], part.labels[rows]),
        None,
        batch_size=recipe.batch_size,
        seed=0,
        prepare=normaliser,
        augment=parse_augment(recipe.augment),
    )
    steps = len(rows) // recipe.batch_size
    model = build_model(recipe, part.inputs.shape[1:], precision=precision)
    model.compile(recipe.optimiser.name, "sparse_categorical_crossentropy", metrics=["accuracy"])
    # Of the shapes that real input has: with a batch of a fixed size TensorFlow would build another step.
    repeated = inputs.training(0).take(1).cache().repeat(steps)
    epochs = iter(range(10**6))

    def real() -> None:
        model.fit(inputs.training(next(epochs)), verbose=0, shuffle=False)

    def ready() -> None:
        model.fit(repeated, verbose=0, shuffle=False)

    real()
    ready()
    return Sides(real, ready, steps)


def main(*, quick: bool = False) -> None:
    """Print the table and write ``bench/results/input_pipeline.json``."""
    facts = machine()
    precision, _ = choose_precision("auto")
    rows = []
    for name, images in RECIPES.items():
        sides = prepare(name, images, precision)
        times = interleave({"real": sides.real, "ready": sides.ready}, 3 if quick else 7)
        rows.append(
            {
                "recipe": name,
                "batch": BASELINES[name].batch_size,
                "augment": BASELINES[name].augment,
                "precision": precision,
                "real_ms": statistics.median(times["real"]) / sides.steps * 1e3,
                "ready_ms": statistics.median(times["ready"]) / sides.steps * 1e3,
                "ratio": paired_ratio(times["real"], times["ready"]),
            }
        )
    print_table("Training step, real input against a ready batch", rows)
    print(f"  written to {write_results('input_pipeline', rows, facts)}")
