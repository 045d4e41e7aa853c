"""Weights as training leaves them: biases and statistics of batch norms that are not zero and one.

TensorFlow leaves out what adds zero, so that a network with untrained biases computes less than a trained
one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from probe.backbones import build_network, resolve
from probe.config import Home


def write_weights(name: str, folder: Path) -> Path:
    """A weights file of a backbone in `folder`: Keras's seeded kernels, every bias and batch norm drawn."""
    from probe.tensorflow_setup import keras

    spec = resolve(name, weights="random", precision="fp32", home=Home(folder))
    network, rng = build_network(spec), np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            _draw_norm(layer, rng)
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.05, layer.bias.shape))
    path = folder / f"{name}.weights.h5"
    network.save_weights(path)
    return path


def _draw_norm(layer: Any, rng: np.random.Generator) -> None:
    shape = layer.moving_mean.shape
    layer.moving_mean.assign(rng.normal(0, 0.1, shape))
    layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
    if layer.center:
        layer.beta.assign(rng.normal(0, 0.1, shape))
    if layer.scale:
        layer.gamma.assign(rng.uniform(0.8, 1.2, shape))
