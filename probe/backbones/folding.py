"""Batch normalisation folded into the convolution in front of it, by rewriting the weights.

Keras computes inference batch norm as ``x * scale + shift``. Grappler folds such a scale into an ordinary
convolution but not into a depthwise one, and without that it cannot fuse bias and activation into it either.
Folding first makes one operation of four, and leaves no product to be rounded before the shift cancels it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.tensorflow_setup import keras


def fold_batch_norms(model: Any, keep: Collection[str] = ()) -> None:
    """Move the scale of every batch norm that directly follows a convolution into its kernel, in place.

    What the model computes stays the same up to rounding, except at the convolutions themselves; name in
    `keep` the layers whose own output is wanted.
    """
    for layer in model.layers:
        convolution = convolution_before(layer)
        if convolution is not None and convolution.name not in keep:
            _fold(convolution, layer)


def convolution_before(layer: Any) -> Any | None:
    """The convolution without bias or activation that feeds this batch norm and nothing else, if so."""
    if not isinstance(layer, keras.layers.BatchNormalization) or len(layer._inbound_nodes) != 1:
        return None
    if layer.axis not in (-1, 3):
        return None
    before = layer._inbound_nodes[0].parent_nodes[0].operation
    is_convolution = isinstance(
        before, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D
    )
    alone = is_convolution and len(before._inbound_nodes) == 1 and len(before._outbound_nodes) == 1
    return before if alone and before.activation is keras.activations.linear else None


def _fold(convolution: Any, norm: Any) -> None:
    shift = scale_kernel(convolution, norm)
    if convolution.use_bias:
        convolution.bias.assign(np.zeros(len(shift)))
    if norm.center:
        norm.beta.assign(shift)
        norm.moving_mean.assign(np.zeros(len(shift)))
    else:
        norm.moving_mean.assign(-shift)
    if norm.scale:
        norm.gamma.assign(np.ones(len(shift)))
    norm.moving_variance.assign(np.full(len(shift), _neutral_variance(norm.epsilon)))


def scale_kernel(convolution: Any, norm: Any) -> NDArray[np.float64]:
    """Move the scale of `norm` into the kernel in front of it; (C,) what is left to add to its products.

    The bias of `convolution` is part of that, and is not taken away.
    """
    scale = 1 / np.sqrt(values_of(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * values_of(norm.gamma)
    kernel = _last_kernel(convolution)
    kernel.assign(values_of(kernel) * _per_output(convolution, scale))
    shift = -values_of(norm.moving_mean) * scale
    if convolution.use_bias:
        shift = shift + values_of(convolution.bias) * scale
    return shift + values_of(norm.beta) if norm.center else shift


def values_of(variable: Any) -> NDArray[np.float64]:
    """The values of a weight, for arithmetic on weights."""
    values: NDArray[np.float64] = variable.value.numpy().astype(np.float64)
    return values


def _last_kernel(convolution: Any) -> Any:
    return convolution.pointwise_kernel if hasattr(convolution, "pointwise_kernel") else convolution.kernel


def _per_output(convolution: Any, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """`scale` (C_out,) shaped to multiply a kernel: (h, w, in, out), or depthwise (h, w, in, multiplier)."""
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        return scale.reshape(-1, convolution.depth_multiplier)
    return scale


def _neutral_variance(epsilon: float) -> np.float32:
    """The float32 which, with `epsilon` added, is exactly 1; grappler then drops the multiplication."""
    epsilon32 = np.float32(epsilon)
    variance = np.float32(1) - epsilon32
    for candidate in (variance, np.nextafter(variance, np.float32(2)), np.nextafter(variance, np.float32(0))):
        if candidate + epsilon32 == np.float32(1):
            return candidate
    raise ArithmeticError(f"no float32 variance makes batch norm with epsilon {epsilon} neutral")
