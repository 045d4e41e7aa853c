"""The network of a keras-hub preset: one Keras model, whose outputs are named as people name them.

``cls`` is the class token, ``mean`` the mean of the patches, ``tokens`` the patches at their places,
``block1`` and so on the patches after a block (of a convolutional network the last map at a stride),
``pooled`` what its own pooling gives, ``avg_pool`` the mean of the last map. Registers and distillation
tokens are in none of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from probe.backbones.hub_preset import EXTRA
from probe.errors import UsageError, WeightsError
from probe.tensorflow_setup import keras


def build(folder: Path, side: int) -> Any:
    """(B, S, S, 3) preprocessed pixels -> all named outputs of a preset's vision tower, weights in place.

    `side` is that of the pictures it will see.

    Raises
    ------
    UsageError : keras-hub is not installed, or the preset is no network that takes pictures.
    WeightsError : the preset cannot be loaded.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UsageError("hub: needs the package keras-hub", found=str(error), hint=EXTRA) from error
    try:
        backbone = keras_hub.models.Backbone.from_preset(str(folder))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise WeightsError(
            f"the preset in {folder} cannot be loaded",
            expected="a folder that save_to_preset wrote",
            found=f"{type(error).__name__}: {error}".partition("\n")[0],
        ) from error
    vision = getattr(backbone, "vision_encoder", backbone)
    if len(vision.inputs) != 1 or len(vision.inputs[0].shape) != 4:
        raise UsageError(
            f"the preset in {folder} is no backbone for pictures",
            expected="a network that takes one picture",
            found=f"{type(vision).__name__} with the inputs {', '.join(i.name for i in vision.inputs)}",
        )
    return keras.Model(vision.inputs[0], list(_named_outputs(vision, side).values()))


def _named_outputs(vision: Any, side: int) -> dict[str, Any]:
    """Output -> its symbolic tensor: (B, D), or (B, H, W, C) of maps and patches."""
    blocks, last = _blocks(vision)
    tokens = getattr(vision, "post_layer_norm", None)
    wanted = [*blocks.values(), last, *([tokens.output] if tokens is not None else [])]
    lengths = dict(zip(map(id, wanted), _lengths(vision, wanted, side), strict=True))
    outputs = {block: _on_grid(block, tensor, lengths[id(tensor)]) for block, tensor in blocks.items()}
    if len(last.shape) == 4:
        return outputs | {"avg_pool": keras.layers.GlobalAveragePooling2D(name="avg_pool")(last)}
    if len(last.shape) == 3:
        return outputs | _of_tokens(last, lengths[id(last)])
    outputs["pooled"] = keras.layers.Identity(name="pooled")(last)
    return outputs | (_of_tokens(tokens.output, lengths[id(tokens.output)]) if tokens is not None else {})


def _lengths(vision: Any, tensors: list[Any], side: int) -> list[int]:
    """How long the second axis of each is; what keras-hub says of SigLIP's is one too many."""
    found = keras.Model(vision.inputs[0], tensors)(np.zeros((1, side, side, 3), "float32"), training=False)
    return [int(value.shape[1]) for value in (found if isinstance(found, list) else [found])]


def _blocks(vision: Any) -> tuple[dict[str, Any], Any]:
    """(``blockN`` -> what block N gives, what the network gives)."""
    nested = next((layer for layer in vision.layers if hasattr(layer, "encoder_layers")), None)
    if hasattr(vision, "encoder_layers"):  # CLIP, SigLIP
        return _counted(layer.output for layer in vision.encoder_layers), vision.output
    if hasattr(vision, "stages"):  # Swin
        return _counted(layer.output for layer in vision.stages), vision.output
    if nested is not None:  # ViT, DeiT
        start = nested.dropout(nested.input) if hasattr(nested, "dropout") else nested.input
        outputs = list(_through(start, nested.encoder_layers))
        return _counted(outputs), nested.layer_norm(outputs[-1])
    if type(vision).__name__ == "DINOV2Backbone":
        outputs = list(_through(vision.encoder.input, vision.encoder.layers))
        return _counted(outputs), vision.layernorm(outputs[-1])
    levels = getattr(vision, "pyramid_outputs", None) or {}
    return {
        f"block{level.lstrip('Pstage')}": levels[level] for level in levels if level != "stem"
    }, vision.output


def _counted(tensors: Iterable[Any]) -> dict[str, Any]:
    return {f"block{number}": tensor for number, tensor in enumerate(tensors, 1)}


def _through(tensor: Any, layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        # DeiT's give their attention too, and None in its place unless it is asked for.
        asks = "return_attention_scores" in inspect.signature(layer.call).parameters
        tensor = layer(tensor, return_attention_scores=True)[0] if asks else layer(tensor)
        yield tensor


def _on_grid(name: str, tensor: Any, length: int) -> Any:
    """The patches at their places, (B, H, W, C); their mean, (B, C), where Keras is wrong about how many."""
    layers = keras.layers
    if len(tensor.shape) == 4:
        return layers.Identity(name=name)(tensor)
    if tensor.shape[1] != length:
        return layers.GlobalAveragePooling1D(name=name)(tensor)
    side = math.isqrt(length)
    before = length - side * side
    patches = layers.Cropping1D((before, 0))(tensor) if before else tensor
    return layers.Reshape((side, side, tensor.shape[-1]), name=name)(patches)


def _of_tokens(tensor: Any, length: int) -> dict[str, Any]:
    layers, side = keras.layers, math.isqrt(length)
    patches = _on_grid("tokens", tensor, length)
    if len(patches.shape) == 2:
        return {"mean": layers.Identity(name="mean")(patches)}
    outputs = {"tokens": patches, "mean": layers.GlobalAveragePooling2D(name="mean")(patches)}
    if length > side * side:
        outputs["cls"] = layers.Flatten(name="cls")(layers.Cropping1D((0, length - 1))(tensor))
    return outputs
