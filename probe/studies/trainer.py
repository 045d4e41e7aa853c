"""Runs any recipe on any images: normalise, build, train, score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import canonical_json
from probe.errors import UsageError
from probe.images.augment import parse_augment
from probe.networks import parse
from probe.runs import Predictions
from probe.studies.recipe import Recipe
from probe.train.inputs import ArrayInputs, Normaliser, TrainingData, batches, fit_normaliser
from probe.train.loop import OnEpoch, fit_loop, predictor
from probe.train.pixels import Pixels
from probe.train.rules import POLICIES, LoopSettings


@dataclass(frozen=True)
class TrainOutcome:
    """A trained network and its figures.

    Attributes
    ----------
    model : Keras model with the weights of `kept_epoch`; it expects normalised inputs.
    normaliser : what turns pixels into those inputs.
    history : figure -> value of every epoch.
    kept_epoch : the epoch that is scored, counted from 1.
    stopped : why training ended early, None when it did not.
    probabilities : ``val`` and ``test`` -> (N, C), in the order of the data.
    params, trainable : numbers of weights, output layer included.
    seconds : wall time of the epochs.
    """

    model: Any
    normaliser: Normaliser
    history: Mapping[str, list[float]]
    kept_epoch: int
    stopped: str | None
    probabilities: Mapping[str, NDArray[np.float32]]
    params: int
    trainable: int
    seconds: float

    def predict(self, split: str, pixels: Pixels) -> Predictions:
        """What the network says of ``val`` or ``test`` of the pixels that it was trained on."""
        part = {"val": pixels.data.val, "test": pixels.data.test}[split]
        labels = np.empty(0, np.int32) if part is None else part.labels
        found = self.probabilities.get(split, np.empty((0, pixels.data.classes), np.float32))
        return Predictions(pixels.ids[split], labels, found, pixels.groups[split])


def train(
    recipe: Recipe,
    data: TrainingData,
    *,
    seed: int = 0,
    epochs: int | None = None,
    precision: str = "fp32",
    folder: Path | None = None,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    progress: bool = False,
) -> TrainOutcome:
    """Train a recipe on `data`, whose image size, channels and classes replace the recipe's own.

    `seed` decides initial weights, order, augmentation and dropout; `epochs` overrides the recipe's;
    `folder`, `resume`, `on_epoch` and `progress` as in `fit_loop`. Raises UsageError for a recipe that is not
    run by training.
    """
    recipe = replace(recipe, epochs=epochs or recipe.epochs, classes=data.classes)
    identity = run_identity(recipe, data, seed=seed, precision=precision) if folder else ""
    settings = loop_settings(recipe, precision)
    model = build_model(recipe, data.train.inputs.shape[1:], seed=seed, precision=precision)
    augment = parse_augment(recipe.augment)
    normaliser = fit_normaliser(recipe.normalise, data.train.inputs)
    inputs = ArrayInputs(
        data.train,
        data.val,
        batch_size=recipe.batch_size,
        seed=seed,
        prepare=normaliser,
        augment=augment,
    )
    result = fit_loop(
        model,
        inputs,
        settings,
        folder=folder,
        resume=resume,
        identity=identity,
        on_epoch=on_epoch,
        progress=progress,
        name=recipe.name,
    )
    parts, predict = {"val": data.val, "test": data.test}, predictor(model)
    return TrainOutcome(
        model=model,
        normaliser=normaliser,
        history=result.history,
        kept_epoch=result.kept_epoch,
        stopped=result.stopped,
        probabilities={
            name: predict(batches(part, recipe.batch_size, normaliser))
            for name, part in parts.items()
            if part is not None and len(part)
        },
        params=model.count_params(),
        trainable=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        seconds=result.seconds,
    )


def build_model(
    recipe: Recipe, input_shape: tuple[int, ...] | None = None, *, seed: int = 0, precision: str = "fp32"
) -> Any:
    """The recipe's Keras model, by default on its own input size; `input_shape` is (H, W, channels)."""
    from probe.networks.builder import build

    if recipe.kind == "transfer":
        raise UsageError(
            f"{recipe.name} is not trained from scratch", hint="run " + "; then ".join(recipe.commands)
        )
    return build(
        parse(recipe.network),
        input_shape or (recipe.size, recipe.size, recipe.channels),
        recipe.classes,
        dtype=POLICIES[precision],
        kernel_l2=recipe.kernel_l2,
        seed=seed,
        binary=is_binary(recipe),
    )


def is_binary(recipe: Recipe) -> bool:
    """Whether the output is one sigmoid unit: the recipe says so and the data has two classes."""
    return recipe.binary and recipe.classes == 2


def loop_settings(recipe: Recipe, precision: str = "fp32") -> LoopSettings:
    """The part of a recipe that the training loop needs."""
    return LoopSettings(
        optimiser=recipe.optimiser,
        epochs=recipe.epochs,
        loss="binary_crossentropy" if is_binary(recipe) else "sparse_categorical_crossentropy",
        stops=recipe.stops,
        reduce_lr=recipe.reduce_lr,
        keep=recipe.keep,
        scale_loss=precision == "fp16",
    )


def run_identity(recipe: Recipe, data: TrainingData, *, seed: int, precision: str) -> str:
    """Canonical JSON of everything that decides the result but the number of epochs."""
    settings = {name: value for name, value in recipe.settings().items() if name != "epochs"}
    return canonical_json({"recipe": settings, "data": data.digest(), "seed": seed, "precision": precision})
