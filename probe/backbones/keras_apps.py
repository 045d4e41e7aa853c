"""Any network of keras.applications as a row: found by name, without importing Keras."""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path
from typing import Any

from probe.backbones.backbone import Backbone
from probe.durable import replacing
from probe.errors import WeightsError, unknown_name
from probe.registry import load_object

PREFIX = "keras:"

# Keras states these inside its constructors only. Everything else is 224 and accepts 32 and more.
SIZES = {
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384,
    "EfficientNetV2M": 480,
    "EfficientNetV2L": 480,
    "InceptionResNetV2": 299,
    "InceptionV3": 299,
    "NASNetLarge": 331,
    "Xception": 299,
}
MIN_SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}


def row(name: str) -> Backbone:
    """The row for a constructor of keras.applications, ``keras:`` in front or not, in any case.

    Raises
    ------
    UnknownNameError : Keras has no such network.
    """
    modules = constructors()
    spelled = {constructor.lower(): constructor for constructor in modules}
    wanted = name.removeprefix(PREFIX).lower()
    if wanted not in spelled:
        raise unknown_name("network of keras.applications", name.removeprefix(PREFIX), modules)
    constructor = spelled[wanted]
    return Backbone(
        name=PREFIX + constructor,
        network=f"keras.applications:{constructor}",
        size=SIZES.get(constructor, 224),
        min_size=MIN_SIZES.get(constructor, 32),
        width=None,
        preprocess=PREFIX + modules[constructor],
        source="https://keras.io/api/applications",
    )


@functools.cache
def constructors() -> dict[str, str]:
    """Constructor -> module of keras.applications, read from the imports of its ``__init__.py``.

    Reading instead of importing answers in milliseconds rather than seconds.
    """
    keras = importlib.util.find_spec("keras")
    if keras is None or keras.origin is None:
        return {}
    source = (Path(keras.origin).parent / "applications" / "__init__.py").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.module]
    return {
        alias.name: str(node.module).rpartition(".")[2]
        for node in imports
        for alias in node.names
        if alias.name[0].isupper()
    }


def imagenet_file(row: Backbone, size: int, folder: Path) -> Path:
    """The ImageNet weights of a network that has no row of its own, as one file in `folder`.

    Keras alone knows where they are published and what they hash to, and for some networks they depend
    on the input size; so the first use lets Keras fetch and check them and keeps the result.

    Raises
    ------
    WeightsError : Keras cannot get them.
    """
    constructor = row.network.partition(":")[2]
    path = folder / f"{constructor}-{size}-imagenet-notop.weights.h5"
    if not path.exists():
        model = _let_keras_fetch(row, size, path)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            model.save_weights(partial)
    return path


def _let_keras_fetch(row: Backbone, size: int, path: Path) -> Any:
    from probe.tensorflow_setup import pin

    pin()
    try:
        return load_object(row.network)(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    except Exception as error:  # Keras raises plain Exception for a failed download
        raise WeightsError(
            f"the ImageNet weights of {row.name} could not be had",
            expected=f"{path}, or a network connection for Keras to fetch them with",
            found=str(error),
            hint="use --backbone efficientnet-lite0, whose weights come with the installation",
        ) from error
