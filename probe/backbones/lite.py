"""EfficientNet-Lite: EfficientNet without squeeze-and-excite and with ReLU6 in place of swish.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946); the Lite variants are of the same authors' TPU repository, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import table, torch_legacy
from probe.errors import WeightsError
from probe.tensorflow_setup import keras

STEM_FILTERS = 32
HEAD_FILTERS = 1280
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
FILTERS_STEP = 8

GROUPS = (  # stage, repeats, kernel, stride of the first, expansion, filters
    (1, 1, 3, 1, 1, 16),
    (2, 2, 3, 2, 6, 24),
    (3, 2, 5, 2, 6, 40),
    (4, 3, 3, 2, 6, 80),
    (4, 3, 5, 1, 6, 112),
    (5, 4, 5, 2, 6, 192),
    (5, 1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Cell:
    """One inverted residual: expand 1×1, depthwise k×k, project 1×1; named by its resolution."""

    name: str
    kernel: int
    strides: int
    expansion: int
    filters: int


@dataclass(frozen=True)
class Variant:
    """How a network of the family is scaled up from the smallest.

    Attributes
    ----------
    width : factor on the filters of the cells; those of stem and head are the same in all variants.
    depth : factor on the repeats of cells, but for the first group and the last.
    """

    width: float
    depth: float
    dropout: float

    def cells(self) -> Iterator[Cell]:
        """The cells in order; block1 … block5 are the groups at one resolution, cells within are lettered."""
        cells_so_far = dict.fromkeys(range(1, 6), 0)
        for place, (stage, repeats, kernel, strides, expansion, filters) in enumerate(GROUPS):
            at_an_end = place in (0, len(GROUPS) - 1)
            for repeat in range(repeats if at_an_end else math.ceil(self.depth * repeats)):
                letter = "abcdefghij"[cells_so_far[stage]]
                cells_so_far[stage] += 1
                step = 1 if repeat else strides
                yield Cell(f"block{stage}{letter}", kernel, step, expansion, self._filters(filters))

    def _filters(self, filters: int) -> int:
        """Scaled and rounded to a multiple of eight, the nearest that is no more than a tenth below."""
        wanted = self.width * filters
        nearest = int(wanted + FILTERS_STEP / 2) // FILTERS_STEP * FILTERS_STEP
        return nearest + FILTERS_STEP if nearest < 0.9 * wanted else nearest


VARIANTS: Mapping[str, Variant] = {
    "efficientnet-lite0": Variant(width=1.0, depth=1.0, dropout=0.2),
    "efficientnet-lite1": Variant(width=1.0, depth=1.1, dropout=0.2),
    "efficientnet-lite2": Variant(width=1.1, depth=1.2, dropout=0.3),
}


def EfficientNetLite0(
    *, include_top: bool = True, weights: None = None, input_shape: tuple[int, int, int] = (224, 224, 3)
) -> Any:
    """The smallest, named and called like the constructors of keras.applications; see `network`."""
    return network("efficientnet-lite0", include_top, input_shape)


def EfficientNetLite1(
    *, include_top: bool = True, weights: None = None, input_shape: tuple[int, int, int] = (240, 240, 3)
) -> Any:
    """A tenth deeper, for pictures of 240 pixels; see `network`."""
    return network("efficientnet-lite1", include_top, input_shape)


def EfficientNetLite2(
    *, include_top: bool = True, weights: None = None, input_shape: tuple[int, int, int] = (260, 260, 3)
) -> Any:
    """Deeper and a tenth wider, for pictures of 260 pixels; see `network`."""
    return network("efficientnet-lite2", include_top, input_shape)


def network(name: str, include_top: bool, input_shape: tuple[int, int, int]) -> Any:
    """A network of `VARIANTS` with untrained weights; `load_torch` fills in the trained ones.

    (B, H, W, 3) pixels as ``(x - 127) / 128`` -> (B, H/32, W/32, 1280). With `include_top`, global average,
    dropout and the 1000 ImageNet logits follow.
    """
    layers, variant = keras.layers, VARIANTS[name]
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(STEM_FILTERS, 3, 2, padding="same", use_bias=False, name="stem_conv")(inputs)
    x = _norm(x, "stem_bn", activate="stem_relu")
    for cell in variant.cells():
        x = _inverted_residual(x, cell)
    x = layers.Conv2D(HEAD_FILTERS, 1, use_bias=False, name="head_conv")(x)
    x = _norm(x, "head_bn", activate="head_relu")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(variant.dropout, name="dropout")(x)
        x = layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(inputs, x, name=name)


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
    """Copy the trained weights of its pinned PyTorch file into `model`, with or without classifier.

    Raises
    ------
    WeightsError : the file is not the pinned one, or `model` is none of `VARIANTS`.
    """
    if model.name not in VARIANTS:
        raise WeightsError(f"{path} is not for {model.name}", expected=f"one of {', '.join(VARIANTS)}")
    published = table.find_row(model.name).weights
    assert published is not None
    state = torch_legacy.read(path, published.sha256 or "")
    for layer, source in _torch_names(VARIANTS[model.name]):
        if layer == "logits" and not any(found.name == layer for found in model.layers):
            continue
        model.get_layer(layer).set_weights(_keras_weights(state, source))


def _torch_names(variant: Variant) -> Iterator[tuple[str, str]]:
    """(Keras layer, prefix of its parameters in the PyTorch state dict) of every layer with weights."""
    yield from (("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"))
    for i, cell in enumerate(variant.cells()):
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
