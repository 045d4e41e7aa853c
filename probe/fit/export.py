"""A run as one model file: pixels in, class probabilities out, for programs that do not know this package.

The model is preprocessing, backbone, pooling and head, or preprocessing and the network that the run trained
itself, computed in float32. Of a run in float32 its probabilities equal those of `probe predict` to 1e-4. The
features of a run in bfloat16 or float16 were less precise, and its exported model differs from it by that:
for EfficientNet-Lite0 in bfloat16 on 320 images at 64 pixels, in probability by 0.003 in the median and 0.05
at most.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe import backbones
from probe.config import Home
from probe.durable import replacing
from probe.errors import FitError, ProbeError, UsageError, unknown_name
from probe.fit.card import card_text
from probe.fit.network import load_network, whole_model
from probe.fit.predict import load_own_head, recorded_backbone
from probe.heads import HEADS
from probe.heads.head import Head, LayeredHead
from probe.images.path import recorded_path
from probe.registry import load_object
from probe.runs import Run, keeps_network
from probe.versions import versions

SCHEMA = 1
OPSET = 17
"""Of the ONNX operators; every onnxruntime since 1.12 (2022) knows it."""
_CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"
"""The variable by which tf2onnx is told to go on with the graph as it was where a simplification fails."""


@dataclass(frozen=True)
class Exported:
    """What was written: the model, beside it a description in JSON with the class names, and a card."""

    model: Path
    description: Path
    card: Path
    facts: Mapping[str, Any] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        files = {"model": self.model, "description": self.description, "card": self.card}
        return {**{name: str(file) for name, file in files.items()}, **self.facts}


def export(run: Run, home: Home, kind: str = "keras", path: Path | None = None) -> Exported:
    """Write a run as one model, replacing a file of this name.

    Parameters
    ----------
    kind : ``keras`` or ``onnx``.
    path : where to; by default the run's name in the current folder. The description goes beside it as
        ``<path>.json``, the card as ``<path>.md``.

    Raises
    ------
    UnknownNameError : there is no such format.
    UsageError : the path has another suffix than the format, or its folder does not exist.
    FitError : the run is of a kind that cannot see images, or its head is not a network.
    WeightsError : the weights here are not those the run was fitted on.
    ProbeError : the packages that write ONNX are not installed.
    """
    write = _writer(kind)
    path = _checked(path or Path(f"{run.name}.{kind}"), kind)
    model = whole_model(load_network(run)) if keeps_network(run) else _fitted_model(run, home)
    facts = _describe(run, kind, model)
    with replacing(path) as partial:
        write(model, partial, facts)
    description = path.with_name(path.name + ".json")
    with replacing(description) as partial:
        partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    card = path.with_name(path.name + ".md")
    with replacing(card) as partial:
        partial.write_text(card_text(run, facts, path.name), encoding="utf-8")
    return Exported(path, description, card, facts)


def _fitted_model(run: Run, home: Home) -> Any:
    """Backbone and head of a run of `probe fit` as one `keras.Model`."""
    spec = recorded_backbone(run, home)
    head = _layered(load_own_head(run))
    return _joined(backbones.build_embedder(spec), head)


def _joined(embedder: Any, head: LayeredHead) -> Any:
    from probe.tensorflow_setup import keras

    return keras.Model(embedder.inputs, head.keras_model()(embedder.outputs[0]), name="probe")


def _layered(head: Head) -> LayeredHead:
    if not isinstance(head, LayeredHead):
        able = [row.name for row in HEADS.values() if hasattr(load_object(row.head), "keras_model")]
        raise FitError(
            f"a {head.name} head cannot be exported: it is not a network",
            expected="a run of " + ", ".join(able),
            found=head.name,
            hint="fit one of these on the same store, it takes seconds",
        )
    return head


def _checked(path: Path, kind: str) -> Path:
    if path.suffix != f".{kind}":
        raise UsageError(
            "the file's name and the format do not agree",
            expected=f"a name ending in .{kind}",
            found=path.name,
        )
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    return path


def _describe(run: Run, kind: str, model: Any) -> dict[str, Any]:
    """What a program needs to know to use the model."""
    record, size = run.record, model.inputs[0].shape[1]
    return {
        "schema": SCHEMA,
        "format": kind,
        "run": run.name,
        "needs": ["onnxruntime"] if kind == "onnx" else backbones.packages_of(model),
        "input": {
            "name": "pixels",
            "shape": [None, size, size, 3],
            "dtype": "float32" if kind == "onnx" else "uint8 or float32",
            "channels": "RGB",
            "values": "0 to 255; preprocessing is part of the model",
            "resize": record.pixels,
            "decoding": recorded_path(record.pixels, record.pixel_policy).text(),
        },
        "output": {"name": "probabilities", "shape": [None, len(record.classes)], "dtype": "float32"},
        "classes": list(record.classes),
        "head": record.head,
        "backbone": record.backbone,
        "computed_in": "fp32",
        "versions": versions(),
    }


def _write_keras(model: Any, path: Path, facts: Mapping[str, Any]) -> None:
    """Keras's own format has no place for the class names; they are in the description only."""
    backbones.expect_kept(model)
    model.save(path)


def _write_onnx(model: Any, path: Path, facts: Mapping[str, Any]) -> None:
    import onnx

    try:
        proto = _converted(_traced(model))
        onnx.checker.check_model(proto)
    except Exception as error:  # whatever the converter raises of an operation it does not know
        raise FitError(
            "this network cannot be written as ONNX",
            expected="operations that tf2onnx knows",
            found=f"{type(error).__name__}: {error}".partition("\n")[0],
            hint="--format keras",
        ) from error
    onnx.helper.set_model_props(
        proto, {"classes": json.dumps(facts["classes"]), "probe": json.dumps(dict(facts))}
    )
    onnx.save(proto, path)


def _converted(predict: Any) -> Any:
    """The ONNX graph of a `tf.function`. Raises whatever tf2onnx does."""
    import tf2onnx

    convert = functools.partial(
        tf2onnx.convert.from_function,
        predict,
        input_signature=predict.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_one_minus_erf, [])},
    )
    # tf2onnx copies the graph before each of its simplifications, a third of the time, to go on with
    # the old one where that fails. None is expected to: that is done only where it happens.
    before = os.environ.get(_CATCH_ERRORS)
    os.environ[_CATCH_ERRORS] = "FALSE"
    try:
        proto, _ = convert()
    except Exception:  # noqa: BLE001 - of a simplification, or what the second attempt raises again
        del os.environ[_CATCH_ERRORS]
        proto, _ = convert()
    finally:
        os.environ.pop(_CATCH_ERRORS, None)
        if before is not None:
            os.environ[_CATCH_ERRORS] = before
    return proto


def _traced(model: Any) -> Any:
    """The `tf.function` ``pixels`` -> ``probabilities`` of a model."""
    from probe.tensorflow_setup import convert_variables_to_constants_v2, tf

    signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32, name="pixels")]

    @tf.function(input_signature=signature)
    def predict(pixels: Any) -> dict[str, Any]:
        return {"probabilities": model(pixels, training=False)}

    traced = predict.get_concrete_function()
    if all(tensor.dtype == tf.resource for tensor in traced.captured_inputs):
        return predict
    # tf2onnx takes a tensor that a layer holds, and that is no variable, for one more input.
    forward = tf.function(lambda pixels: [model(pixels, training=False)], input_signature=signature)
    frozen = convert_variables_to_constants_v2(forward.get_concrete_function(), lower_control_flow=False)

    @tf.function(input_signature=signature)
    def without_captures(pixels: Any) -> dict[str, Any]:
        return {"probabilities": frozen(pixels)[0]}

    return without_captures


def _one_minus_erf(graph: Any, node: Any, name: str, arguments: Any) -> Any:
    """``Erfc``, which TensorFlow makes of GELU and ONNX does not have, for tf2onnx."""
    (output,) = node.output
    like = {"shapes": [graph.get_shape(output)], "dtypes": [graph.get_dtype(output)]}
    inputs = list(node.input)
    graph.remove_node(name)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
    erf = graph.make_node("Erf", inputs, name=f"{name}_erf", **like).output[0]
    return graph.make_node("Sub", [one, erf], outputs=[output], name=name, **like)


WRITERS: dict[str, Callable[[Any, Path, Mapping[str, Any]], None]] = {
    "keras": _write_keras,
    "onnx": _write_onnx,
}
"""Format, which is also the suffix of its files -> how it is written."""


def _writer(kind: str) -> Callable[[Any, Path, Mapping[str, Any]], None]:
    if kind not in WRITERS:
        raise unknown_name("format", kind, WRITERS)
    if kind == "onnx":
        _check_onnx()
    return WRITERS[kind]


def _check_onnx() -> None:
    """Before anything is computed: the packages are an extra."""
    import importlib.util

    missing = [name for name in ("onnx", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ProbeError(
            "this installation cannot write ONNX",
            expected="the packages onnx and tf2onnx",
            found="no " + ", no ".join(missing),
            hint="pip install 'probe[onnx]', or --format keras",
        )
