"""The engine ``tensorflow``: one frozen graph, pixels in, every requested output out."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import folding, network
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor, expect_pixels
from probe.backbones.forward import forward_of
from probe.backbones.outputs import layer_name
from probe.config import Home
from probe.errors import UsageError
from probe.tensorflow_setup import convert_variables_to_constants_v2, tf

_grappler = threading.Lock()


class GraphExtractor:
    """A frozen graph behind the `Extractor` contract."""

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

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Extractor`."""
        expect_pixels(pixels, self._input_shape)
        # A function is placed where it is called from; where it was traced has no say in it.
        with _bfloat16(self._bf16), tf.device(self._device):
            features = self._graph(tf.constant(pixels))
        return {output: value.numpy() for output, value in zip(self.shapes, features, strict=True)}


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`; nothing is kept.

    On a GPU half precision is a policy of Keras, ``mixed_float16`` or ``mixed_bfloat16``, and XLA compiles
    the graph. It has been exercised on a CPU only, where it is correct and slow. On a CPU bfloat16 is a pass
    over the graph, which is kept there whatever GPUs there are.
    """
    if _lowered(row, spec) == "fp16" and not tf.config.list_physical_devices("GPU"):
        raise UsageError(
            "TensorFlow does not see a GPU, and fp16 needs one",
            hint="--precision fp32 or bf16, or install the GPU libraries: pip install 'probe[gpu]'",
        )
    return compile_graph(network.build(row, spec), row, spec, batch_size)


def compile_graph(model: Any, row: Backbone, spec: BackboneSpec, batch_size: int) -> Extractor:
    """A Keras model with its weights -> the extractor that computes `spec.outputs` of it.

    The variables become constants, which lets grappler fold batch normalisation into the convolutions and
    fuse bias and activation; one input signature, so nothing is ever traced again.

    Raises
    ------
    UnknownNameError : an output is no layer of the model.
    """
    frozen = _freeze(model, row, spec, batch_size)
    # The first call copies every weight several times over; the network itself is not needed any more.
    del model
    gc.collect()
    graph = (
        tf.function(frozen, input_signature=[_signature(spec, batch_size)], jit_compile=True)
        if network.half_policy(row, spec) is not None
        else frozen
    )
    shapes = [output.shape for output in frozen.outputs]
    by_pass = _by_pass(row, spec)
    device = "/CPU:0" if by_pass else None
    extractor = GraphExtractor(graph, spec, batch_size, shapes, bf16=by_pass, device=device)
    # It also optimises the graph and lays the weights out, seconds that belong to loading.
    extractor(np.zeros((batch_size, spec.size, spec.size, 3), np.uint8))
    return extractor


def _lowered(row: Backbone, spec: BackboneSpec) -> str:
    """The precision that the engine has to bring about; what a saved model does by itself is left to it."""
    return "fp32" if row.saved_precision else spec.precision


def _by_pass(row: Backbone, spec: BackboneSpec) -> bool:
    """Whether the pass over graphs for CPUs brings bfloat16 about."""
    return _lowered(row, spec) == "bf16" and network.half_policy(row, spec) is None


def _signature(spec: BackboneSpec, batch_size: int) -> Any:
    return tf.TensorSpec((batch_size, spec.size, spec.size, 3), tf.uint8)


def _freeze(model: Any, row: Backbone, spec: BackboneSpec, batch_size: int) -> Any:
    """The model with preprocessing and pooling as one function without variables."""
    names = [layer_name(model, row, output) for output in spec.outputs]
    folding.fold_batch_norms(model, keep=names)
    forward = forward_of(model, row, spec)
    traced = tf.function(forward, input_signature=[_signature(spec, batch_size)]).get_concrete_function()
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)


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
