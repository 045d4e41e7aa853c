"""What follows the trunk: a network string and the output over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.networks import GlobalAveragePool, Network, parse

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
        """Its Keras name."""
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
