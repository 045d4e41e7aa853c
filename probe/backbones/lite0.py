"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite and with ReLU6 in place of swish.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946); the Lite variants are of the same authors' TPU repository, 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import torch_legacy
from probe.tensorflow_setup import keras

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of ``efficientnet-lite0-57934424.pth``, the only PyTorch file that is read."""

STEM_FILTERS = 32
HEAD_FILTERS = 1280
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Cell:
    """One inverted residual: expand 1×1, depthwise k×k, project 1×1; named by its resolution."""

    name: str
    kernel: int
    strides: int
    expansion: int
    filters: int


def _cells() -> Iterator[Cell]:
    """The 16 cells; block1 … block5 are the groups at one resolution, cells within are lettered."""
    groups = (  # stage, repeats, kernel, stride of the first, expansion, filters
        (1, 1, 3, 1, 1, 16),
        (2, 2, 3, 2, 6, 24),
        (3, 2, 5, 2, 6, 40),
        (4, 3, 3, 2, 6, 80),
        (4, 3, 5, 1, 6, 112),
        (5, 4, 5, 2, 6, 192),
        (5, 1, 3, 1, 6, 320),
    )
    cells_so_far = dict.fromkeys(range(1, 6), 0)
    for stage, repeats, kernel, strides, expansion, filters in groups:
        for repeat in range(repeats):
            letter = "abcdefgh"[cells_so_far[stage]]
            cells_so_far[stage] += 1
            yield Cell(f"block{stage}{letter}", kernel, 1 if repeat else strides, expansion, filters)


CELLS = tuple(_cells())


def EfficientNetLite0(
    *, include_top: bool = True, weights: None = None, input_shape: tuple[int, int, int] = (224, 224, 3)
) -> Any:
    """The network with untrained weights, named and called like the constructors of keras.applications.

    (B, H, W, 3) pixels as ``(x - 127) / 128`` -> (B, H/32, W/32, 1280). With `include_top`, global average,
    dropout and the 1000 ImageNet logits follow. `weights` is there for the calling convention; `load_torch`
    fills in the trained ones.
    """
    layers = keras.layers
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(STEM_FILTERS, 3, 2, padding="same", use_bias=False, name="stem_conv")(inputs)
    x = _norm(x, "stem_bn", activate="stem_relu")
    for cell in CELLS:
        x = _inverted_residual(x, cell)
    x = layers.Conv2D(HEAD_FILTERS, 1, use_bias=False, name="head_conv")(x)
    x = _norm(x, "head_bn", activate="head_relu")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="dropout")(x)
        x = layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(inputs, x, name="efficientnet-lite0")


def _inverted_residual(x: Any, cell: Cell) -> Any:
    layers = keras.layers
    inputs, filters_in = x, x.shape[-1]
    if cell.expansion != 1:
        expanded = filters_in * cell.expansion
        x = layers.Conv2D(expanded, 1, use_bias=False, name=f"{cell.name}_expand_conv")(x)
        x = _norm(x, f"{cell.name}_expand_bn", activate=f"{cell.name}_expand_relu")
    x = layers.DepthwiseConv2D(
        cell.kernel, cell.strides, padding="same", use_bias=False, name=f"{cell.name}_depthwise_conv"
    )(x)
    x = _norm(x, f"{cell.name}_depthwise_bn", activate=f"{cell.name}_depthwise_relu")
    x = layers.Conv2D(cell.filters, 1, use_bias=False, name=f"{cell.name}_project_conv")(x)
    x = _norm(x, f"{cell.name}_project_bn")
    if cell.strides == 1 and filters_in == cell.filters:
        x = layers.Add(name=f"{cell.name}_add")([inputs, x])
    return x


def _norm(x: Any, name: str, activate: str | None = None) -> Any:
    x = keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=name)(x)
    return keras.layers.ReLU(max_value=6.0, name=activate)(x) if activate else x


def load_torch(model: Any, path: Path) -> None:
    """Copy the trained weights of the pinned PyTorch file into `model`, with or without classifier.

    Raises
    ------
    WeightsError : the file is not the pinned one.
    """
    state = torch_legacy.read(path, SHA256)
    for layer, source in _torch_names():
        if layer == "logits" and not any(found.name == layer for found in model.layers):
            continue
        model.get_layer(layer).set_weights(_keras_weights(state, source))


def _torch_names() -> Iterator[tuple[str, str]]:
    """(Keras layer, prefix of its parameters in the PyTorch state dict) of every layer with weights."""
    yield from (("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"))
    for i, cell in enumerate(CELLS):
        if cell.expansion != 1:
            yield f"{cell.name}_expand_conv", f"_blocks.{i}._expand_conv"
            yield f"{cell.name}_expand_bn", f"_blocks.{i}._bn0"
        yield f"{cell.name}_depthwise_conv", f"_blocks.{i}._depthwise_conv"
        yield f"{cell.name}_depthwise_bn", f"_blocks.{i}._bn1"
        yield f"{cell.name}_project_conv", f"_blocks.{i}._project_conv"
        yield f"{cell.name}_project_bn", f"_blocks.{i}._bn2"
    yield from (("head_conv", "_conv_head"), ("head_bn", "_bn1"), ("logits", "_fc"))


def _keras_weights(state: dict[str, NDArray[Any]], source: str) -> list[NDArray[np.float32]]:
    """One layer's arrays in Keras's order and axes."""
    kernel = state[f"{source}.weight"]
    if f"{source}.running_mean" in state:
        return [kernel, *(state[f"{source}.{name}"] for name in ("bias", "running_mean", "running_var"))]
    if kernel.ndim == 2:  # (classes, features)
        return [kernel.T, state[f"{source}.bias"]]
    if "depthwise" in source:  # (C, 1, h, w) -> (h, w, C, 1)
        return [kernel.transpose(2, 3, 0, 1)]
    return [kernel.transpose(2, 3, 1, 0)]  # (out, in, h, w) -> (h, w, in, out)
