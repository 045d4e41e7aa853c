"""The engine ``tensorflow``: one frozen graph, pixels in, every requested output out.

It is the one for GPUs and for the presets of keras-hub. On processors ``tensorflow-3`` came after it, and it
stays for the stores that it began.
"""

from __future__ import annotations

import gc
from typing import Any

from probe.backbones import folding, network
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor
from probe.backbones.forward import freeze
from probe.backbones.graph import CPU, GraphExtractor, lowered, signature
from probe.backbones.outputs import layer_name
from probe.config import Home
from probe.errors import UsageError
from probe.tensorflow_setup import tf


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
    frozen = _freeze(row, spec, batch_size)
    gc.collect()  # the network: running the graph for the first time copies every weight several times
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


def _freeze(row: Backbone, spec: BackboneSpec, batch_size: int) -> Any:
    """The network with preprocessing and pooling as one function without variables.

    Constants let grappler fold batch normalisation into the convolutions and fuse bias and activation into
    them; with one input signature nothing is ever traced again.
    """
    model, values = network.build_to_freeze(row, spec)
    with values:
        folding.fold_batch_norms(model, keep=[layer_name(model, row, output) for output in spec.outputs])
        return freeze(model, row, spec, signature(spec, batch_size))
