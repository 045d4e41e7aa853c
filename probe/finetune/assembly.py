"""The network that is trained: the part above the cut, a head, and without a cache the frozen part too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.finetune.cut import Cut
from probe.networks import GlobalAveragePool, Network, parse
from probe.train.rules import POLICIES

HEAD = "tuned_"
"""Goes before the names of the head's layers, so that none is called like a layer of the trunk."""


@dataclass(frozen=True)
class HeadSpec:
    """What follows the trunk: `network` and the implied output over `classes`; two classes share one unit.

    `pooled` says that it is the default, pooled features straight to the output: that is a linear classifier.
    """

    network: Network
    classes: int
    pooled: bool

    @property
    def binary(self) -> bool:
        return self.classes == 2

    @property
    def loss(self) -> str:
        return "binary_crossentropy" if self.binary else "sparse_categorical_crossentropy"

    def apply(self, tensor: Any, *, policy: str, seed: int) -> Any:
        from probe.networks.builder import apply, output_layer

        # The mean over all places is taken in float32 at every precision, as for stored features.
        dtype = "float32" if self.pooled else policy
        hidden = apply(self.network, tensor, dtype=dtype, seed=seed, prefix=HEAD)
        return output_layer(hidden, self.classes, seed=seed, binary=self.binary, prefix=HEAD)


def head_spec(text: str | None, trunk: Any, classes: int) -> HeadSpec:
    """The head as the user spelled it; None for pooled features straight to the output."""
    if text is not None:
        return HeadSpec(parse(text), classes, pooled=False)
    is_map = len(trunk.output.shape) == 4
    return HeadSpec((GlobalAveragePool(),) if is_map else (), classes, pooled=True)


def count_head(head: HeadSpec, trunk: Any) -> tuple[int, int]:
    """(all, trainable) parameters of the head, output layer included."""
    from probe.tensorflow_setup import keras

    inputs = keras.Input(trunk.output.shape[1:])
    model = keras.Model(inputs, head.apply(inputs, policy="float32", seed=0))
    return model.count_params(), sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@dataclass(frozen=True)
class Assembly:
    """A network ready to be trained.

    Attributes
    ----------
    model : what is trained; its inputs are the crossing tensors, or preprocessed pixels without a cache.
    body : the copied part of the trunk above the cut; None when nothing of it lies there.
    """

    cut: Cut
    head: HeadSpec
    model: Any
    body: Any | None

    def train_trunk(self, wanted: bool) -> None:
        """Whether the next training moves the part above the cut, or the head alone."""
        if self.body is not None:
            self.body.trainable = wanted

    def set_output(self, weights: Any, bias: Any) -> None:
        """Start the output layer from a fitted linear classifier: (D, C) and (C,)."""
        if self.head.binary:
            weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
        self.model.get_layer(f"{HEAD}output").set_weights([weights, bias])

    def whole(self) -> Any:
        """The network from preprocessed pixels to probabilities in float32, with the weights as they are now.

        The trunk handed to `assemble` takes the trained weights: nothing else shares them any more.
        """
        from probe.tensorflow_setup import keras

        trunk = self.cut.trunk
        for layer in self.body.layers if self.body is not None else ():
            if layer.weights:
                trunk.get_layer(layer.name).set_weights(layer.get_weights())
        network = keras.Model(trunk.input, self.head.apply(trunk.output, policy="float32", seed=0))
        for layer in self.model.layers:
            if layer.name.startswith(HEAD) and layer.weights:
                network.get_layer(layer.name).set_weights(layer.get_weights())
        return network


def assemble(
    cut: Cut,
    head: HeadSpec,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    cached: bool,
    size: int,
    precision: str,
    seed: int,
    train_bn: bool = False,
    scope: AbstractContextManager[Any] | None = None,
) -> Assembly:
    """Put the network together.

    Parameters
    ----------
    shapes : crossing layer -> shape of one image, see `Cut.shapes`.
    cached : the crossing tensors are the inputs; otherwise pixels (S, S, 3) of `size`, preprocessed.
    precision : ``fp32``, ``bf16`` or ``fp16`` compute; weights and output are float32.
    train_bn : batch normalisation above the cut uses and updates batch statistics; otherwise it stays in
        inference mode, in the frozen part always.
    scope : of a ``tf.distribute`` strategy.
    """
    from probe.networks.builder import clone
    from probe.tensorflow_setup import keras, pin

    pin()
    policy = POLICIES[precision]
    with scope or nullcontext():
        if cached:
            inputs = [keras.Input(shape, name=name) for name, shape in shapes.items()]
            tensors = inputs
        else:
            inputs = [keras.Input((size, size, 3), name="pixels")]
            tensors = inputs
            if len(cut.crossing) > 1 or not cut.input_crosses:
                tensors = _in_inference(clone(cut.prefix(), policy, trainable=False))(inputs[0])
        suffix = cut.suffix()
        body = clone(suffix, policy, trainable=True) if suffix is not None else None
        features = _single(tensors)
        if body is not None:
            features = (body if train_bn else _in_inference(body))(features)
        model = keras.Model(_single(inputs), head.apply(features, policy=policy, seed=seed))
    return Assembly(cut, head, model, body)


def _in_inference(model: Any) -> Any:
    """`model` as a layer that computes the same in training as in prediction.

    ``model(x, training=False)`` does not do that in Keras 3: what is recorded with a call of a functional
    model is overruled by the ``training=True`` of the training step, and batch normalisation moves again.
    """
    from probe.tensorflow_setup import keras

    class Inference(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(dtype="float32", autocast=False, name=f"inference_{model.name}")
            self.inner = model

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs, training=False)

    return Inference()


def _single(tensors: Any) -> Any:
    """One tensor out of its list; several stay a list."""
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors
