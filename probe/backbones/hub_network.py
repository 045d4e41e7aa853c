"""The network of a keras-hub preset: one Keras model, whose outputs are named as people name them.

``cls`` is the class token, ``mean`` the mean of the patches, ``tokens`` the patches at their places,
``block1`` and so on the patches after a block (of a convolutional network the last map at a stride, of Swin
after a stage), ``pooled`` what its own pooling gives, ``avg_pool`` the mean of the last map. Registers and
distillation tokens are in none of them.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.backbones.hub_layers import keep_whole_configs
from probe.backbones.hub_preset import EXTRA
from probe.errors import UsageError, WeightsError
from probe.tensorflow_setup import keras

STEM = "stem"
"""The tokens that go into the first block of a transformer."""
BLOCK = re.compile(r"block\d+")


def build(folder: Path) -> Any:
    """(B, S, S, 3) preprocessed pixels -> all named outputs of a preset's vision tower, weights in place.

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
    network = keras.Model(vision.inputs[0], list(_named_outputs(_tower(vision)).values()))
    keep_whole_configs(network)
    return network


def stages(network: Any) -> dict[str, str]:
    """``stem``, ``block1``, … of what `build` made -> the layer that each ends with, shallow to deep."""
    names = [layer.name for layer in network.layers]
    blocks = {name: _shown(network.get_layer(name)) for name in names if BLOCK.fullmatch(name)}
    return ({STEM: STEM} if STEM in names else {}) | blocks


def _shown(output: Any) -> str:
    """The layer whose values an output at its places shows."""
    before = output.input._keras_history.operation
    cropped = isinstance(before, keras.layers.Cropping1D)
    return str((before.input._keras_history.operation if cropped else before).name)


@dataclass(frozen=True)
class _Tower:
    """What a vision tower computes, as symbolic tensors.

    Attributes
    ----------
    last : vectors (B, D), maps (B, H, W, C), or tokens (B, T, C) after the last normalisation.
    blocks : what every block gives, from the first on.
    others : tokens that stand before the patches: class, distillation, registers.
    pooled : what its own pooling makes of its tokens, (B, D).
    """

    last: Any
    blocks: dict[str, Any] = field(default_factory=dict)
    others: int = 0
    pooled: Any | None = None


def _named_outputs(tower: _Tower) -> dict[str, Any]:
    """Output -> its symbolic tensor: (B, D), or (B, H, W, C) of maps and patches."""
    layers, last = keras.layers, tower.last
    outputs = {name: _at_places(tensor, tower.others, name) for name, tensor in tower.blocks.items()}
    if len(last.shape) == 2:
        return outputs | {"pooled": layers.Identity(name="pooled")(last)}
    if len(last.shape) == 4:
        return outputs | {"avg_pool": layers.GlobalAveragePooling2D(name="avg_pool")(last)}
    outputs["tokens"] = _at_places(last, tower.others, "tokens")
    outputs["mean"] = layers.GlobalAveragePooling2D(name="mean")(outputs["tokens"])
    if tower.others:
        outputs["cls"] = layers.Flatten(name="cls")(layers.Cropping1D((0, last.shape[1] - 1))(last))
    if tower.pooled is not None:
        outputs["pooled"] = layers.Identity(name="pooled")(tower.pooled)
    return outputs


def _tower(vision: Any) -> _Tower:
    """The tower with its blocks called one by one, whatever layer a preset hides them in."""
    nested = next((layer for layer in vision.layers if hasattr(layer, "encoder_layers")), None)
    if hasattr(vision, "post_layer_norm"):  # SigLIP
        blocks = _through(_siglip_patches(vision), vision.encoder_layers)
        tokens = vision.post_layer_norm(_last(blocks))
        return _Tower(tokens, blocks, pooled=vision.head(tokens))
    if hasattr(vision, "encoder_layers"):  # CLIP, and MetaCLIP, which does not normalise
        blocks = _through(vision.pre_layer_norm.output, vision.encoder_layers)
        norm = getattr(vision, "layer_norm", keras.layers.Identity())
        return _Tower(norm(_last(blocks)), blocks, others=1)
    if hasattr(vision, "stages"):  # Swin
        blocks = _numbered(_swin_stages(vision))
        return _Tower(vision.norm(_last(blocks)), blocks)
    if nested is not None:  # ViT, DeiT
        start = nested.dropout(nested.input) if hasattr(nested, "dropout") else nested.input
        blocks = _through(start, nested.encoder_layers)
        others = int(vision.use_class_token) if hasattr(vision, "use_class_token") else 2
        return _Tower(nested.layer_norm(_last(blocks)), blocks, others)
    if hasattr(vision, "num_register_tokens"):  # DINOv2, DINOv3
        others, start = 1 + vision.num_register_tokens, vision.embeddings.output
        rotary = hasattr(vision, "rope_embedding")
        blocks = _numbered(_rotated(vision, others)) if rotary else _through(start, vision.encoder.layers)
        return _Tower(vision.layernorm(_last(blocks)), blocks, others)
    levels = getattr(vision, "pyramid_outputs", None) or {}
    return _Tower(vision.output, {f"block{level.lstrip('Pstage')}": levels[level] for level in levels})


def _numbered(tensors: Iterable[Any]) -> dict[str, Any]:
    return {f"block{number}": tensor for number, tensor in enumerate(tensors, 1)}


def _last(blocks: dict[str, Any]) -> Any:
    return list(blocks.values())[-1]


def _stem(tensor: Any) -> Any:
    return keras.layers.Identity(name=STEM)(tensor)


def _through(tokens: Any, layers: Iterable[Any]) -> dict[str, Any]:
    """What each of `layers` gives, one after the other."""
    found, tokens = [], _stem(tokens)
    for layer in layers:
        # DeiT's give their attention too, and None in its place unless it is asked for.
        if "return_attention_scores" in inspect.signature(layer.call).parameters:
            given = layer(tokens, return_attention_scores=True)[0]
            tokens = keras.layers.Identity(name=f"{layer.name}_tokens")(given)
        else:
            tokens = layer(tokens)
        found.append(tokens)
    return _numbered(found)


def _siglip_patches(vision: Any) -> Any:
    """The sum of patches and positions, by layers that know how many there are.

    keras-hub's own layer says one too many, so that nothing could put its patches at their places.
    """
    from keras_hub.layers import PositionEmbedding

    own, layers = vision.embedding, keras.layers
    patches = layers.Reshape((own.num_positions, own.hidden_dim))(own.patch_embedding(vision.inputs[0]))
    positions = PositionEmbedding(own.num_positions, dtype=own.dtype_policy, name="position_embedding")
    embedded = layers.Add(dtype=own.dtype_policy, name="embedding")([patches, positions(patches)])
    positions.set_weights(own.position_embedding.get_weights())
    return embedded


def _swin_stages(vision: Any) -> Iterator[Any]:
    """What every stage gives, by layers that can be saved: its own of patches and stages are given classes.

    Names that several have are made different ones.
    """
    own = vision.patch_embedding
    patches = own.proj(vision.inputs[0])
    tokens = keras.layers.Reshape((patches.shape[1] * patches.shape[2], patches.shape[3]))(patches)
    if own.norm is not None:
        own.norm.name = "patch_norm"
        tokens = own.norm(tokens)
    tokens = _stem(vision.get_layer("pos_drop")(tokens))
    for number, stage in enumerate(vision.stages, 1):
        for block in stage.blocks:
            block.name = f"stage{number}_{block.name}"
            tokens = block(tokens)
        if stage.downsample is not None:
            height, width = stage.input_resolution
            stage.downsample.name = f"stage{number}_{stage.downsample.name}"
            merged = stage.downsample(tokens, H=height, W=width)
            # It does not say how many there are.
            shape = (-(-height // 2) * -(-width // 2), merged.shape[-1])
            tokens = keras.layers.Reshape(shape, name=f"stage{number}_tokens")(merged)
        yield tokens


def _rotated(vision: Any, others: int) -> Iterator[Any]:
    """DINOv3's blocks: where patches lie is read off the patches that a block gets, one at each place.

    keras-hub reads it off the picture, which every block would need beside its tokens.
    """
    tokens, rope = _stem(vision.embeddings.output), vision.rope_embedding
    for number, layer in enumerate(vision.encoder.layers, 1):
        angles = type(rope)(
            rope.hidden_dim,
            rope.num_heads,
            rope.rope_theta,
            patch_size=1,
            dtype=rope.dtype_policy,
            name=f"rope{number}",
        )(_at_places(tokens, others, f"places{number}"))
        tokens = layer(tokens, position_embeddings=angles, num_prefix_tokens=others)
        yield tokens


def _at_places(tensor: Any, others: int, name: str) -> Any:
    """A map as it is, or the patches at their places, (B, H, W, C), without the `others` before them."""
    if len(tensor.shape) == 4:
        return keras.layers.Identity(name=name)(tensor)
    side = math.isqrt(tensor.shape[1] - others)
    patches = keras.layers.Cropping1D((others, 0))(tensor) if others else tensor
    return keras.layers.Reshape((side, side, tensor.shape[-1]), name=name)(patches)
