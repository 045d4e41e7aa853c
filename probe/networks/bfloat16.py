"""Layers that are trained in bfloat16 on CPUs in less time than Keras's own, with its outputs up to rounding.

Any other precision, and a GPU, get what Keras does, but for what TensorFlow fails at (`picks_places`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from probe.networks.places import picks_places
from probe.tensorflow_setup import keras, tf

WIDEST = 12
"""Columns of the widest output for which products take less time where the kernel has more than one place."""
FEWEST = 64
"""Channels, of input and output each, from which on products take less time."""
COMPILED_FROM = 1 << 18
"""Weights from which on a kernel is gone over in one compiled pass; each shape takes time to compile."""


class ProductGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the gradient of its kernel as products of matrices.

    oneDNN sums that gradient along the rows of a map, and a tile of AMX is filled only where those are long.
    A product of matrices sums over all places of the batch.

    A batch norm in inference mode that follows (`fold_norms`) is computed here, as part of the kernel: a map
    is then not gone over for it, forward or back.
    """

    norm: Callable[[bool | None], tuple[Any, Any] | None] | None = None
    """`OnePassBatchNormalization.affine` of the batch norm that follows."""

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("name") == "kernel":  # cast here, once the batch norm is in it
            kwargs["autocast"] = False
        return super().add_weight(*args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        affine = self.norm(training) if self.norm and _is_bfloat16_map(inputs) else None
        if affine is None:
            return super().call(inputs)
        scale, shift = affine
        if self.use_bias:
            shift += tf.cast(self.bias, tf.float32) * scale
        return self._convolve_scaled(inputs, tf.convert_to_tensor(self.kernel), scale, shift)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = tf.cast(kernel, inputs.dtype)
        if self.is_plain and picks_places(max(self.kernel_size), max(self.strides), kernel.shape[2]):
            down, across = self.strides
            return tf.nn.conv2d(inputs[:, ::down, ::across], kernel, 1, "VALID")
        if not self._gains(inputs, kernel):
            return super().convolution_op(inputs, kernel)

        @tf.custom_gradient
        def convolve(inputs: Any, kernel: Any) -> Any:
            return self._convolve(inputs, kernel), lambda upstream: self._gradients(inputs, kernel, upstream)

        return convolve(inputs, kernel)

    def _convolve_scaled(self, inputs: Any, kernel: Any, scale: Any, shift: Any) -> Any:
        """The convolution with float32 `kernel` times (F,) `scale`, plus (F,) `shift`."""

        @tf.custom_gradient
        def convolve(inputs: Any, kernel: Any, scale: Any, shift: Any) -> Any:
            scaled = _in_one_pass(_scaled, kernel, scale)

            def gradients(upstream: Any) -> tuple[Any, ...]:
                of_inputs, of_scaled = self._gradients(inputs, scaled, upstream)
                of_kernel, of_scale = _in_one_pass(_gradients_of_scaled, of_scaled, kernel, scale)
                return of_inputs, tf.cast(of_kernel, tf.float32), of_scale, _sums(upstream)

            outputs = tf.nn.bias_add(self._convolve(inputs, scaled), tf.cast(shift, inputs.dtype))
            return outputs, gradients

        return convolve(inputs, kernel, scale, shift)

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())

    def _gradients(self, inputs: Any, kernel: Any, upstream: Any) -> tuple[Any, Any]:
        """Those of inputs and kernel, all in bfloat16."""
        how = {"strides": [1, *self.strides, 1], "padding": self.padding.upper()}
        if {*self.kernel_size, *self.strides} == {1}:
            flat = tf.matmul(_flat(upstream), _flat(kernel), transpose_b=True)
            of_inputs = tf.reshape(flat, tf.shape(inputs))
        else:
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **how
            )
        if self._gains(inputs, kernel):
            return of_inputs, self._kernel_gradient(inputs, upstream)
        return of_inputs, tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=upstream, **how
        )

    @property
    def is_plain(self) -> bool:
        """Whether its gradients can be computed here."""
        known = self.data_format == "channels_last" and self.groups == 1
        return known and tuple(self.dilation_rate) == (1, 1)

    def _gains(self, inputs: Any, kernel: Any) -> bool:
        if not self.is_plain or not _is_bfloat16_map(inputs) or min(kernel.shape[2:]) < FEWEST:
            return False
        narrow = tuple(self.strides) == (1, 1) and inputs.shape[2] <= WIDEST
        return narrow or tuple(self.kernel_size) == (1, 1)

    def _kernel_gradient(self, inputs: Any, upstream: Any) -> Any:
        """(h, w, C, F) of the (N, H, W, C) inputs and the (N, H', W', F) gradient of the outputs."""
        for axis, stride in enumerate(self.strides, start=1):
            if stride > 1:  # a tenth of the time of a slice with a step
                inputs = tf.gather(inputs, tf.range(0, inputs.shape[axis], stride), axis=axis)
        shape = (*self.kernel_size, inputs.shape[3], upstream.shape[3])
        if max(self.kernel_size) == 1:
            return tf.reshape(tf.matmul(_flat(inputs), _flat(upstream), transpose_a=True), shape)
        rows, columns = upstream.shape[1:3]
        height, width = self.kernel_size
        # With rows before pictures, what is moved by a row is no copy but a piece of the same memory; what is
        # moved by columns lies side by side.
        inputs, upstream = (tf.transpose(values, (1, 0, 2, 3)) for values in (inputs, upstream))
        if self.padding == "same":
            above, beside = (((size - 1) // 2, size // 2) for size in self.kernel_size)
            inputs = tf.pad(inputs, [above, (0, 0), beside, (0, 0)])
        moved = tf.gather(inputs, np.arange(columns)[:, None] + np.arange(width), axis=2)
        moved = tf.reshape(moved, (inputs.shape[0], -1, width * shape[2]))
        flat = _flat(upstream)
        products = [
            tf.matmul(_flat(moved[row : row + rows]), flat, transpose_a=True) for row in range(height)
        ]
        return tf.reshape(tf.stack(products), shape)


class OnePassBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that in inference mode goes over a map once, and once back.

    Keras goes over it four times and six times back, in float32. Where `fold_norms` gave it to the
    convolution before it, it does not go over it at all.
    """

    folded = False

    @property
    def is_plain(self) -> bool:
        """Whether channels are what it normalises, and lie last."""
        return self.axis in (-1, 3)

    def affine(self, training: bool | None) -> tuple[Any, Any] | None:
        """(C,) by which to multiply and what to add then, in float32; None while it learns."""
        if training and self.trainable:
            return None
        mean, variance, scale, offset = self._parameters()
        scale *= tf.math.rsqrt(variance + self.epsilon)
        return scale, offset - mean * scale

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        learns = training and self.trainable
        if self.folded and not learns and _is_bfloat16_map(inputs):
            return inputs
        if learns or mask is not None or not self.is_plain or not _is_bfloat16_map(inputs):
            return super().call(inputs, training=training, mask=mask)
        mean, variance, scale, offset = self._parameters()
        return tf.compat.v1.nn.fused_batch_norm(
            inputs, scale, offset, mean, variance, epsilon=self.epsilon, is_training=False
        )[0]

    def _parameters(self) -> tuple[Any, Any, Any, Any]:
        mean, variance = (tf.cast(value, tf.float32) for value in (self.moving_mean, self.moving_variance))
        scale = tf.cast(self.gamma, tf.float32) if self.scale else tf.ones_like(mean)
        offset = tf.cast(self.beta, tf.float32) if self.center else tf.zeros_like(mean)
        return mean, variance, scale, offset


def fold_norms(model: Any) -> None:
    """Have convolutions compute the batch norms that alone take their outputs, and take nothing else."""
    ends = {id(tensor) for tensor in model.outputs}
    for norm in model.layers:
        if not isinstance(norm, OnePassBatchNormalization) or len(norm._inbound_nodes) != 1:
            continue
        before = norm._inbound_nodes[0].parent_nodes[0]
        conv = before.operation
        if not isinstance(conv, ProductGradientConv2D) or not (conv.is_plain and norm.is_plain):
            continue
        # An activation, or a penalty, is of what the convolution alone gives.
        bare = conv.activation is keras.activations.linear and conv.activity_regularizer is None
        alone = len(conv._inbound_nodes) == len(conv._outbound_nodes) == 1
        if bare and alone and id(before.output_tensors[0]) not in ends:
            conv.norm, norm.folded = norm.affine, True


def _is_bfloat16_map(inputs: Any) -> bool:
    """Whether these are (N, H, W, C) in bfloat16 of known H, W and C, and nothing but a CPU is there."""
    return (
        inputs.dtype == tf.bfloat16
        and len(inputs.shape) == 4
        and None not in inputs.shape[1:]
        and not has_gpu()
    )


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU, where all is done as Keras does it."""
    return bool(tf.config.list_logical_devices("GPU"))


def _flat(values: Any) -> Any:
    """(…, C) -> (places, C)."""
    return tf.reshape(values, (-1, values.shape[-1]))


def _sums(upstream: Any) -> Any:
    """(C,) in float32: what (N, H, W, C) in bfloat16 adds up to, as a product, in a third of the time."""
    flat = _flat(upstream)
    # Sixteen rows are what a product has to have anyway, and sums of fewer values are rounded less.
    places = tf.shape(flat)[0]
    tile = tf.tile(tf.eye(16, dtype=flat.dtype), (1, places // 16 + 1))[:, :places]
    return tf.reduce_sum(tf.cast(tf.matmul(tile, flat), tf.float32), axis=0)


def _in_one_pass(function: Callable[..., Any], *values: Any) -> Any:
    large = values[0].shape.num_elements() >= COMPILED_FROM
    return COMPILED[function](*values) if large else function(*values)


def _scaled(kernel: Any, scale: Any) -> Any:
    return tf.cast(kernel * scale, tf.bfloat16)


def _gradients_of_scaled(of_scaled: Any, kernel: Any, scale: Any) -> tuple[Any, Any]:
    """Those of the kernel, in bfloat16, and of the scale, in float32."""
    wide = tf.cast(of_scaled, tf.float32)
    parts = _flat(wide * kernel)
    while parts.shape[0] % 2 == 0:  # so that the compiler has long vectors to add
        half = parts.shape[0] // 2
        parts = parts[:half] + parts[half:]
    return tf.cast(wide * scale, tf.bfloat16), tf.reduce_sum(parts, axis=0)


COMPILED = {
    function: tf.function(function, jit_compile=True, autograph=False)
    for function in (_scaled, _gradients_of_scaled)
}

IN_PLACE_OF: dict[Any, Any] = {
    keras.layers.Conv2D: ProductGradientConv2D,
    keras.layers.BatchNormalization: OnePassBatchNormalization,
}
"""Class of Keras -> what is trained in its place."""
