"""A user's own ``.keras`` file as a row: what can be known of it without building it."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.archives import OF_ARCHIVES, read_member
from probe.backbones.backbone import KERAS_FILE, Backbone
from probe.backbones.hub_preset import EXTRA
from probe.errors import UsageError
from probe.records import load_json
from probe.whole import RECORD

PREFIX = "file:"
SUFFIX = ".keras"

OTHER_FORMATS: Mapping[str, str] = {
    ".h5": "keras.models.load_model(FILE).save('model.keras'); weights alone go with --weights FILE",
    ".hdf5": "keras.models.load_model(FILE).save('model.keras'); weights alone go with --weights FILE",
    ".pb": "rebuild the network in Keras, load its weights, and model.save('model.keras')",
    ".tflite": "save the Keras model it was made from as model.keras",
    ".pt": "rebuild the network in Keras, copy its weights, and model.save('model.keras')",
    ".pth": "rebuild the network in Keras, copy its weights, and model.save('model.keras')",
    ".safetensors": "rebuild the network in Keras, copy its weights, and model.save('model.keras')",
}
"""Suffix -> what to do with a model that is saved in another way."""

HALVES = {"float16": "fp16", "bfloat16": "bf16"}
PIXEL_INTEGERS = ("uint8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
"""Types of input that hold 0 to 255, and nothing that preprocessing makes of it."""
PROBABILITIES = ("softmax", "sigmoid")
OF_KERAS = ("keras", "keras_hub")
"""Packages whose layers need no code of the user's; Keras imports the second where it is installed."""
PASSED_THROUGH = ("Activation", "Softmax", "Dropout")
"""Layers that may stand between a classifier's last dense layer and its output."""


@dataclass(frozen=True)
class Saved:
    """What config.json says of a model.

    Attributes
    ----------
    shape : (B, H, W, channels) of its one input, None where it is left open.
    dtype : of that input.
    layers : name -> config of every layer, in the model's order.
    feeds : layer -> the layers whose outputs it takes, where it is used last.
    outputs : the layers the model ends with, usually one.
    """

    shape: list[int | None]
    dtype: str
    layers: Mapping[str, Mapping[str, Any]]
    feeds: Mapping[str, list[str]]
    outputs: tuple[str, ...]


def row(path: Path) -> Backbone:
    """The row for a saved model; its size is 0 where the model leaves it open.

    Its default output is what the model ends with, or, of a classifier, what goes into its last dense layer;
    empty where the user has to say (several outputs, or a classifier inside a nested model).

    Raises
    ------
    UsageError : there is no such file, it is no .keras file, or it does not take one square RGB picture.
    """
    saved = _read(path)
    _expect_layers_of_keras(path, saved)
    shape = saved.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise UsageError(
            f"{path} does not take pictures as this program gives them",
            expected="input (batch, side, side, 3)",
            found=f"input {tuple(shape)}",
        )
    side = int(shape[1] or 0)
    fixed_preprocess = _preprocess(path, saved)
    output, note = _default_output(saved)
    return Backbone(
        name=PREFIX + path.stem,
        kind=KERAS_FILE,
        network="",
        size=side,
        min_size=side or 1,
        width=None,
        preprocess=fixed_preprocess,
        integers=bool(fixed_preprocess),
        default_output=output,
        saved_precision=_precision(path, saved),
        file=path,
        note=note,
    )


def refuse_other_formats(name: str) -> None:
    """UsageError with the way to a .keras file, where `name` is a model that was saved in another way."""
    path = Path(name)
    if (path / "saved_model.pb").is_file():
        kind = "a SavedModel"
        way = "rebuild the network in Keras, load its weights, and model.save('model.keras')"
    elif path.suffix.lower() in OTHER_FORMATS and (path.exists() or "/" in name):
        kind, way = f"a {path.suffix} file", OTHER_FORMATS[path.suffix.lower()]
    else:
        return
    raise UsageError(f"{name} cannot be a backbone", expected="a model saved as .keras", found=kind, hint=way)


def _read(path: Path) -> Saved:
    try:
        with zipfile.ZipFile(path) as archive:
            config = read_member(archive, "config.json", RECORD)
        return _parse(path, load_json(config.decode("utf-8")))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError, StopIteration, *OF_ARCHIVES) as error:
        raise UsageError(
            f"{path} cannot be read as a backbone",
            expected="a functional or sequential model with an Input, saved by model.save('….keras')",
            found=f"{type(error).__name__}: {error}",
        ) from error


def _parse(path: Path, config: Mapping[str, Any]) -> Saved:
    listed: list[dict[str, Any]] = config["config"]["layers"]
    # A sequential model names a layer in its config only, a functional one beside it as well.
    layers = {str(layer.get("name") or layer["config"]["name"]): layer for layer in listed}
    if "output_layers" in config["config"]:
        inputs = _names(config["config"]["input_layers"])
        outputs = tuple(_names(config["config"]["output_layers"]))
        feeds = {name: list(_history(layer.get("inbound_nodes", [])[-1:])) for name, layer in layers.items()}
    else:
        names = list(layers)
        inputs = [next(name for name in names if layers[name]["class_name"] == "InputLayer")]
        outputs = (names[-1],)
        feeds = {name: names[:place][-1:] for place, name in enumerate(names)}
    if len(inputs) != 1:
        raise UsageError(
            f"{path} takes {len(inputs)} inputs",
            expected="a model with one input, a picture",
            found=", ".join(inputs),
            hint="save a model of the part that takes the picture: keras.Model(picture, features)",
        )
    entry = layers[inputs[0]]["config"]
    return Saved(entry["batch_shape"], str(entry.get("dtype") or "float32"), layers, feeds, outputs)


def _expect_layers_of_keras(path: Path, saved: Saved) -> None:
    """UsageError for code that is not in Keras: nothing of it is in the file, or it is the file's own."""
    foreign = sorted({name for layer in saved.layers.values() for name in _foreign(layer)})
    if foreign:
        raise UsageError(
            f"{path} has layers that are code of their own",
            expected="layers of Keras, which need none",
            found=", ".join(foreign),
            hint="save it without Lambda layers and without classes of your own, or export it as .onnx",
        )


def _foreign(layer: Mapping[str, Any]) -> Iterator[str]:
    for inner in _with_inner(layer):
        kind = str(inner.get("class_name"))
        if kind == "Lambda" or _package(inner) not in OF_KERAS:
            yield kind


def _with_inner(layer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A layer's description, and those of the layers of a nested model."""
    yield layer
    for inner in layer.get("config", {}).get("layers") or []:
        yield from _with_inner(inner)


def _package(layer: Mapping[str, Any]) -> str:
    return str(layer.get("module") or "keras").partition(".")[0]


def _names(described: Any) -> list[str]:
    """Names of layers in ``["a", 0, 0]``, ``[["a", 0, 0], …]`` or ``{"x": ["a", 0, 0]}``."""
    if isinstance(described, dict):
        return [name for value in described.values() for name in _names(value)]
    if described and isinstance(described[0], str):
        return [described[0]]
    return [name for value in described for name in _names(value)]


def _history(node: Any) -> Iterator[str]:
    """The layers whose tensors stand among a node's arguments."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield str(node["keras_history"][0])
        else:
            for value in node.values():
                yield from _history(value)
    elif isinstance(node, list):
        for value in node:
            yield from _history(value)


def _default_output(saved: Saved) -> tuple[str, str]:
    """(output, what is to be said of it); the output is empty where the user has to choose."""
    if len(saved.outputs) != 1:
        return "", "it has several outputs: " + ", ".join(saved.outputs)
    name = saved.outputs[0]
    if _is_nested_classifier(saved.layers[name]):
        return "", f"its classifier lies inside the nested model {name}"
    before, dense = _before_classifier(saved, name)
    if before:
        return before, f"the output is {before}, which goes into the classifier {dense}"
    # The name that stores have been known by, which means the layer that is listed last.
    return ("avg_pool" if name == list(saved.layers)[-1] else name), ""


def _before_classifier(saved: Saved, name: str) -> tuple[str, str]:
    """What goes into the last dense layer, and that layer; empty where the model does not end in
    probabilities."""
    gives_probabilities = False
    while saved.layers[name]["class_name"] in PASSED_THROUGH and len(saved.feeds[name]) == 1:
        gives_probabilities |= _activation(saved.layers[name]) in PROBABILITIES
        name = saved.feeds[name][0]
    is_dense = saved.layers[name]["class_name"] == "Dense"
    if is_dense:
        gives_probabilities |= _activation(saved.layers[name]) in PROBABILITIES
    if not gives_probabilities:
        return "", ""
    if not is_dense:  # the scores of a fully convolutional classifier
        return name, "that follows"
    fed = saved.feeds[name]
    usable = len(fed) == 1 and saved.layers[fed[0]]["class_name"] != "InputLayer"
    return (fed[0], name) if usable else ("", "")


def _is_nested_classifier(layer: Mapping[str, Any]) -> bool:
    inner = layer["config"].get("layers") or []
    return bool(inner) and _activation(inner[-1]) in PROBABILITIES


def _activation(layer: Mapping[str, Any]) -> str:
    if layer["class_name"] == "Softmax":
        return "softmax"
    found = layer["config"].get("activation") or ""
    return str(found.get("config", "")) if isinstance(found, dict) else str(found)


def _preprocess(path: Path, saved: Saved) -> str:
    """What the input's type says of the values it expects: integers are the pixels themselves."""
    if saved.dtype in PIXEL_INTEGERS:
        return "none"
    if not saved.dtype.startswith(("float", "bfloat")):
        raise UsageError(
            f"{path} does not take pictures as this program gives them",
            expected="an input of floats, or of integers that hold 0 to 255",
            found=f"an input of {saved.dtype}",
        )
    return ""


def _precision(path: Path, saved: Saved) -> str:
    """``fp16`` or ``bf16`` where any layer computes in it, else empty."""
    found = {_compute_type(value) for value in _policies(list(saved.layers.values()))}
    quantised = sorted(value for value in found if "_from_" in value)  # such as int8_from_float32
    if quantised:
        raise UsageError(
            f"{path} is quantised",
            expected="layers that compute in floats",
            found=quantised[0],
            hint="save the model as it was before quantize()",
        )
    return next((short for name, short in HALVES.items() if name in found), "")


def _policies(config: Any) -> Iterator[Any]:
    """Every layer's dtype policy, at any depth. Types of single tensors are none of a layer's arithmetic."""
    if isinstance(config, list):
        for value in config:
            yield from _policies(value)
    elif isinstance(config, dict):
        for name, value in config.items():
            if name == "dtype":
                yield value
            elif name != "inbound_nodes":
                yield from _policies(value)


def _compute_type(policy: Any) -> str:
    """``float16`` of ``mixed_float16``, of ``{"class_name": "DTypePolicy", "config": {"name": …}}``, …"""
    if isinstance(policy, dict):
        policy = policy.get("config", {}).get("name", "")
    return str(policy or "").removeprefix("mixed_")


def load(path: Path) -> Any:
    """The saved model as a `keras.Model`.

    Lambda layers are refused (Keras's safe mode): they are code from the file.

    Raises
    ------
    UsageError : Keras cannot load it, or it has layers of keras-hub, which is not installed.
    """
    from probe.backbones.hub_layers import keep_whole_configs
    from probe.tensorflow_setup import keras, pin

    pin()
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UsageError(
            f"Keras cannot load {path}",
            found=str(error).strip().partition("\n")[0],
            hint=_how_to_load(path),
        ) from error
    keep_whole_configs(model)
    return model


def _how_to_load(path: Path) -> str:
    layers = _read(path).layers.values()
    theirs = any(_package(inner) == "keras_hub" for layer in layers for inner in _with_inner(layer))
    if theirs and importlib.util.find_spec("keras_hub") is None:
        return EXTRA
    return "save it without Lambda layers and without classes of your own"
