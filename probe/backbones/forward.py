"""From pixels to features in TensorFlow: what every engine computes that starts from a Keras network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probe.backbones import preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.outputs import is_map, layer_name, layer_output
from probe.backbones.preprocess import Convention
from probe.tensorflow_setup import convert_variables_to_constants_v2, keras, tf

_CALLS = ("PartitionedCall", "While", "If", "Case")
"""How the types of operations end that call functions of TensorFlow."""


def freeze(model: Any, row: Backbone, spec: BackboneSpec, pixels: Any) -> Any:
    """Preprocessing, network and pooling as one function of constants alone, which takes `pixels`.

    It gives the outputs of `spec` in float32; `pixels` is a ``TensorSpec``.

    Raises
    ------
    UnknownNameError : an output is no layer of the model.
    """
    submodel = outputs_model(model, row, spec)
    forward = forward_through(submodel, preprocess.convention(spec.preprocess), spec)
    traced = trace_constants(forward, submodel.variables, pixels)
    if not traced.captured_inputs and not _calls_functions(traced):
        return traced
    # A layer holds tensors that are no variables, or has functions of its own: only a conversion, which takes
    # several times as long, brings everything into one graph.
    traced = tf.function(forward, input_signature=[pixels]).get_concrete_function()
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)


def _calls_functions(traced: Any) -> bool:
    return any(operation.type.endswith(_CALLS) for operation in traced.graph.get_operations())


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


def trace_constants(forward: Callable[[Any], list[Any]], variables: Sequence[Any], pixels: Any) -> Any:
    """`forward` as a function that takes `pixels`, a ``TensorSpec``, with the values of `variables` in it.

    They are constants from the start: nothing has to be converted.
    """
    values = [(variable, variable.value.numpy()) for variable in variables]

    def constant(pixels: Any) -> list[Any]:
        # Arrays become constants of the graph that is being traced; tensors would become inputs of it.
        with keras.StatelessScope([(variable, tf.constant(array)) for variable, array in values]):
            return forward(pixels)

    return tf.function(constant, input_signature=[pixels], autograph=False).get_concrete_function()


def _finish(value: Any, output: str) -> Any:
    """A layer's values as stored: float32, and the mean over all places unless the map is asked for.

    The mean is taken in float32 at every precision. The identity keeps two names of one layer apart.
    """
    value = tf.cast(value, tf.float32)
    if is_map(output) or value.shape.rank == 2:
        return tf.identity(value)
    return tf.reduce_mean(value, axis=list(range(1, value.shape.rank - 1)))
