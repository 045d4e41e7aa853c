"""Value conventions: what a network was trained to see in place of 0–255 RGB.

Each is affine per channel, ``(x - mean) / std`` with x from 0 to 255, after an optional reversal of the
channels or their reduction to grey; so it sits inside the graph in front of the first layer, in float32 at
every precision.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError, unknown_name

Channels = tuple[float, ...]

GREY = (0.299, 0.587, 0.114)
"""Weights of RGB in the brightness of a pixel (ITU-R BT.601, Pillow's mode L). They add up to 1, so a picture
that is grey already keeps its values."""


@dataclass(frozen=True)
class Convention:
    """``(x - mean) / std`` per channel, in the order the network sees them; x is 0–255.

    ``reverse`` turns RGB into BGR before that, so `mean` and `std` are then in BGR order; ``grey`` turns RGB
    into one channel, its brightness, and they have one number each.
    """

    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    reverse: bool = False
    grey: bool = False

    def apply(self, pixels: Any) -> Any:
        """(…, 3) float32 RGB from 0 to 255, numpy array or TensorFlow tensor -> (…, 3) or (…, 1)."""
        if self.reverse:
            pixels = pixels[..., ::-1]
        if self.grey:
            pixels = pixels @ np.array(GREY, np.float32)[:, None]
        # What changes nothing is left out: TensorFlow would compute it.
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        if mean.any():
            pixels = pixels - mean
        return pixels if (std == 1).all() else pixels / std


IMAGENET = Convention(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
"""Statistics of ImageNet as torchvision, timm and DINO have them."""

# The ImageNet statistics of Caffe (BGR) and torchvision (RGB), which the published weights were trained with.
CONVENTIONS: dict[str, Convention] = {
    "caffe": Convention(mean=(103.939, 116.779, 123.68), reverse=True),
    "tf": Convention(mean=(127.5,) * 3, std=(127.5,) * 3),
    "torch": IMAGENET,
    "imagenet": IMAGENET,
    "clip": Convention(
        mean=(0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
        std=(0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
    ),
    "lite": Convention(mean=(127.0,) * 3, std=(128.0,) * 3),
    "unit": Convention(std=(255.0,) * 3),
    "none": Convention(),
}
KERAS = "keras:"
STANDARDISE = "standardise:"


def check(name: str) -> None:
    """Raise `UnknownNameError` or `UsageError` unless `name` is a convention; imports no TensorFlow."""
    if name.startswith(STANDARDISE):
        _parse_standardise(name)
    elif name.startswith(KERAS):
        if name.removeprefix(KERAS) not in keras_modules():
            raise unknown_name("preprocessing", name, [KERAS + module for module in keras_modules()])
    elif name not in CONVENTIONS:
        raise unknown_name(
            "preprocessing", name, [*CONVENTIONS, "keras:<module>", "standardise:<mean>:<std>"]
        )


def convention(name: str) -> Convention:
    """The convention called `name`; ``keras:<module>`` imports Keras.

    Raises
    ------
    UnknownNameError, UsageError : as `check`.
    """
    check(name)
    if name.startswith(STANDARDISE):
        return _parse_standardise(name)
    if name.startswith(KERAS):
        return _from_keras(name.removeprefix(KERAS))
    return CONVENTIONS[name]


def standardise(mean: Sequence[float], std: Sequence[float]) -> str:
    """The name of the convention that subtracts `mean` and divides by `std`, RGB, in pixel values 0–255.

    Rounded to six digits, and applied exactly as spelled: what the store's key says is what was computed.
    """
    name = STANDARDISE + ":".join(",".join(f"{value:.6g}" for value in values) for values in (mean, std))
    _parse_standardise(name)
    return name


def _parse_standardise(name: str) -> Convention:
    problem = UsageError(
        "this standardisation cannot be used",
        expected="standardise:m,m,m:s,s,s, RGB means and deviations (above 0) in pixel values 0 to 255",
        found=name,
    )
    try:
        mean, std = (
            tuple(float(number) for number in part.split(","))
            for part in name.removeprefix(STANDARDISE).split(":")
        )
    except ValueError:
        raise problem from None
    finite = all(math.isfinite(number) for number in (*mean, *std))
    if len(mean) != 3 or len(std) != 3 or not finite or min(std) <= 0:
        raise problem
    return Convention(mean, std)


def keras_modules() -> list[str]:
    """Modules of keras.applications that have a ``preprocess_input``, found without importing Keras."""
    found = importlib.util.find_spec("keras")
    if found is None or found.origin is None:
        return []
    folders = (Path(found.origin).parent / "applications").iterdir()
    return sorted(
        folder.name
        for folder in folders
        if (folder / "__init__.py").exists() and folder.name != "imagenet_utils"
    )


def _from_keras(module: str) -> Convention:
    """Measure what a ``preprocess_input`` does, and check on random pixels that this is all it does.

    Measuring rather than naming the mode keeps this right for networks that Keras adds or changes.
    """
    from probe.tensorflow_setup import keras

    preprocess_input = getattr(keras.applications, module).preprocess_input
    # (4, 1, 1, 3): black, then red, green and blue at full value. Copied, as Keras writes into its argument.
    probes = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).reshape(4, 1, 1, 3)
    black, *colours = np.asarray(preprocess_input(probes.copy()), np.float64).reshape(4, 3)
    response: NDArray[np.float64] = np.stack(colours) - black  # (input channel, output channel)
    reverse = bool(abs(response[0, 2]) > abs(response[0, 0]))
    std = 255 / np.diag(response[:, ::-1] if reverse else response)[:: -1 if reverse else 1]
    measured = Convention(_channels(-black * std), _channels(std), reverse)

    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    theirs = np.asarray(preprocess_input(pixels.copy()))
    if not np.allclose(theirs, measured.apply(pixels), rtol=1e-5, atol=1e-5 * np.abs(theirs).max()):
        raise UsageError(
            f"keras.applications.{module}.preprocess_input is more than a scale and a shift per channel",
            hint="choose --preprocess " + ", ".join(CONVENTIONS),
        )
    return measured


def _channels(values: NDArray[np.float64]) -> Channels:
    first, second, third = (float(value) for value in values)
    return first, second, third
