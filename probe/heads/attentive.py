"""Attention pooling over a stored token map, then a softmax: trained by Keras, applied by numpy.

Learned queries say how much every place of the map counts, each for its own part of the pooled vector: the
probe for backbones whose tokens mean more than their average. With one query a part the keys' projection is
part of the query, so there is none. The order of the places plays no part, but for what the tokens say of it.

Chen et al., "Context Autoencoder for Self-Supervised Representation Learning", 2022 (arXiv:2202.03026);
without the projection of keys Psomas et al., "Attention, Please! Revisiting Attentive Probing Through the
Lens of Efficiency", ICLR 2026 (arXiv:2506.10178).
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

BLOCK = 256
"""Maps pooled at a time."""


@dataclass(frozen=True)
class AttentiveOptions(TrainingOptions):
    """How to train attentive heads.

    Attributes
    ----------
    queries : learned queries; each pools the places its own way.
    units : length of the pooled vector, a multiple of the queries.
    dropout : share of the pooled vector dropped in training.
    """

    queries: int = 8
    units: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1 or self.units < 1 or self.units % self.queries:
            raise UsageError(
                "every query pools its own part of the units",
                expected="at least one query, and units that are a multiple of the queries",
                found=f"{self.queries} queries and {self.units} units",
            )
        if not 0 <= self.dropout < 1:
            raise UsageError("dropout is a share", expected="0 <= dropout < 1", found=f"{self.dropout:g}")


@dataclass(frozen=True)
class AttentiveHead:
    """Standardise each channel, pool with Q queries, project the parts, then a softmax; all float32.

    Attributes
    ----------
    shape : (H, W, channels) of the map that a row of features is, D = H·W·channels.
    mean, scale : (channels,).
    queries : (channels, Q).
    values, value_biases : (Q, channels, units / Q) and (Q, units / Q).
    weights, bias : (units, C) and (C,).
    """

    name: ClassVar[str] = "attentive"
    shape: MapShape
    mean: Floats
    scale: Floats
    queries: Floats
    values: Floats
    value_biases: Floats
    weights: Floats
    bias: Floats

    @property
    def classes(self) -> int:
        return len(self.bias)

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def attention(self, features: Features) -> Floats:
        """(N, Q, H, W): the share that every place has of every query's mean, which add up to 1."""
        shares = [_shares(tokens, self.queries) for tokens in self._tokens(features)]
        height, width, _ = self.shape
        return np.concatenate(shares).transpose(0, 2, 1).reshape(-1, self.queries.shape[1], height, width)

    def decision(self, features: Features) -> Floats:
        """Logits (N, C) of features (N, D)."""
        logits = []
        for tokens in self._tokens(features):
            means = _shares(tokens, self.queries).transpose(0, 2, 1) @ tokens
            parts = np.einsum("nqc,qcu->nqu", means, self.values, optimize=True) + self.value_biases
            logits.append(parts.reshape(len(tokens), -1) @ self.weights + self.bias)
        return np.concatenate(logits) if logits else np.empty((0, self.classes), np.float32)

    def _tokens(self, features: Features) -> Any:
        """Blocks of rows as (n, H·W, channels), standardised."""
        channels = self.shape[-1]
        for start in range(0, features.shape[0], BLOCK):
            rows = np.asarray(features[start : start + BLOCK], np.float32)
            yield standardised(rows.reshape(len(rows), -1, channels), self.mean, self.scale)

    def predict_proba(self, features: Features) -> Floats:
        return softmax(self.decision(features))

    def keras_model(self) -> Any:
        """See `probe.heads.head.LayeredHead`."""
        from probe.heads.keras_layers import map_model

        return map_model(self.shape, self.mean, self.scale, self._network())

    def _network(self) -> Any:
        network = attentive_network(
            self.shape, self.classes, AttentiveOptions(queries=self.queries.shape[1], units=len(self.weights))
        )
        network.set_weights([self.queries, self.values, self.value_biases, self.weights, self.bias])
        return network

    def arrays(self) -> dict[str, NDArray[Any]]:
        names = ("mean", "scale", "queries", "values", "value_biases", "weights", "bias")
        return {name: getattr(self, name) for name in names}

    def meta(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width, "shape": list(self.shape)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        height, width, channels = (int(side) for side in meta["shape"])
        head = cls((height, width, channels), **arrays)
        queries, units = head.queries.shape[-1], len(head.weights)
        expected = {
            "mean": (channels,),
            "scale": (channels,),
            "queries": (channels, queries),
            "values": (queries, channels, units // queries),
            "value_biases": (queries, units // queries),
            "weights": (units, int(meta["classes"])),
            "bias": (int(meta["classes"]),),
        }
        found = {name: array.shape for name, array in head.arrays().items()}
        if found != expected or head.width != meta["width"] or units % queries:
            raise ValueError(f"arrays of {found} for a map {head.shape}")
        return head


def fit(
    train: Samples, val: Samples | None, classes: int, options: AttentiveOptions, *, refit: bool = True
) -> FitOutcome:
    """One training per seed on `train`, stopped and chosen by validation loss; there is no refit."""
    stop, shape = need_validation(val), need_map(train, "an attentive head")
    mean, scale = (
        moments(train.features, channels=shape[-1]) if options.standardise else as_they_are(shape[-1])
    )
    return train_seeds(
        train,
        stop,
        classes,
        options,
        lambda features: standardised(features.reshape(-1, *shape), mean, scale),
        lambda seed: attentive_network(shape, classes, options),
        lambda model: AttentiveHead(shape, mean, scale, *model.get_weights()),
        {"queries": options.queries, "units": options.units, "dropout": options.dropout},
        constant_columns(scale),
    )


def attentive_network(shape: MapShape, classes: int, options: AttentiveOptions) -> Any:
    """The network that is trained: standardised maps (B, H, W, channels) -> logits (B, classes).

    Its queries start at zero: the first step sees the mean over all places.
    """
    from probe.tensorflow_setup import keras

    height, width, channels = shape
    layers = keras.layers
    maps = keras.Input(shape, name="map")
    tokens = layers.Reshape((height * width, channels))(maps)
    scores = layers.Dense(options.queries, use_bias=False, kernel_initializer="zeros", name="queries")(tokens)
    means = layers.Dot(axes=1)([layers.Softmax(axis=1)(scores), tokens])
    part = options.units // options.queries
    project = layers.EinsumDense(
        "bqc,qcu->bqu", output_shape=(options.queries, part), bias_axes="qu", name="values"
    )
    pooled = layers.Dropout(options.dropout)(layers.Flatten()(project(means)))
    return keras.Model(maps, layers.Dense(classes, name="logits")(pooled), name="attentive_head")


def _shares(tokens: Floats, queries: Floats) -> Floats:
    """(n, places, channels) -> (n, places, Q), along the places a softmax."""
    scores = tokens @ queries
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
