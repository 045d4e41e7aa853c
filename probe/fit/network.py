"""The network a run trained itself, by `probe finetune` or `probe baseline run`: loaded, and as one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.backbones import keras_file
from probe.backbones.preprocess import Convention, convention
from probe.runs import Run, network_file
from probe.runs.record import InputFacts, TrainFacts, TuneFacts


@dataclass(frozen=True)
class TrainedNetwork:
    """A classifier of preprocessed pixels.

    Attributes
    ----------
    model : Keras model, (B, S, S, channels) -> (B, C) probabilities; (B, 1) where two classes
        share a unit.
    size : side S of its input, pixels.
    convention : what it was trained to see in place of 0–255 RGB.
    """

    model: Any
    size: int
    convention: Convention


def load_network(run: Run) -> TrainedNetwork:
    """The network of a run that keeps one, computing in the precision it was saved with.

    WeightsError when its file is missing or is not the one that was scored.
    """
    model = keras_file.load(network_file(run))
    facts = run.record.facts
    if isinstance(facts, TuneFacts):
        return TrainedNetwork(model, facts.network.size, convention(facts.network.preprocess))
    assert isinstance(facts, TrainFacts)  # the other kind that keeps a network
    mean, scale = (_by_place(values, facts.input) for values in (facts.input.mean, facts.input.scale))
    return TrainedNetwork(model, facts.input.size, Convention(mean, scale, grey=facts.input.channels == 1))


def _by_place(values: tuple[float, ...], facts: InputFacts) -> tuple[Any, ...]:
    """Numbers of every place as nested (S, S, channels), numbers of channels as they are."""
    if len(values) == facts.channels:
        return values
    return tuple(np.reshape(values, (facts.size, facts.size, facts.channels)).tolist())


def whole_model(network: TrainedNetwork) -> Any:
    """The `keras.Model` (B, S, S, 3) RGB from 0 to 255 -> (B, C) probabilities, all of it in float32."""
    from probe.backbones.embedder import FLOAT32, preprocessed_input
    from probe.tensorflow_setup import keras

    pixels, values = preprocessed_input(network.size, network.convention)
    found = _in_float32(network.model)(values)
    if found.shape[1] == 1:
        other = keras.layers.Rescaling(-1.0, 1.0, **FLOAT32)(found)
        found = keras.layers.Concatenate(**FLOAT32)([other, found])
    return keras.Model(pixels, found, name="probe")


def _in_float32(model: Any) -> Any:
    from probe.networks.builder import clone

    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    return clone(model, "float32", trainable=False)
