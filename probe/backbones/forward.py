"""From pixels to features in TensorFlow: what every engine computes that starts from a Keras network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probe.backbones import preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.outputs import is_map, layer_name, layer_output, places_of
from probe.backbones.preprocess import Convention
from probe.tensorflow_setup import (
    convert_variables_to_constants_v2,
    func_graph_from_py_func,
    keras,
    tf,
)

_CALLS = ("PartitionedCall", "While", "If", "Case")
"""How the types of operations end that call functions of TensorFlow."""


def freeze(model: Any, row: Backbone, spec: BackboneSpec, pixels: Any) -> Any:
    """Preprocessing, network and pooling as one function of constants alone, which takes `pixels`.

    It gives the outputs of `spec` in float32; `pixels` is a ``TensorSpec``.

    Raises
    ------
    UnknownNameError : an output is no layer of the model.
    """
    forward, variables = _forward(model, row, spec)
    traced = trace_constants(forward, variables, pixels)
    return traced if _is_whole(traced.graph) else _converted(forward, pixels)


def freeze_graph(model: Any, row: Backbone, spec: BackboneSpec, pixels: Any) -> Any:
    """The graph of `freeze`, for those who do not run it: making a function of it copies every constant.

    Raises as `freeze`.
    """
    forward, variables = _forward(model, row, spec)
    constant = _with_constants(forward, variables)
    graph = func_graph_from_py_func("frozen", constant, (pixels,), {}, add_control_dependencies=False)
    return graph if _is_whole(graph) else _converted(forward, pixels).graph


def _forward(model: Any, row: Backbone, spec: BackboneSpec) -> tuple[Callable[[Any], list[Any]], Any]:
    submodel = outputs_model(model, row, spec)
    return forward_through(submodel, preprocess.convention(spec.preprocess), spec), submodel.variables


def _converted(forward: Callable[[Any], list[Any]], pixels: Any) -> Any:
    """`forward` as a function of constants, by a conversion that brings everything into one graph.

    It takes several times as long.
    """
    traced = tf.function(forward, input_signature=[pixels]).get_concrete_function()
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)


def _is_whole(graph: Any) -> bool:
    """Whether no layer holds tensors that are no variables, or has functions of its own."""
    return not graph.external_captures and not _calls_functions(graph)


def _calls_functions(graph: Any) -> bool:
    return any(operation.type.endswith(_CALLS) for operation in graph.get_operations())


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
    constant = _with_constants(forward, variables)
    return tf.function(constant, input_signature=[pixels], autograph=False).get_concrete_function()


def _with_constants(
    forward: Callable[[Any], list[Any]], variables: Sequence[Any]
) -> Callable[[Any], list[Any]]:
    values = [(variable, variable.value.numpy()) for variable in variables]

    def constant(pixels: Any) -> list[Any]:
        # Arrays become constants of the graph that is being traced; tensors would become inputs of it.
        with keras.StatelessScope([(variable, tf.constant(array)) for variable, array in values]):
            return forward(pixels)

    return constant


def _finish(value: Any, output: str) -> Any:
    """A layer's values as stored: float32, and the mean over all places unless the map is asked for.

    The mean is taken in float32 at every precision. The identity keeps two names of one layer apart.
    """
    value = tf.cast(places_of(output, value), tf.float32)
    if is_map(output) or value.shape.rank == 2:
        return tf.identity(value)
    return tf.reduce_mean(value, axis=list(range(1, value.shape.rank - 1)))
