"""Small dense heads: hidden layers with ReLU, trained by Keras, applied by numpy.

TensorFlow is imported only while fitting; a saved head is a few matrices and needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.heads import training
from probe.heads.head import Features, FitOutcome, FitSize, Floats, Samples, beyond_base, blocks
from probe.heads.linear import softmax
from probe.heads.standardise import as_they_are, constant_columns, moments, standardised
from probe.heads.training import TrainingOptions, need_validation, train_seeds

STATES = 6
"""Arrays of the size of the weights while a network is trained."""


@dataclass(frozen=True)
class DenseOptions(TrainingOptions):
    """How to train dense heads.

    Attributes
    ----------
    hidden : units of each hidden layer; empty for a softmax on the features.
    dropout : share of hidden units dropped in training.
    batch_norm : normalise before each ReLU.
    input_dropout : share of the features dropped in training.
    sigmoid : one sigmoid unit for two classes in place of a softmax.
    """

    hidden: tuple[int, ...] = (1024, 512)
    dropout: float = 0.5
    batch_norm: bool = False
    input_dropout: float = 0.0
    sigmoid: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(units < 1 for units in self.hidden):
            raise UsageError("a hidden layer needs units", expected="at least 1", found=str(self.hidden))
        for share in (self.dropout, self.input_dropout):
            if not 0 <= share < 1:
                raise UsageError("dropout is a share", expected="0 <= dropout < 1", found=f"{share:g}")


@dataclass(frozen=True)
class DenseHead:
    """Standardise, then `kernels[i]` and `biases[i]` with ReLU between, then softmax; all float32."""

    name: ClassVar[str] = "dense"
    mean: Floats
    scale: Floats
    kernels: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    @property
    def classes(self) -> int:
        return len(self.biases[-1])

    @property
    def width(self) -> int:
        return len(self.mean)

    def decision(self, features: Features) -> Floats:
        """Logits (N, C) of features (N, D)."""
        logits = np.empty((features.shape[0], self.classes), dtype=np.float32)
        for rows, block in blocks(features):
            values = standardised(block, self.mean, self.scale)
            for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
                values = np.maximum(values @ kernel + bias, 0)
            logits[rows] = values @ self.kernels[-1] + self.biases[-1]
        return logits

    def predict_proba(self, features: Features) -> Floats:
        return softmax(self.decision(features))

    def keras_model(self) -> Any:
        """See `probe.heads.head.LayeredHead`."""
        from probe.heads.keras_layers import dense_model

        return dense_model(self.mean, self.scale, self.kernels, self.biases)

    def arrays(self) -> dict[str, NDArray[Any]]:
        layers = {f"kernel{i}": kernel for i, kernel in enumerate(self.kernels)}
        layers |= {f"bias{i}": bias for i, bias in enumerate(self.biases)}
        return {"mean": self.mean, "scale": self.scale, **layers}

    def meta(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width, "layers": len(self.kernels)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        layers, width = int(meta["layers"]), int(meta["width"])
        if not 1 <= layers <= 100:
            raise ValueError(f"{layers} layers")
        kernels = tuple(arrays[f"kernel{i}"] for i in range(layers))
        biases = tuple(arrays[f"bias{i}"] for i in range(layers))
        if arrays["mean"].shape != (width,) or arrays["scale"].shape != (width,):
            raise ValueError(f"mean {arrays['mean'].shape} and scale {arrays['scale'].shape}")
        for kernel, bias in zip(kernels, biases, strict=True):
            if kernel.shape != (width, len(bias)) or bias.ndim != 1:
                raise ValueError(f"a kernel {kernel.shape} with a bias {bias.shape} after width {width}")
            width = len(bias)
        if width != int(meta["classes"]):
            raise ValueError(f"{width} outputs for {meta['classes']} classes")
        return cls(arrays["mean"], arrays["scale"], kernels, biases)


def fit(
    train: Samples, val: Samples | None, classes: int, options: DenseOptions, *, refit: bool = True
) -> FitOutcome:
    """One training per seed on `train`, stopped and chosen by validation loss; there is no refit."""
    stop, width = need_validation(val), train.features.shape[1]
    if options.sigmoid and classes != 2:
        raise UsageError("one sigmoid unit is for two classes", found=f"{classes} classes")
    mean, scale = moments(train.features) if options.standardise else as_they_are(width)
    return train_seeds(
        train,
        stop,
        classes,
        options,
        lambda features: standardised(features, mean, scale),
        lambda seed: dense_network(width, classes, options),
        lambda model: DenseHead(mean, scale, *folded_layers(model)),
        {
            "hidden": list(options.hidden),
            "dropout": options.dropout,
            "params": _count_params(width, classes, options),
        },
        constant_columns(scale),
        sigmoid=options.sigmoid,
    )


def held_bytes(size: FitSize, options: DenseOptions, *, in_memory: bool) -> int:
    """What every head trained by Keras holds, and the weights: with gradients, two averages of Adam, the best
    of them, and one head a seed."""
    weights = 4 * _count_params(size.width, size.classes, options)
    return training.held_bytes(size, options, in_memory=in_memory) + beyond_base(
        (STATES + options.seeds) * weights
    )


def _count_params(width: int, classes: int, options: DenseOptions) -> int:
    """Weights of the head, the statistics of batch normalisation among them."""
    widths = [width, *options.hidden, 1 if options.sigmoid else classes]
    norms = 4 * sum(options.hidden) if options.batch_norm else 0
    return sum((before + 1) * after for before, after in pairwise(widths)) + norms


def dense_network(width: int, classes: int, options: DenseOptions) -> Any:
    """The network that is trained: preprocessed features (B, width) -> logits (B, classes), or one unit."""
    from probe.tensorflow_setup import keras

    layers = keras.layers
    stack: list[Any] = [layers.Input((width,))]
    if options.input_dropout:
        stack.append(layers.Dropout(options.input_dropout))
    for units in options.hidden:
        stack.append(layers.Dense(units))
        if options.batch_norm:
            stack.append(layers.BatchNormalization())
        stack += [layers.ReLU(), layers.Dropout(options.dropout)]
    return keras.Sequential([*stack, layers.Dense(1 if options.sigmoid else classes)])


def folded_layers(model: Any) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Kernels and biases with batch normalisation, which is affine at prediction time, multiplied in."""
    kernels: list[Floats] = []
    biases: list[Floats] = []
    for layer in model.layers:
        weights = layer.get_weights()
        if len(weights) == 2:
            kernels.append(weights[0])
            biases.append(weights[1])
        elif len(weights) == 4:
            gamma, beta, mean, variance = weights
            factor = gamma / np.sqrt(variance + layer.epsilon)
            kernels[-1] = kernels[-1] * factor
            biases[-1] = (biases[-1] - mean) * factor + beta
    if len(biases[-1]) == 1:
        # A sigmoid of z is a softmax of (0, z), and so the head is the same as any other.
        kernels[-1] = np.concatenate([np.zeros_like(kernels[-1]), kernels[-1]], axis=1)
        biases[-1] = np.concatenate([np.zeros_like(biases[-1]), biases[-1]])
    return tuple(kernels), tuple(biases)
