"""A backbone as one Keras model, from pixels to features: what an exported model starts with.

Extraction does not use it: an engine computes the same values, faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import network, preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.outputs import is_map, layer_name, layer_output
from probe.tensorflow_setup import keras, pin

FLOAT32 = {"dtype": "float32"}
"""Every layer added here computes in float32, whatever policy the caller has set."""


def of_network(row: Backbone, spec: BackboneSpec) -> Any:
    """The `keras.Model` (B, S, S, 3) RGB from 0 to 255 -> the outputs of `spec` side by side, (B, D) float32.

    Maps are flattened row by row. It holds layers of Keras and keras-hub only, so that it loads without this
    package, and batch normalisation as it was trained.

    Raises
    ------
    UnknownNameError : an output is no layer of the network.
    WeightsError, UsageError : as `probe.backbones.load`.
    """
    model = network.build(row, spec)
    layers = [layer_output(model.get_layer(layer_name(model, row, name))) for name in spec.outputs]
    inner = keras.Model(model.inputs, layers, name="backbone")
    pixels, values = preprocessed_input(spec.size, preprocess.convention(spec.preprocess))
    maps = inner(values)
    return _joined(pixels, [_pooled(value, name) for value, name in zip(maps, spec.outputs, strict=True)])


def of_pixels(spec: BackboneSpec) -> Any:
    """As `of_network`, for the backbone whose features are the preprocessed pixels themselves."""
    pixels, values = preprocessed_input(spec.size, preprocess.convention(spec.preprocess))
    return _joined(pixels, [values] * len(spec.outputs))


def preprocessed_input(size: int, convention: preprocess.Convention) -> tuple[Any, Any]:
    """The input of a model, (B, S, S, 3) RGB from 0 to 255, and what its network is to see of it.

    Preprocessing as layers with constants: the channels are reversed or made grey by a 1×1 convolution, since
    Keras has no layer for it that saves without code.
    """
    pin()
    pixels = values = keras.Input((size, size, 3), name="pixels", **FLOAT32)
    if convention.reverse:
        values = _mixed(values, np.eye(3)[::-1], "rgb_to_bgr")
    if convention.grey:
        values = _mixed(values, np.array(preprocess.GREY)[:, None], "rgb_to_grey")
    mean, std = np.array(convention.mean), np.array(convention.std)
    scale = keras.layers.Rescaling((1 / std).tolist(), (-mean / std).tolist(), name="preprocess", **FLOAT32)
    return pixels, scale(values)


def _mixed(pixels: Any, weights: NDArray[np.float64], name: str) -> Any:
    """Every pixel's channels times `weights` (channels in, channels out)."""
    mix = keras.layers.Conv2D(weights.shape[1], 1, use_bias=False, trainable=False, name=name, **FLOAT32)
    mixed = mix(pixels)
    mix.set_weights([weights.astype(np.float32)[None, None]])
    return mixed


def _pooled(value: Any, output: str) -> Any:
    """The mean over all places, unless the map is asked for or there are none."""
    pools = {3: keras.layers.GlobalAveragePooling1D, 4: keras.layers.GlobalAveragePooling2D}
    if is_map(output) or len(value.shape) not in pools:
        return value
    return pools[len(value.shape)](**FLOAT32)(value)


def _joined(pixels: Any, values: list[Any]) -> Any:
    flat = [keras.layers.Flatten(**FLOAT32)(value) for value in values]
    features = flat[0] if len(flat) == 1 else keras.layers.Concatenate(**FLOAT32)(flat)
    return keras.Model(pixels, features, name="embedder")
