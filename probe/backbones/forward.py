"""From pixels to features in TensorFlow: what every engine computes that starts from a Keras network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probe.backbones import preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.outputs import is_map, layer_name, layer_output
from probe.backbones.preprocess import Convention
from probe.tensorflow_setup import convert_variables_to_constants_v2, keras, tf


def freeze(model: Any, row: Backbone, spec: BackboneSpec, pixels: Any) -> Any:
    """Preprocessing, network and pooling as one function without variables, which takes `pixels`.

    It gives the outputs of `spec` in float32. See `frozen`.

    Raises
    ------
    UnknownNameError : an output is no layer of the model.
    """
    submodel = outputs_model(model, row, spec)
    forward = forward_through(submodel, preprocess.convention(spec.preprocess), spec)
    return frozen(forward, submodel.variables, pixels)


def outputs_model(model: Any, row: Backbone, spec: BackboneSpec) -> Any:
    """The part of `model` that ends in the layers of the outputs of `spec`. Raises as `freeze`."""
    layers = [layer_output(model.get_layer(layer_name(model, row, output))) for output in spec.outputs]
    return keras.Model(model.inputs, layers)


def forward_through(submodel: Any, convention: Convention, spec: BackboneSpec) -> Callable[[Any], list[Any]]:
    """(B, S, S, 3) uint8 -> the outputs of `spec`, float32, of what `outputs_model` has made."""

    def forward(pixels: Any) -> list[Any]:
        maps = tf.nest.flatten(submodel(convention.apply(tf.cast(pixels, tf.float32)), training=False))
        return [_finish(value, output) for value, output in zip(maps, spec.outputs, strict=True)]

    return forward


def frozen(forward: Callable[[Any], list[Any]], variables: Sequence[Any], pixels: Any) -> Any:
    """`forward` as one function of TensorFlow that takes `pixels`, a ``TensorSpec``, with no variables in it.

    The values that `variables` have now are constants from the start, which takes a fraction of the time that
    converting a function takes.
    """
    values = [(variable, variable.value.numpy()) for variable in variables]

    def constant(pixels: Any) -> list[Any]:
        # Arrays become constants of the graph that is being traced; tensors would become inputs of it.
        with keras.StatelessScope([(variable, tf.constant(array)) for variable, array in values]):
            return forward(pixels)

    traced = tf.function(constant, input_signature=[pixels], autograph=False).get_concrete_function()
    if not traced.captured_inputs:
        return traced
    # A layer may hold tensors that are no variables, or variables that it does not tell of.
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)


def _finish(value: Any, output: str) -> Any:
    """A layer's values as stored: float32, and the mean over all places unless the map is asked for.

    The mean is taken in float32 at every precision. The identity keeps two names of one layer apart.
    """
    value = tf.cast(value, tf.float32)
    if is_map(output) or value.shape.rank == 2:
        return tf.identity(value)
    return tf.reduce_mean(value, axis=list(range(1, value.shape.rank - 1)))
