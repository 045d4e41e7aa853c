"""From pixels to features in TensorFlow: what every engine computes that starts from a Keras network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from probe.backbones import preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.outputs import is_map, layer_name, layer_output
from probe.backbones.preprocess import Convention
from probe.tensorflow_setup import keras, tf


def forward_of(model: Any, row: Backbone, spec: BackboneSpec) -> Callable[[Any], list[Any]]:
    """Preprocessing, network and pooling: (B, S, S, 3) uint8 -> the outputs of `spec`, float32.

    UnknownNameError where an output is no layer of the model.
    """
    return forward_through(outputs_model(model, row, spec), preprocess.convention(spec.preprocess), spec)


def outputs_model(model: Any, row: Backbone, spec: BackboneSpec) -> Any:
    """The part of `model` that ends in the layers of the outputs of `spec`. Raises as `forward_of`."""
    layers = [layer_output(model.get_layer(layer_name(model, row, output))) for output in spec.outputs]
    return keras.Model(model.inputs, layers)


def forward_through(submodel: Any, convention: Convention, spec: BackboneSpec) -> Callable[[Any], list[Any]]:
    """As `forward_of`, through an `outputs_model` and with the preprocessing of `convention`."""

    def forward(pixels: Any) -> list[Any]:
        maps = tf.nest.flatten(submodel(convention.apply(tf.cast(pixels, tf.float32)), training=False))
        return [_finish(value, output) for value, output in zip(maps, spec.outputs, strict=True)]

    return forward


def _finish(value: Any, output: str) -> Any:
    """A layer's values as stored: float32, and the mean over all places unless the map is asked for.

    The mean is taken in float32 at every precision. The identity keeps two names of one layer apart.
    """
    value = tf.cast(value, tf.float32)
    if is_map(output) or value.shape.rank == 2:
        return tf.identity(value)
    return tf.reduce_mean(value, axis=list(range(1, value.shape.rank - 1)))
