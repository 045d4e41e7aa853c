"""Presets of keras-hub as rows: what can be known of one from its folder, without building it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from probe.backbones import preprocess
from probe.backbones.backbone import HUB_PRESET, Backbone
from probe.errors import UsageError, WeightsError
from probe.hashing import file_hash
from probe.whole import read_json

PREFIX = "hub:"
EXTRA = "pip install 'probe[hub]'"
CONFIG, CONVERTER = "config.json", "image_converter.json"
CLASS_TOKEN = ("ViT", "DeiT", "DINOV2", "DINOV3", "CLIP", "MetaCLIP2")
"""Families that begin their tokens with one for the whole picture."""
OWN_POOLING, TOKENS = ("SigLIP",), ("SwinTransformer",)
KINDS = ("Backbone", "VisionEncoder")


def is_preset(name: str) -> bool:
    """Whether a backbone is meant that is a preset: ``hub:NAME``, ``hub:FOLDER``, or such a folder itself."""
    return name.startswith(PREFIX) or (Path(name) / CONFIG).is_file()


def row(name: str) -> Backbone:
    """The row of a preset: its size and values as its picture converter says, its features as its family has.

    Raises
    ------
    WeightsError : there is no such preset, or it cannot be fetched.
    UsageError : keras-hub is not installed, or what lies there is no preset.
    """
    name = name.removeprefix(PREFIX)
    folder = _folder(name)
    kind, config = _read(folder / CONFIG)
    vision = config.get("vision_encoder")
    if isinstance(vision, Mapping):
        config = vision["config"]
    converter = _read(folder / CONVERTER)[1] if (folder / CONVERTER).is_file() else None
    fixed, wanted = _side(config.get("image_shape")), _side((converter or {}).get("image_size"))
    return Backbone(
        name=PREFIX + Path(name).resolve().name,
        kind=HUB_PRESET,
        network="",
        size=fixed or wanted,
        min_size=fixed or 1,
        width=None,
        preprocess=_values(converter) if converter is not None else "",
        default_output=_default_output(kind, config),
        bf16=False,
        file=folder,
        note=f"{kind} of keras-hub",
    )


def weights_hash(folder: Path) -> str:
    """sha256 of every file in the folder of a preset, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = (f"{path.relative_to(folder)} {file_hash(path, follow=True)}" for path in files)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _folder(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or len(path.parts) > 1:
        raise WeightsError(f"there is no folder {name}", expected="one that save_to_preset wrote")
    return _fetched(name)


@lru_cache(maxsize=8)
def _fetched(name: str) -> Path:
    """The folder of a preset that keras-hub knows by name; kagglehub keeps what it has fetched."""
    from probe import tensorflow_setup  # noqa: F401  Keras and its settings come first, as everywhere

    try:
        import kagglehub
        import keras_hub
    except ImportError as error:
        raise UsageError("hub: needs the package keras-hub", found=str(error), hint=EXTRA) from error
    known = keras_hub.models.Backbone.presets
    if name not in known:
        raise WeightsError(
            f"keras-hub knows no preset {name}",
            expected="one of keras.io/keras_hub/presets, or a folder",
            hint=f"hub:./{name} means a folder here",
        )
    try:
        return Path(kagglehub.model_download(known[name]["kaggle_handle"].removeprefix("kaggle://")))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the preset {name} could not be fetched",
            found=f"{type(error).__name__}: {error}".partition("\n")[0],
            hint="save it elsewhere with save_to_preset, and mean the folder: hub:./folder",
        ) from error


def _read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """(class, its config) of one of a preset's files."""
    try:
        found = read_json(path, follow=True)
        return str(found["class_name"]), dict(found["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} cannot be read as a part of a preset",
            expected="a folder that save_to_preset of keras-hub wrote",
            found=f"{type(error).__name__}: {error}",
        ) from error


def _side(shape: Any) -> int:
    """The side of ``(height, width, …)``; 0 where that is open. UsageError where it is no square."""
    if not isinstance(shape, list) or not shape or shape[0] is None:
        return 0
    if shape[0] != shape[1]:
        raise UsageError("the preset takes no square pictures", found=f"{shape[0]} by {shape[1]}")
    return int(shape[0])


def _values(converter: Mapping[str, Any]) -> str:
    """``x * scale + offset`` of a converter as the convention ``(x - mean) / std``."""
    scale, offset = _three(converter.get("scale"), 1.0), _three(converter.get("offset"), 0.0)
    mean = [-o / s for o, s in zip(offset, scale, strict=True)]
    return preprocess.standardise(mean, [1 / s for s in scale])


def _three(value: Any, default: float) -> list[float]:
    if value is None:
        return [default] * 3
    return [float(v) for v in value] if isinstance(value, list) else [float(value)] * 3


def _default_output(kind: str, config: Mapping[str, Any]) -> str:
    for end in KINDS:
        kind = kind.removesuffix(end)
    if kind in OWN_POOLING:
        return "pooled"
    if kind in CLASS_TOKEN and config.get("use_class_token", True):
        return "cls"
    return "mean" if kind in (*CLASS_TOKEN, *TOKENS) else "avg_pool"
