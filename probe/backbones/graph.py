"""A TensorFlow graph without variables behind the `Extractor` contract."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import Backbone, BackboneSpec, Features, expect_pixels
from probe.tensorflow_setup import tf

CPU = "/CPU:0"
_grappler = threading.Lock()


class GraphExtractor:
    """See `Extractor`. `graph` maps one batch of pixels to the outputs of `spec`, of these shapes."""

    def __init__(
        self,
        graph: Callable[[Any], list[Any]],
        spec: BackboneSpec,
        batch_size: int,
        shapes: list[Any],
        *,
        bf16: bool,
        device: str | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.shapes: Mapping[str, tuple[int, ...]] = {
            output: tuple(shape[1:]) for output, shape in zip(spec.outputs, shapes, strict=True)
        }
        self._graph = graph
        self._input_shape = (batch_size, spec.size, spec.size, 3)
        self._bf16, self._device = bf16, device
        # The first call also optimises the graph and lays the weights out, seconds that belong to loading.
        self(np.zeros(self._input_shape, np.uint8))

    def __call__(self, pixels: NDArray[np.uint8]) -> Features:
        """See `Extractor`."""
        return self.dispatch(pixels)()

    def dispatch(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """See `Dispatcher`."""
        features = self.tensors(pixels)
        return lambda: {output: value.numpy() for output, value in features.items()}

    def tensors(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """The features as tensors where they are computed; a GPU may not have come to them yet."""
        expect_pixels(pixels, self._input_shape)
        # A function is placed where it is called from; where it was traced has no say in it.
        with _bfloat16(self._bf16), tf.device(self._device) if self._device else nullcontext():
            features = self._graph(tf.constant(pixels))
        return dict(zip(self.shapes, features, strict=True))


def lowered(row: Backbone, spec: BackboneSpec) -> str:
    """The precision that the engine has to bring about; what a saved model does by itself is left to it."""
    return "fp32" if row.saved_precision else spec.precision


def signature(spec: BackboneSpec, batch_size: int | None) -> Any:
    """What a graph takes: (B, S, S, 3) uint8; None is any number of pictures."""
    return tf.TensorSpec((batch_size, spec.size, spec.size, 3), tf.uint8)


@contextmanager
def _bfloat16(wanted: bool) -> Iterator[None]:
    """Let grappler lower convolutions and matrix products to bfloat16 for the calls made inside.

    The option belongs to the process, and TensorFlow reads it when a function is called, not when it is
    traced; so it is set around each call and put back, or it would leak into any training that follows.
    Setting it costs a microsecond, and graphs optimised either way stay cached.
    """
    with _grappler:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": wanted})
        try:
            yield
        finally:
            tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})
