"""What a file of settings says of a network: its pixel values, its size, its features.

``model.onnx`` is described by ``model.json`` or ``model.onnx.json`` beside it, else by the
``preprocessor_config.json`` that Hugging Face's exports have. ``--preprocess FILE.json`` reads any such file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.backbones import preprocess
from probe.errors import UsageError
from probe.whole import read_json

SUFFIX = ".json"
HUGGING_FACE = "preprocessor_config.json"
KNOWN = ("preprocess", "mean", "std", "scale", "size", "output")
THEIRS = ("image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize")


@dataclass(frozen=True)
class Described:
    """What a side file says; empty and 0 for what it does not.

    Attributes
    ----------
    preprocess : name of a value convention.
    size : side of the input, pixels.
    output : the output that is meant when none is asked for.
    """

    preprocess: str = ""
    size: int = 0
    output: str = ""


def beside(path: Path) -> Described:
    """What is said of the model at `path` by a file beside it, if there is one. UsageError as `read`."""
    names = (path.stem + SUFFIX, path.name + SUFFIX, HUGGING_FACE)
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    return read(found) if found else Described()


def read(path: Path) -> Described:
    """The description in a file.

    ``preprocess`` names a convention; or ``mean`` and ``std``, RGB, are subtracted from and divide pixel
    values that were divided by ``scale`` (255) first. ``size`` and ``output`` may be there too. A file of
    Hugging Face's keys is read for its ``image_mean``, ``image_std`` and ``rescale_factor``.

    Raises
    ------
    UsageError : there is no such file, or it says nothing that can be understood.
    """
    try:
        said = read_json(path, follow=True)
        if not isinstance(said, dict):
            raise ValueError("no names with values")
        if any(name in said for name in THEIRS):
            return Described(_of_hugging_face(said))
        if "schema" in said and "input" in said:  # written by `probe export`: the model takes 0 to 255
            return Described("none")
        unknown = sorted(set(said) - set(KNOWN))
        if unknown:
            raise ValueError(f"the key {unknown[0]!r}")
        return Described(_convention(said), int(said.get("size", 0)), str(said.get("output", "")))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise UsageError(
            f"{path} does not describe the preprocessing of a network",
            expected='{"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]} or {"preprocess": "imagenet"}',
            found=str(error) or type(error).__name__,
        ) from error


def _convention(said: Mapping[str, Any]) -> str:
    """The convention of our own keys; empty where there is none of them."""
    if "preprocess" in said:
        preprocess.check(str(said["preprocess"]))
        return str(said["preprocess"])
    return _standardised(said["mean"], said["std"], float(said.get("scale", 255))) if "mean" in said else ""


def _of_hugging_face(said: Mapping[str, Any]) -> str:
    scale = 1 / float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    if not said.get("do_normalize", True):
        return _standardised([0.0] * 3, [1.0] * 3, scale)
    return _standardised(said["image_mean"], said["image_std"], scale)


def _standardised(mean: Any, std: Any, scale: float) -> str:
    """The name of the convention ``(x / scale - mean) / std`` of pixel values x from 0 to 255."""
    return preprocess.standardise([value * scale for value in mean], [value * scale for value in std])
