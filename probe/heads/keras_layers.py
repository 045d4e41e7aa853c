"""Fitted heads as Keras models, where they are standardisation and layers: what export puts on a backbone.

Imports TensorFlow, so heads import it only when they are asked for their model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from probe.heads.head import Floats
from probe.tensorflow_setup import keras, pin

FLOAT32 = {"dtype": "float32"}


def dense_model(mean: Floats, scale: Floats, kernels: Sequence[Floats], biases: Sequence[Floats]) -> Any:
    """(B, D) features -> (B, C) probabilities: standardise, dense layers with ReLU between, softmax."""
    features = keras.Input(mean.shape, name="features", **FLOAT32)
    values = standardised(features, mean, scale)
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True), start=1):
        last = number == len(kernels)
        layer = keras.layers.Dense(
            len(bias),
            activation="softmax" if last else "relu",
            name="probabilities" if last else f"hidden{number}",
            **FLOAT32,
        )
        values = layer(values)
        layer.set_weights([kernel, bias])
    return keras.Model(features, values, name="head")


def map_model(shape: tuple[int, int, int], mean: Floats, scale: Floats, network: Any) -> Any:
    """(B, D) features -> (B, C) probabilities: a map again, standardise, `network` to logits, softmax."""
    pin()
    features = keras.Input((math.prod(shape),), name="features", **FLOAT32)
    maps = keras.layers.Reshape(shape, **FLOAT32)(features)
    logits = network(standardised(maps, mean, scale))
    softmax = keras.layers.Softmax(name="probabilities", **FLOAT32)
    return keras.Model(features, softmax(logits), name="head")


def standardised(values: Any, mean: Floats, scale: Floats) -> Any:
    """(values − mean) / scale along the last axis, as two layers.

    Batch normalisation computes ``x·factor + shift``, which in one layer would cancel badly where a mean is
    large beside its spread. Its epsilon is 0 and its variance 1, so that nothing else is changed.
    """
    norm = keras.layers.BatchNormalization
    common: dict[str, Any] = {"epsilon": 0.0, "center": False, "trainable": False, **FLOAT32}
    centre, spread = norm(scale=False, name="centre", **common), norm(name="spread", **common)
    result = spread(centre(values))
    zeros, ones = np.zeros_like(mean), np.ones_like(mean)
    centre.set_weights([mean, ones])
    spread.set_weights([1 / scale, zeros, ones])
    return result
