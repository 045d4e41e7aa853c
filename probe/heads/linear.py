"""A linear head: standardise, one matrix, softmax. What logistic and ridge regression come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, Labels, blocks
from probe.heads.standardise import standardised


@dataclass(frozen=True)
class LinearHead:
    """Probabilities softmax(((x − mean) / scale) W + b).

    `mean`, `scale` (D,); `weights` (D, C); `bias` (C,), all float32. Mean and scale are kept apart from the
    weights: folding them in would cancel badly in float32 where a feature's mean is large beside its spread.
    """

    name: ClassVar[str]
    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats

    @property
    def classes(self) -> int:
        return self.weights.shape[1]

    @property
    def width(self) -> int:
        return self.weights.shape[0]

    def decision(self, features: Features) -> Floats:
        """Logits (N, C) of features (N, D), block by block: no standardised copy of all of them."""
        logits = np.empty((features.shape[0], self.classes), dtype=np.float32)
        for rows, block in blocks(features):
            logits[rows] = standardised(block, self.mean, self.scale) @ self.weights + self.bias
        return logits

    def predict_proba(self, features: Features) -> Floats:
        return softmax(self.decision(features))

    def keras_model(self) -> Any:
        """See `probe.heads.head.LayeredHead`."""
        from probe.heads.keras_layers import dense_model

        return dense_model(self.mean, self.scale, [self.weights], [self.bias])

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}

    def meta(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        width, classes = int(meta["width"]), int(meta["classes"])
        shapes = {"mean": (width,), "scale": (width,), "weights": (width, classes), "bias": (classes,)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}, not {shape}")
        return cls(**{name: arrays[name].astype(np.float32, copy=False) for name in shapes})


def softmax(logits: Floats) -> Floats:
    """Rows of (N, C) logits as probabilities."""
    exponentials = logits - logits.max(axis=1, keepdims=True)
    np.exp(exponentials, out=exponentials)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def scores(probabilities: Floats, labels: Labels) -> tuple[float, float]:
    """Accuracy and log-loss of probabilities (N, C)."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return accuracy, float(-np.log(np.maximum(own, 1e-15)).mean())
