"""A Keras network as a graph of constants in which TensorFlow finds everything that it can fuse.

* A batch norm behind a convolution becomes part of it: its scale goes into the kernel, its shift becomes a
  ``BiasAdd``, and a residual is added by ``AddN``. Grappler does not believe what a function says of the
  shapes of its arguments, and these two operations are what it knows without shapes: convolution, bias,
  residual and activation become one.
* Where a network starts with a convolution, the order of the channels and their scale go into its kernel; the
  mean stays, since the zeros of the padding come after it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import network, preprocess
from probe.backbones.backbone import Backbone, BackboneSpec
from probe.backbones.folding import convolution_before, scale_kernel, values_of
from probe.backbones.forward import forward_through, outputs_model, trace_constants
from probe.backbones.graph import signature
from probe.backbones.outputs import layer_name
from probe.backbones.preprocess import Convention
from probe.registry import load_object
from probe.tensorflow_setup import keras, tf

FLOAT32 = "float32"


def freeze(row: Backbone, spec: BackboneSpec, batch_size: int) -> Any:
    """A backbone as a function of TensorFlow, its weights in it: (B, S, S, 3) uint8 -> the outputs of `spec`.

    Raises
    ------
    UnknownNameError : an output is no layer of the network.
    WeightsError, UsageError : as `network.build`.
    """
    return _freeze(row, spec, batch_size, shared_sums=True)


def freeze_but_shared_sums(row: Backbone, spec: BackboneSpec, batch_size: int) -> Any:
    """As `freeze`, but sums that several layers use stay Keras's: the bits of ``tensorflow-2``."""
    return _freeze(row, spec, batch_size, shared_sums=False)


def _freeze(row: Backbone, spec: BackboneSpec, batch_size: int, *, shared_sums: bool) -> Any:
    model, values = network.build_to_freeze(row, spec)
    with values:
        names = [layer_name(model, row, output) for output in spec.outputs]
        convention = preprocess.convention(spec.preprocess)
        fuse(model, keep=names, shared_sums=shared_sums)
        convention = fold_convention(model, convention, keep=names)
        submodel = outputs_model(model, row, spec)
        forward = forward_through(submodel, convention, spec)
        return trace_constants(forward, submodel.variables, signature(spec, batch_size))


def fuse(model: Any, keep: Collection[str] = (), *, shared_sums: bool = True) -> None:
    """Make batch norms part of the convolutions in front of them, and every bias one that can be fused.

    In place; what the model computes stays the same up to rounding, except at the convolutions themselves:
    name in `keep` the layers whose own output is wanted. Without `shared_sums` those that are used more than
    once stay as they are.
    """
    for norm in model.layers:
        convolution = convolution_before(norm)
        if convolution is not None and convolution.name not in keep and _is_open(convolution):
            _absorb(convolution, norm)
    for operation in getattr(model, "operations", model.layers):  # a Sequential has layers alone
        if _is_open(operation) and operation.use_bias:
            _set_bias(operation, values_of(operation.bias))
        elif type(operation) is keras.layers.Add or (shared_sums and _is_plus(operation)):
            shared = len(operation._outbound_nodes) != 1 or operation.name in keep
            if not shared or shared_sums:
                _set_sum(operation, shared=shared)


def fold_convention(model: Any, convention: Convention, keep: Collection[str] = ()) -> Convention:
    """Move what can be moved of `convention` into the kernels that see the pixels, and return the rest."""
    first = _first_convolutions(model, model.inputs[0]._keras_history.operation, keep)
    if convention.grey or not first:
        return convention
    order = slice(None, None, -1 if convention.reverse else 1)
    for convolution in first:
        kernel = values_of(convolution.kernel) / np.array(convention.std)[:, None]
        convolution.kernel.assign(kernel[:, :, order])
    return replace(convention, mean=convention.mean[order], std=(1.0, 1.0, 1.0), reverse=False)


def _absorb(convolution: Any, norm: Any) -> None:
    """Scale the kernel of `convolution` and give it the shift of `norm`, which then changes nothing."""
    _set_bias(convolution, scale_kernel(convolution, norm))
    norm.call = _unchanged


def _unchanged(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    return inputs


def _set_sum(operation: Any, *, shared: bool) -> None:
    """Have tensors of one shape added in the way that can be fused, and nothing behind what is `shared`.

    An activation behind a sum that goes to a second place is fused all the same; grappler then finds that
    place without its input, and gives up on the whole graph. What stands between them computes nothing.
    """
    add = _add if _is_plain(operation) else operation.call

    def add_apart(*inputs: Any) -> Any:
        total = add(*inputs)
        return tf.ensure_shape(total, total.shape)

    operation.call = add_apart if shared else add


def _add(*inputs: Any) -> Any:
    return tf.add_n(tf.nest.flatten(inputs))


def _is_plus(operation: Any) -> bool:
    """Whether it is what Keras makes of ``a + b``."""
    return type(operation) is load_object("keras.src.ops.numpy:Add")


def _is_plain(operation: Any) -> bool:
    """Whether it adds two tensors of one shape and one type."""
    if len(operation._inbound_nodes) != 1:
        return False
    kinds = [(tensor.shape, tensor.dtype) for tensor in operation._inbound_nodes[0].input_tensors]
    return len(kinds) == 2 and kinds[0] == kinds[1]


def _set_bias(convolution: Any, bias: NDArray[np.float64]) -> None:
    """Have `bias` added as a ``BiasAdd`` in front of the activation; Keras adds it as any tensor."""
    activation, constant = convolution.activation, bias.astype(np.float32)
    convolution.use_bias = False
    convolution.activation = lambda outputs: activation(tf.nn.bias_add(outputs, constant))


def _is_open(layer: Any) -> bool:
    """Whether a layer is one of Keras's own convolutions, as this module knows them, and in float32.

    What a saved model computes in half precision would be rounded once more.
    """
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    return (
        type(layer) in kinds
        and layer.data_format == "channels_last"
        and layer.compute_dtype == layer.variable_dtype == FLOAT32
        and not getattr(layer, "lora_enabled", False)
    )


def _first_convolutions(model: Any, source: Any, keep: Collection[str]) -> Sequence[Any]:
    """The convolutions that see the output of `source` as it is or padded with zeros; none if anything else
    sees it too."""
    found: list[Any] = []
    for layer in model.layers:
        if not any(
            parent.operation is source for node in layer._inbound_nodes for parent in node.parent_nodes
        ):
            continue
        if type(layer) is keras.layers.ZeroPadding2D and layer.name not in keep:
            further = _first_convolutions(model, layer, keep)
        else:
            further = [layer] if type(layer) is keras.layers.Conv2D and _is_open(layer) else []
        if not further or len(layer._inbound_nodes) != 1 or further[0].groups != 1:
            return []
        found += further
    return found
