"""Names of outputs: what of a network can be asked for, whatever engine computes it.

``LAYER`` is a layer's output pooled over all places, ``LAYER:map`` all of it. For LAYER the name of a stage
or the row's default may stand. ``LAYER:map:2`` is every second place down and across, which the program alone
asks for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probe.backbones import onnx_file
from probe.backbones.backbone import ONNX_FILE, Backbone, BackboneSpec
from probe.errors import UsageError, unknown_name

AVG_POOL = "avg_pool"
MAP = ":map"


@dataclass(frozen=True)
class Output:
    """Something that can be asked for: pooled to the last of `shape`, or all of it with ``:map``.

    ``layer`` is the Keras layer behind a stage's name or the tensor of an ONNX file, and otherwise the name
    itself; `shape` has None for what an ONNX file leaves open.
    """

    name: str
    layer: str
    shape: tuple[int | None, ...]


def choose_outputs(row: Backbone, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The outputs asked for, or the row's default, checked as far as that needs no network.

    Raises
    ------
    UnknownNameError : what has no network has one output alone; an ONNX file has no such tensor.
    UsageError : an output is spelled wrongly or twice, or one has to be chosen.
    """
    if not wanted and not row.default_output:
        raise UsageError(
            f"which features of {row.name} are meant has to be said: {row.note}",
            hint="--outputs LAYER; --outputs list names them",
        )
    chosen = tuple(wanted or (row.default_output,))
    if row.kind == ONNX_FILE:
        chosen = tuple(onnx_file.choose_output(row, output) for output in chosen)
    if len(set(chosen)) != len(chosen):
        raise UsageError("an output is asked for twice", found=", ".join(chosen))
    for output in chosen if row.kind != ONNX_FILE else ():
        layer, _, form = output.partition(":")
        if not layer or form not in ("", MAP[1:]) or output.endswith(":"):
            raise UsageError("an output is not spelled as one", expected="NAME or NAME:map", found=output)
        if not row.is_network and layer != row.default_output:
            raise unknown_name(
                f"output of {row.name}", output, [row.default_output, row.default_output + MAP]
            )
    return chosen


def map_of(layer: str, step: int = 1) -> str:
    """The name of a layer's map, or of every `step`-th place of it down and across."""
    return f"{layer}{MAP}:{step}" if step > 1 else f"{layer}{MAP}"


def is_map(output: str) -> bool:
    """Whether the feature map is asked for, and not its mean over all places."""
    return _parted(output)[1] > 0


def places_of(output: str, values: Any) -> Any:
    """The places that its name asks for of a map (B, H, W, C) or (B, T, D); all of any other output."""
    step = _parted(output)[1]
    return values[:, ::step, ::step] if step > 1 else values


def _parted(output: str) -> tuple[str, int]:
    """The layer of an output, and of every how many places of its map; 0 where its mean is asked for.

    A name of a layer, or of an ONNX file's tensor, may have colons in it.
    """
    layer, found, step = output.rpartition(MAP)
    if found and re.fullmatch(r"(:[2-9]\d*)?", step):
        return layer, int(step[1:] or 1)
    return output, 0


def list_of_network(row: Backbone, spec: BackboneSpec) -> list[Output]:
    """Every output of the network behind `spec`, with its shape at ``spec.size``; builds it.

    The default comes first where that is no layer's name, then the stages, then the layers in order.
    """
    from probe.backbones import network
    from probe.tensorflow_setup import keras

    model = network.build(row, spec)
    values = {layer.name: layer_output(layer) for layer in model.layers if _is_usable(layer)}
    computed = keras.Model(model.inputs, values).compute_output_shape((1, spec.size, spec.size, 3))
    shapes = {name: tuple(computed[name][1:]) for name in values}
    last = list(shapes)[-1]
    default = [] if row.default_output in ("", *shapes) else [Output(row.default_output, last, shapes[last])]
    stages = [Output(stage, layer, shapes[layer]) for stage, layer in row.stages.items()]
    return [*default, *stages, *(Output(name, name, shape) for name, shape in shapes.items())]


def layer_name(model: Any, row: Backbone, output: str) -> str:
    """The layer of a `keras.Model` behind an output's name; ``avg_pool`` stands for the last one.

    A network that has a layer called ``avg_pool`` (a saved ResNet50 with its classifier) means that layer.
    `UnknownNameError` lists what there is.
    """
    name = _parted(output)[0]
    name = row.stages.get(name, name)
    usable = [layer.name for layer in model.layers if _is_usable(layer)]
    if name in usable:
        return name
    if name == AVG_POOL and usable:
        return usable[-1]
    raise unknown_name(f"output of {row.name}", output, [AVG_POOL, *row.stages, *usable])


def layer_output(layer: Any) -> Any:
    """A layer's symbolic output where it is used last; `layer.output` is where it was used first, which in a
    sequential or nested model is outside the model's own graph."""
    return layer._inbound_nodes[-1].output_tensors[0]


def _is_usable(layer: Any) -> bool:
    """Whether a layer gives one tensor, (B, D) to (B, H, W, C)."""
    from probe.tensorflow_setup import keras

    if isinstance(layer, keras.layers.InputLayer) or not layer._inbound_nodes:
        return False
    outputs = layer._inbound_nodes[-1].output_tensors
    return len(outputs) == 1 and 2 <= len(outputs[0].shape) <= 4
