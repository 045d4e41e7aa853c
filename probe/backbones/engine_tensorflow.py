"""The engine ``tensorflow``: one frozen graph, pixels in, every requested output out.

It is the one for GPUs and for the presets of keras-hub. On processors ``tensorflow-2`` came after it, and it
stays for the stores that it began.
"""

from __future__ import annotations

import gc
from typing import Any

from probe.backbones import folding, network
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor
from probe.backbones.forward import forward_of
from probe.backbones.graph import CPU, GraphExtractor, lowered, signature
from probe.backbones.outputs import layer_name
from probe.config import Home
from probe.errors import UsageError
from probe.tensorflow_setup import convert_variables_to_constants_v2, tf


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`; nothing is kept.

    On a GPU half precision is a policy of Keras, ``mixed_float16`` or ``mixed_bfloat16``, and XLA compiles
    the graph. It has been exercised on a CPU only, where it is correct and slow. On a CPU bfloat16 is a pass
    over the graph, which is kept there whatever GPUs there are.
    """
    if lowered(row, spec) == "fp16" and not tf.config.list_physical_devices("GPU"):
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
        tf.function(frozen, input_signature=[signature(spec, batch_size)], jit_compile=True)
        if network.half_policy(row, spec) is not None
        else frozen
    )
    shapes = [output.shape for output in frozen.outputs]
    by_pass = _by_pass(row, spec)
    device = CPU if by_pass else None
    return GraphExtractor(graph, spec, batch_size, shapes, bf16=by_pass, device=device)


def _by_pass(row: Backbone, spec: BackboneSpec) -> bool:
    """Whether the pass over graphs for CPUs brings bfloat16 about."""
    return lowered(row, spec) == "bf16" and network.half_policy(row, spec) is None


def _freeze(model: Any, row: Backbone, spec: BackboneSpec, batch_size: int) -> Any:
    """The model with preprocessing and pooling as one function without variables."""
    names = [layer_name(model, row, output) for output in spec.outputs]
    folding.fold_batch_norms(model, keep=names)
    forward = forward_of(model, row, spec)
    traced = tf.function(forward, input_signature=[signature(spec, batch_size)]).get_concrete_function()
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)
