"""Layers that are trained in bfloat16 on CPUs in less time than Keras's own, with the same outputs.

Any other precision, and a GPU, get what Keras does.
"""

from __future__ import annotations

from typing import Any

from probe.tensorflow_setup import keras, tf

WIDEST = 12
"""Columns of the widest output for which products take less time where the kernel has more than one place."""
FEWEST = 64
"""Channels, of input and output each, from which on products take less time."""


class ProductGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the gradient of its kernel as products of matrices.

    oneDNN sums that gradient along the rows of a map, and a tile of AMX is filled only where those are long.
    A product of matrices sums over all places of the batch. The gradient of the input is oneDNN's.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(kernel)
        if not self._gains(inputs, kernel):
            return super().convolution_op(inputs, kernel)
        strides, padding = [1, *self.strides, 1], self.padding.upper()

        @tf.custom_gradient
        def convolve(inputs: Any, kernel: Any) -> Any:
            def gradients(upstream: Any) -> tuple[Any, Any]:
                of_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs),
                    filter=kernel,
                    out_backprop=upstream,
                    strides=strides,
                    padding=padding,
                )
                return of_inputs, self._kernel_gradient(inputs, upstream)

            return tf.nn.conv2d(inputs, kernel, strides, padding), gradients

        return convolve(inputs, kernel)

    def _gains(self, inputs: Any, kernel: Any) -> bool:
        known = _is_bfloat16_map(inputs) and self.data_format == "channels_last" and self.groups == 1
        if not known or tuple(self.dilation_rate) != (1, 1) or min(kernel.shape[2:]) < FEWEST:
            return False
        narrow = tuple(self.strides) == (1, 1) and inputs.shape[2] <= WIDEST
        return narrow or tuple(self.kernel_size) == (1, 1)

    def _kernel_gradient(self, inputs: Any, upstream: Any) -> Any:
        """(h, w, C, F) of the (N, H, W, C) inputs and the (N, H', W', F) gradient of the outputs."""
        for axis, stride in enumerate(self.strides, start=1):
            if stride > 1:  # a tenth of the time of a slice with a step
                inputs = tf.gather(inputs, tf.range(0, inputs.shape[axis], stride), axis=axis)
        if self.padding == "same" and max(self.kernel_size) > 1:
            around = [((size - 1) // 2, size // 2) for size in self.kernel_size]
            inputs = tf.pad(inputs, [(0, 0), *around, (0, 0)])
        (rows, columns, filters), channels = upstream.shape[1:], inputs.shape[3]
        flat = tf.reshape(upstream, (-1, filters))
        products = [
            tf.matmul(
                tf.reshape(inputs[:, row : row + rows, column : column + columns], (-1, channels)),
                flat,
                transpose_a=True,
            )
            for row in range(self.kernel_size[0])
            for column in range(self.kernel_size[1])
        ]
        return tf.reshape(tf.stack(products), (*self.kernel_size, channels, filters))


class OnePassBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that in inference mode goes over a map once, and once back.

    Keras goes over it four times and six times back, in float32.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        learns = training and self.trainable
        if learns or mask is not None or self.axis not in (-1, 3) or not _is_bfloat16_map(inputs):
            return super().call(inputs, training=training, mask=mask)
        mean, variance = (tf.cast(value, tf.float32) for value in (self.moving_mean, self.moving_variance))
        scale = tf.cast(self.gamma, tf.float32) if self.scale else tf.ones_like(mean)
        offset = tf.cast(self.beta, tf.float32) if self.center else tf.zeros_like(mean)
        return tf.compat.v1.nn.fused_batch_norm(
            inputs, scale, offset, mean, variance, epsilon=self.epsilon, is_training=False
        )[0]


def _is_bfloat16_map(inputs: Any) -> bool:
    """Whether these are (N, H, W, C) in bfloat16 of known H, W and C, and nothing but a CPU is there."""
    return (
        inputs.dtype == tf.bfloat16
        and len(inputs.shape) == 4
        and None not in inputs.shape[1:]
        and not tf.config.list_logical_devices("GPU")
    )


IN_PLACE_OF: dict[Any, Any] = {
    keras.layers.Conv2D: ProductGradientConv2D,
    keras.layers.BatchNormalization: OnePassBatchNormalization,
}
"""Class of Keras -> what is trained in its place."""
