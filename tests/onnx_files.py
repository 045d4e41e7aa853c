"""Small networks as ONNX files, as exporters write them: a CNN of either layout, and a vision transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17)]


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(numbers(name, *shape), name)


def numbers(name: str, *shape: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(sum(map(ord, name)))
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def write(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any], **save: Any
) -> Path:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path, **save)
    return path


def cnn(
    path: Path,
    *,
    layout: str = "NCHW",
    side: int | str = 16,
    batch: int | str = "batch",
    kind: int = TensorProto.FLOAT,
    end: str = "map",
    **save: Any,
) -> Path:
    """Two convolutions; ``end`` is ``map`` (B, 8, …), ``pool`` (B, 8), ``scores`` (B, 3) or ``softmax``.

    The names are those that PyTorch gives, with slashes.
    """
    shape = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    nodes = []
    taken = "pixels"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [taken], ["/cast"], to=TensorProto.FLOAT))
        taken = "/cast"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [taken], ["/first"], perm=[0, 3, 1, 2]))
        taken = "/first"
    convolved = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes += [
        helper.make_node("Conv", [taken, "w1"], ["/stem/Conv_output_0"], **convolved),
        helper.make_node("Relu", ["/stem/Conv_output_0"], ["/stem/Relu_output_0"]),
        helper.make_node("Conv", ["/stem/Relu_output_0", "w2"], ["features"], **convolved),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("w2", 8, 4, 3, 3)]
    outputs = {"map": value("features", [batch, 8, None, None])}
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["features"], ["last"], perm=[0, 2, 3, 1]))
        outputs["map"] = value("last", [batch, None, None, 8])
    if end != "map":
        nodes += [
            helper.make_node("GlobalAveragePool", ["features"], ["/pool"]),
            helper.make_node("Flatten", ["/pool"], ["pooled"]),
            helper.make_node("Gemm", ["pooled", "w3"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["softmax"]),
        ]
        weights.append(weight("w3", 8, 3))
        outputs |= {"pool": value("pooled", [batch, 8])}
        outputs |= {name: value(name, [batch, 3]) for name in ("scores", "softmax")}
    return write(path, nodes, [value("pixels", shape, kind)], [outputs[end]], weights, **save)


def transformer(path: Path, *, side: int = 16, registers: int = 0, pooler: bool = False) -> Path:
    """Patches of 4 pixels, a class token and registers in front of them, one block; tokens (B, T, 6)."""
    patches, width = (side // 4) ** 2, 6
    count = patches + 1 + registers
    nodes = [
        helper.make_node("Conv", ["pixels", "patch"], ["/embed/Conv_output_0"], strides=[4, 4]),
        helper.make_node("Reshape", ["/embed/Conv_output_0", "flat"], ["/embed/Reshape_output_0"]),
        helper.make_node("Transpose", ["/embed/Reshape_output_0"], ["/embed/tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["/embed/tokens"], ["/mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["/mean", "cls"], ["/cls"]),
        helper.make_node("Concat", ["/cls", "/embed/tokens"], ["/all"], axis=1),
        helper.make_node("MatMul", ["/all", "mix"], ["/block/MatMul_output_0"]),
        helper.make_node("Tanh", ["/block/MatMul_output_0"], ["last_hidden_state"]),
    ]
    weights = [
        weight("patch", width, 3, 4, 4),
        weight("cls", 1, 1 + registers, width),
        weight("mix", width, width),
    ]
    weights.append(numpy_helper.from_array(np.array([0, width, patches], np.int64), "flat"))
    outputs = [value("last_hidden_state", ["batch", count, width])]
    if pooler:
        nodes.append(
            helper.make_node("ReduceMax", ["last_hidden_state"], ["pooler_output"], axes=[1], keepdims=0)
        )
        outputs.append(value("pooler_output", ["batch", width]))
    return write(path, nodes, [value("pixels", ["batch", 3, side, side])], outputs, weights)
