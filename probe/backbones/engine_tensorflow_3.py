"""The engine ``tensorflow-3``: a graph of constants, built for fusing, and kept for the next start.

It computes on the CPU alone, and its features differ from those of ``tensorflow`` by rounding. A graph that
was kept runs without Keras; what is built runs in the way of what was kept, so that both have the same bits.
"""

from __future__ import annotations

import gc
from typing import Any

from probe.backbones.backbone import Backbone, BackboneSpec, Extractor
from probe.backbones.graph import CPU, GraphExtractor, lowered, signature
from probe.backbones.graph_cache import Frozen, graph_key, keep_graph, read_graph
from probe.config import Home
from probe.registry import load_object
from probe.tensorflow_setup import tf


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`."""
    return load_frozen(row, spec, batch_size, home, "freeze")


def load_frozen(
    row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None, builder: str
) -> Extractor:
    """The same, with the function of `probe.backbones.fusing` that builds the graph."""
    key = graph_key(spec, batch_size)
    frozen = read_graph(home, key) if home is not None else None
    if frozen is None:
        function = load_object(f"probe.backbones.fusing:{builder}")(row, spec, batch_size)
        gc.collect()  # the network: running the graph for the first time copies every weight several times
        frozen = _frozen(function)
        if frozen is None:
            return _extractor(function, row, spec, batch_size)
        if home is not None:
            keep_graph(home, key, frozen)
    return _extractor(_imported(frozen, spec, batch_size), row, spec, batch_size)


def _extractor(function: Any, row: Backbone, spec: BackboneSpec, batch_size: int) -> Extractor:
    shapes = [tensor.shape for tensor in function.outputs]
    return GraphExtractor(function, spec, batch_size, shapes, bf16=lowered(row, spec) == "bf16", device=CPU)


def _frozen(function: Any) -> Frozen | None:
    """A function without variables as it is kept; None where it calls others.

    Those have names that another process gives to functions of its own. Keras computes convolutions in groups
    by one, and loops are some.
    """
    graph = function.graph
    definition = graph.as_graph_def()
    if definition.library.function:
        return None
    outputs = tuple(tensor.name for tensor in graph.outputs)
    return Frozen(definition.SerializeToString(deterministic=True), graph.inputs[0].name, outputs)


def _imported(frozen: Frozen, spec: BackboneSpec, batch_size: int) -> Any:
    """The function of a graph."""
    definition = tf.compat.v1.GraphDef.FromString(frozen.graph)

    def run(pixels: Any) -> list[Any]:
        outputs = list(frozen.outputs)
        return tf.graph_util.import_graph_def(
            definition, input_map={frozen.pixels: pixels}, return_elements=outputs, name=""
        )

    function = tf.function(run, input_signature=[signature(spec, batch_size)], autograph=False)
    return function.get_concrete_function()
