"""Less memory for more time: of a batch only the tensors between parts are kept, the rest computed again.

Going back needs what every layer gave. Here only what crosses from one part of the network to the next is
kept, and each part is computed once more when the gradient comes to it (Chen et al., 2016, arXiv 1604.06174).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from probe.errors import UsageError

PARTS = 16
"""At most; a network of n layers keeps the least when they are about the square root of n."""


def recomputed(model: Any, *, training: bool) -> Any:
    """`model` as a layer that keeps only the tensors between its parts for the gradient.

    `training` is whether batch normalisation uses and learns the statistics of the batch. UsageError where a
    layer then draws random numbers, which the second pass would draw anew, or the network cannot be parted.
    """
    from probe.tensorflow_setup import keras

    for layer in model.layers if training else ():
        if getattr(layer, "seed_generator", None) is not None:
            raise UsageError(
                f"--recompute cannot be used with this network: its layer {layer.name} draws random numbers",
                hint="a smaller --batch-size needs less memory too",
            )
    parts = [_once(part, training) for part in _parts(model)]

    class Recomputed(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(dtype="float32", autocast=False, name=f"recomputed_{model.name}")
            self.inner = model

        def call(self, inputs: Any) -> Any:
            for part in parts:
                inputs = part(inputs)
            return inputs

    return Recomputed()


def _once(part: Any, training: bool) -> Callable[[Any], Any]:
    """A part that is computed again for its gradient, without moving its statistics a second time."""
    from probe.tensorflow_setup import keras, tf

    def call(inputs: Any) -> Any:
        passes = []

        def compute(values: Any) -> Any:
            passes.append(values)
            if len(passes) == 1:
                return part(values, training=training)
            with keras.StatelessScope():
                return part(values, training=training)

        return tf.recompute_grad(compute)(inputs)

    return call


def _parts(model: Any) -> list[Any]:
    """The network cut at tensors that alone cross from what is before them to what is after."""
    from probe.tensorflow_setup import keras

    if len(model.inputs) > 1:
        raise UsageError("--recompute needs a network with one input above the cut", hint="--unfreeze all")
    ends = _ends(model)
    starts = [model.input, *(model.get_layer(name).output for name in ends[:-1])]
    return [keras.Model(start, model.get_layer(end).output) for start, end in zip(starts, ends, strict=True)]


def _ends(model: Any) -> list[str]:
    """Last layers of the parts: joints after which a part has its share of all values, the output last."""
    return [part[-1].name for part in _layers_of_parts(model, model.layers)]


def _layers_of_parts(model: Any, layers: Sequence[Any]) -> list[list[Any]]:
    """Layers in their order, divided where the next part needs no more than the output of the last."""
    share, joints = sum(map(values_of, layers)) / PARTS, _joints(model)
    parts: list[list[Any]] = [[]]
    for layer in layers:
        if parts[-1] and parts[-1][-1].name in joints and sum(map(values_of, parts[-1])) >= share:
            parts.append([])
        parts[-1].append(layer)
    return parts


def most_kept(model: Any, layers: Sequence[Any]) -> int:
    """Values of one image that are kept at the same time: what crosses between the parts, and one part."""
    parts = [part for part in _layers_of_parts(model, layers) if part]
    if not parts:
        return 0
    return sum(values_of(part[-1]) for part in parts) + max(sum(map(values_of, part)) for part in parts)


def values_of(layer: Any) -> int:
    """How many values a layer gives for one image; of a block of layers, those within count as well."""
    output = layer.output[0] if isinstance(layer.output, list | tuple) else layer.output
    shape = [side or 0 for side in output.shape[1:]]
    return math.prod(shape) + (_inner_values(layer, shape[0]) if len(shape) == 2 else 0)


def _inner_values(layer: Any, tokens: int) -> int:
    """A bias has a value for each that its layer gives of a token; attention has two of any two tokens."""
    inner = list(layer._flatten_layers(include_self=False))
    if not inner:
        return 0
    widths = sum(math.prod(weight.shape) for weight in layer.weights if weight.name in ("bias", "beta"))
    heads = max(getattr(part, "num_heads", 0) for part in inner)
    return tokens * widths + 2 * heads * tokens**2


def _joints(model: Any) -> set[str]:
    """Layers whose output alone is needed by what comes after them."""
    places = {layer.name: place for place, layer in enumerate(model.layers)}
    last_use = np.arange(len(places))
    for layer in model.layers:
        for node in layer._inbound_nodes:
            for parent in node.parent_nodes:
                if parent.operation.name in places:
                    used = last_use[places[parent.operation.name]]
                    last_use[places[parent.operation.name]] = max(used, places[layer.name])
    furthest = np.maximum.accumulate(np.concatenate([[0], last_use[:-1]]))
    return {name for name, place in places.items() if furthest[place] <= place}
