"""A user's own ``.keras`` file as a row: what can be known of it without building it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from probe.backbones.backbone import Backbone
from probe.errors import UsageError

PREFIX = "file:"
SUFFIX = ".keras"


def row(path: Path) -> Backbone:
    """The row for a saved model; its size is 0 where the model leaves it open.

    Raises
    ------
    UsageError : there is no such file, it is no .keras file, or it does not take square RGB pictures.
    """
    shape = _input_shape(path)
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise UsageError(
            f"{path} does not take pictures as this program gives them",
            expected="input (batch, side, side, 3)",
            found=f"input {tuple(shape)}",
        )
    side = int(shape[1] or 0)
    return Backbone(
        name=PREFIX + path.stem, network="", size=side, min_size=side or 1, width=None, preprocess=""
    )


def _input_shape(path: Path) -> list[int | None]:
    """(B, H, W, channels) of the first input layer, from the config.json in the zip that a .keras file is."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        layers: list[dict[str, Any]] = config["config"]["layers"]
        return next(layer["config"]["batch_shape"] for layer in layers if layer["class_name"] == "InputLayer")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, StopIteration) as error:
        raise UsageError(
            f"{path} cannot be read as a backbone",
            expected="a functional or sequential model with an Input, saved by model.save('….keras')",
            found=f"{type(error).__name__}: {error}",
        ) from error


def load(path: Path) -> Any:
    """The saved model as a `keras.Model`.

    Lambda layers are refused (Keras's safe mode): they are code from the file.

    Raises
    ------
    UsageError : Keras cannot load it.
    """
    from probe.tensorflow_setup import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UsageError(
            f"Keras cannot load {path}",
            found=str(error).strip().partition("\n")[0],
            hint="save it without Lambda layers and without classes of your own",
        ) from error
