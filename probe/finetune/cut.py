"""Where a network is cut: what below stays as it is, what above is trained, and the tensors between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from probe.backbones.outputs import AVG_POOL
from probe.errors import UsageError, unknown_name

NUMBERED = re.compile(r"(first|last):([0-9]{1,6})")
LAST_BLOCKS = re.compile(r"last:([0-9]{1,6})blocks?")
BLOCK = re.compile(r"block[0-9]+")
"""The stages that are counted as blocks: those of a transformer, and the stages of other networks."""


@dataclass(frozen=True)
class Cut:
    """A trunk cut in two.

    Attributes
    ----------
    trunk : `keras.Model` from preprocessed pixels to the trunk's output.
    frozen : how many of ``trunk.layers``, from the input on, do not train.
    crossing : layers of the frozen part whose output the rest needs, in the order of the network.
    """

    trunk: Any
    frozen: int
    crossing: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether any weight of the trunk is trained."""
        return self.trainable_params > 0

    @property
    def has_prefix(self) -> bool:
        """Whether the frozen part computes anything: it has weights, and the input does not cross."""
        weights = any(layer.weights for layer in self.trunk.layers[: self.frozen])
        return weights and not self.input_crosses

    @property
    def input_crosses(self) -> bool:
        return any(_is_input(self.trunk.get_layer(name)) for name in self.crossing)

    @property
    def params(self) -> int:
        return int(self.trunk.count_params())

    @property
    def trainable_params(self) -> int:
        """Weights that move; the moving statistics of batch normalisation do not count."""
        layers = self.trunk.layers[self.frozen :]
        return sum(int(np.prod(w.shape)) for layer in layers for w in layer.trainable_weights)

    @cached_property
    def readers(self) -> dict[str, tuple[Any, ...]]:
        """Crossing layer -> the layers above the cut that take its output; None is the end of the trunk."""
        below = {layer.name for layer in self.trunk.layers[: self.frozen]}
        found: dict[str, list[Any]] = {name: [] for name in self.crossing}
        for node in _nodes(self.trunk):
            for tensor in node.input_tensors if node.operation.name not in below else ():
                name = tensor._keras_history.operation.name
                if name in found:
                    found[name].append(node.operation)
        if (end := self.trunk.output._keras_history.operation.name) in found:
            found[end].append(None)
        return {name: tuple(layers) for name, layers in found.items()}

    @cached_property
    def steps(self) -> dict[str, int]:
        """Crossing layer -> of every how many places, down and across, one is read; 1 where all are."""
        called = Counter(node.operation.name for node in _nodes(self.trunk))
        strides = {
            name: {1 if layer is None or called[layer.name] > 1 else _stride(layer) for layer in layers}
            for name, layers in self.readers.items()
        }
        return {name: found.pop() if len(found) == 1 else 1 for name, found in strides.items()}

    def read_shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """As `shapes`, of the places that are read."""
        steps = self.steps
        return {
            name: shape if steps[name] == 1 else (*(-(-side // steps[name]) for side in shape[:2]), shape[2])
            for name, shape in self.shapes(size).items()
        }

    def shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """Crossing layer -> shape of its output for one image of `size` pixels."""
        from probe.tensorflow_setup import keras

        outputs = {name: self._tensor(name) for name in self.crossing}
        found = keras.Model(self.trunk.input, outputs).compute_output_shape((1, size, size, 3))
        return {name: tuple(int(side) for side in found[name][1:]) for name in self.crossing}

    def prefix(self) -> Any:
        """Keras model from pixels to the list of crossing tensors, sharing the trunk's layers."""
        from probe.tensorflow_setup import keras

        return keras.Model(self.trunk.input, [self._tensor(name) for name in self.crossing])

    def suffix(self) -> Any | None:
        """Keras model from the crossing tensors to the trunk's output; None when nothing lies between."""
        from probe.tensorflow_setup import keras

        tensors = [self._tensor(name) for name in self.crossing]
        if len(tensors) == 1 and tensors[0] is self.trunk.output:
            return None
        return keras.Model(tensors if len(tensors) > 1 else tensors[0], self.trunk.output)

    def _tensor(self, name: str) -> Any:
        return next(node.output_tensors[0] for node in _nodes(self.trunk) if node.operation.name == name)


def cut_network(
    network: Any,
    stages: Mapping[str, str],
    *,
    unfreeze: str | None = None,
    freeze: str | None = None,
    trunk: str | None = None,
) -> Cut:
    """Cut a Keras network.

    Parameters
    ----------
    stages : stage -> its last layer, shallow to deep.
    unfreeze : ``all``, ``none``, ``last:N`` layers, ``last:Nblocks`` or the stage or layer from which on
        layers are trained; ``none`` when neither this nor `freeze` is given.
    freeze : ``first:N``, the layers that are not trained, the input layer counted as the studies did.
    trunk : stage or layer at which the network ends; by default its own end.

    Raises UnknownNameError for a stage or layer that the network does not have, UsageError for a choice that
    cannot be.
    """
    if unfreeze is not None and freeze is not None:
        raise UsageError("--unfreeze and --freeze exclude each other")
    trunk_model = _trunk(network, stages, trunk)
    layers = [layer.name for layer in trunk_model.layers]
    ends = {stage: layer for stage, layer in stages.items() if layer in layers}
    if freeze is not None:
        frozen = _numbered("--freeze", freeze, "first", len(layers))
    else:
        frozen = _first_trained(layers, ends, unfreeze or "none")
    return Cut(trunk_model, frozen, _crossing(trunk_model, frozen))


def _trunk(network: Any, stages: Mapping[str, str], name: str | None) -> Any:
    from probe.tensorflow_setup import keras

    if len(network.inputs) != 1 or (name is None and len(network.outputs) != 1):
        raise UsageError(
            "only a network with one input and one output can be fine-tuned",
            found=f"{len(network.inputs)} inputs, {len(network.outputs)} outputs",
        )
    pixels = network.inputs[0]
    layers = [layer.name for layer in network.layers]
    # As the name of an output it stands for the end of a network that has no layer called so.
    if name is None or (name == AVG_POOL and AVG_POOL not in layers):
        return keras.Model(pixels, network.outputs[0])
    return keras.Model(pixels, network.get_layer(_layer_of("cut at", name, stages, layers)).output)


def _first_trained(layers: Sequence[str], stages: Mapping[str, str], text: str) -> int:
    """How many layers lie below what is asked to be trained."""
    if text == "none":
        return len(layers)
    if text == "all":
        return 0
    if NUMBERED.fullmatch(text):
        return len(layers) - _numbered("--unfreeze", text, "last", len(layers))
    if blocks := LAST_BLOCKS.fullmatch(text):
        text = _first_of_last(int(blocks[1]), stages, text)
        if text == "none":
            return len(layers)
    if text in stages:
        names = list(stages)
        before = names.index(text) - 1
        return layers.index(stages[names[before]]) + 1 if before >= 0 else 0
    return layers.index(
        _layer_of("unfreeze", text, stages, layers, ["all", "none", "last:N", "last:Nblocks"])
    )


def _first_of_last(count: int, stages: Mapping[str, str], text: str) -> str:
    """The first of the last `count` blocks among the stages; ``none`` of 0."""
    blocks = [stage for stage in stages if BLOCK.fullmatch(stage)]
    if not blocks:
        raise UsageError(
            "no blocks of this network are known by name",
            expected="--unfreeze all, none, last:N layers, or the layer from which on layers train",
            found=f"--unfreeze {text}",
            hint="probe extract --backbone … --outputs list names the layers",
        )
    if count > len(blocks):
        raise UsageError(
            "--unfreeze cannot be read",
            expected=f"last:Nblocks with N from 0 to {len(blocks)}: {', '.join(blocks)}",
            found=text,
        )
    return blocks[-count] if count else "none"


def _layer_of(
    purpose: str, name: str, stages: Mapping[str, str], layers: Sequence[str], words: Sequence[str] = ()
) -> str:
    """The layer called so, or the last one of the stage; `words` are what else would have been understood."""
    wanted = name if name in layers else stages.get(name, name)
    if wanted not in layers:
        raise unknown_name(f"stage or layer to {purpose}", name, [*words, *stages, *layers])
    return wanted


def _numbered(option: str, text: str, word: str, highest: int) -> int:
    match = NUMBERED.fullmatch(text)
    if match is None or match[1] != word or int(match[2]) > highest:
        raise UsageError(
            f"{option} cannot be read", expected=f"{word}:N with N from 0 to {highest} layers", found=text
        )
    return int(match[2])


def _crossing(trunk: Any, frozen: int) -> tuple[str, ...]:
    """The frozen layers whose output is used above the cut, or is the trunk's output."""
    below = {layer.name for layer in trunk.layers[:frozen]}
    used = {
        tensor._keras_history.operation.name
        for node in _nodes(trunk)
        if node.operation.name not in below
        for tensor in node.input_tensors
    }
    used.add(trunk.output._keras_history.operation.name)
    names = tuple(layer.name for layer in trunk.layers[:frozen] if layer.name in used)
    # With nothing frozen, not even the input layer, the input itself is what crosses.
    return names or (trunk.layers[0].name,)


def _stride(layer: Any) -> int:
    """How far apart the places are that a convolution of one place reads; 1 of any other layer."""
    from probe.tensorflow_setup import keras

    if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last":
        return 1
    strides = {*layer.strides}
    return int(strides.pop()) if {*layer.kernel_size} == {1} and len(strides) == 1 else 1


def _nodes(model: Any) -> list[Any]:
    # Only nodes say which tensors feed which layer here; `layer.output` knows a layer's first call alone.
    return [node for depth in model._nodes_by_depth.values() for node in depth]


def _is_input(layer: Any) -> bool:
    return type(layer).__name__ == "InputLayer"
