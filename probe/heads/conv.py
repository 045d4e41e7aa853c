"""A convolutional head on a stored feature map, written as a network string and trained by Keras.

It computes convolutions, so unlike the other heads it needs TensorFlow to load and to predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.heads.head import Features, FitOutcome, Floats, MapShape, Samples
from probe.heads.linear import softmax
from probe.heads.standardise import as_they_are, constant_columns, moments, standardised
from probe.heads.training import TrainingOptions, need_map, need_validation, train_seeds
from probe.networks import format_network, parse

BLOCK = 256
"""Maps predicted at a time: their activations are much larger than they are."""


@dataclass(frozen=True)
class ConvOptions(TrainingOptions):
    """How to train convolutional heads.

    Attributes
    ----------
    network : layers between the feature map and the output layer, which is implied; see `probe.networks`.
    """

    network: str = "C256k3s R B DO.5 GAP"

    def __post_init__(self) -> None:
        super().__post_init__()
        parse(self.network)


@dataclass(frozen=True)
class ConvHead:
    """Standardise each channel, then `model`, then softmax.

    Attributes
    ----------
    shape : (H, W, channels) of the map that a row of features is, D = H·W·channels.
    mean, scale : (channels,) float32.
    network : the network string of `model` in its canonical spelling.
    model : `keras.Model`, (B, H, W, channels) standardised -> (B, C) logits.
    """

    name: ClassVar[str] = "conv"
    shape: MapShape
    mean: Floats
    scale: Floats
    network: str
    model: Any

    @property
    def classes(self) -> int:
        return int(self.model.output_shape[-1])

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def decision(self, features: Features) -> Floats:
        """Logits (N, C) of features (N, D)."""
        logits = np.empty((features.shape[0], self.classes), dtype=np.float32)
        for start in range(0, len(logits), BLOCK):
            maps = _maps(features[start : start + BLOCK], self.shape, self.mean, self.scale)
            logits[start : start + BLOCK] = self.model(maps, training=False)
        return logits

    def predict_proba(self, features: Features) -> Floats:
        return softmax(self.decision(features))

    def keras_model(self) -> Any:
        """See `probe.heads.head.LayeredHead`."""
        from probe.heads.keras_layers import map_model

        return map_model(self.shape, self.mean, self.scale, self.model)

    def arrays(self) -> dict[str, NDArray[Any]]:
        weights = {f"weight{i}": value for i, value in enumerate(self.model.get_weights())}
        return {"mean": self.mean, "scale": self.scale, **weights}

    def meta(self) -> dict[str, Any]:
        facts = {"network": self.network, "shape": list(self.shape)}
        return {"classes": self.classes, "width": self.width, **facts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        height, width, channels = (int(side) for side in meta["shape"])
        shape = (height, width, channels)
        mean, scale = arrays["mean"], arrays["scale"]
        if mean.shape != (channels,) or scale.shape != (channels,) or math.prod(shape) != meta["width"]:
            raise ValueError(f"a map {shape} with mean {mean.shape}, scale {scale.shape}")
        try:
            model = _network(str(meta["network"]), shape, int(meta["classes"]), seed=0)
        except UsageError as error:
            raise ValueError(f"its network cannot be built: {error.problem}") from error
        # Keras checks that number and shapes of the weights are those of the network.
        model.set_weights([arrays[f"weight{i}"] for i in range(len(arrays) - 2)])
        return cls(shape, mean, scale, str(meta["network"]), model)


def fit(
    train: Samples, val: Samples | None, classes: int, options: ConvOptions, *, refit: bool = True
) -> FitOutcome:
    """One training per seed on `train`, stopped and chosen by validation loss; there is no refit."""
    stop, shape = need_validation(val), need_map(train, "a conv head")
    mean, scale = (
        moments(train.features, channels=shape[-1]) if options.standardise else as_they_are(shape[-1])
    )
    network = format_network(parse(options.network))
    return train_seeds(
        train,
        stop,
        classes,
        options,
        lambda features: _maps(features, shape, mean, scale),
        lambda seed: _network(network, shape, classes, seed),
        lambda model: ConvHead(shape, mean, scale, network, model),
        {"network": network},
        constant_columns(scale),
    )


def _maps(features: Floats, shape: MapShape, mean: Floats, scale: Floats) -> Floats:
    """(n, D) -> (n, H, W, channels), standardised."""
    return standardised(features.reshape(-1, *shape), mean, scale)


def _network(text: str, shape: MapShape, classes: int, seed: int) -> Any:
    from probe.networks.builder import apply, output_layer
    from probe.tensorflow_setup import keras

    inputs = keras.Input(shape, name="map")
    hidden = apply(parse(text), inputs, seed=seed)
    return keras.Model(inputs, output_layer(hidden, classes, seed=seed, logits=True), name="conv_head")
