"""The engine ``openvino``: the network's graph in OpenVINO's own form, compiled for the CPU.

The graph, pixels in and every requested output out, is made once by the framework of the network and kept in
the home's cache with the hashes of its files; from then on that framework is not imported.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from probe.backbones import onnx_file, weights
from probe.backbones.backbone import ONNX_FILE, Backbone, BackboneSpec, Extractor, expect_pixels
from probe.backbones.onnx_extractor import OnnxExtractor, pictures_at_once, tensors_of
from probe.config import Home, canonical_json, own_place
from probe.durable import discard, replacing
from probe.errors import NOT_WRITABLE, UsageError
from probe.hashing import file_hash
from probe.machine import usable_cpus
from probe.openvino_setup import load_openvino
from probe.scratch import wait_for
from probe.whole import read_json

FOLDER = "openvino"
CONVERSION = 1
"""Part of what a kept graph is called: another number where the same network would be converted otherwise."""
GRAPH, CONSTANTS, RECORD = "graph.xml", "graph.bin", "graph.json"
ARITHMETIC = {"fp32": "f32", "bf16": "bf16"}


class CompiledExtractor:
    """A compiled graph behind the `Extractor` contract."""

    def __init__(self, compiled: Any, spec: BackboneSpec, batch_size: int) -> None:
        self.batch_size = batch_size
        self._places = {
            output: compiled.output(_tensor(number)) for number, output in enumerate(spec.outputs)
        }
        self.shapes: Mapping[str, tuple[int, ...]] = {
            output: tuple(place.shape)[1:] for output, place in self._places.items()
        }
        self._request = compiled.create_infer_request()
        self._input_shape = (batch_size, spec.size, spec.size, 3)

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Extractor`."""
        expect_pixels(pixels, self._input_shape)
        found = self._request.infer([np.ascontiguousarray(pixels)])
        return {output: found[place] for output, place in self._places.items()}


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`; the graph is kept in `home`."""
    weights.check(spec)
    if row.kind == ONNX_FILE:
        return _of_onnx(row, spec, batch_size)
    graph = _graph(row, spec, home)
    graph.reshape([batch_size, spec.size, spec.size, 3])
    return CompiledExtractor(_compiled(graph, spec), spec, batch_size)


def _compiled(graph: Any, spec: BackboneSpec) -> Any:
    # What decides a bit or a thread is said. Threads that are pinned would crowd on the first processors,
    # where those of other processes are pinned as well.
    settings = {
        "INFERENCE_PRECISION_HINT": ARITHMETIC[spec.precision],
        "INFERENCE_NUM_THREADS": usable_cpus(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return load_openvino().Core().compile_model(graph, "CPU", settings)


def _of_onnx(row: Backbone, spec: BackboneSpec, batch_size: int) -> Extractor:
    """The file as it is: nothing is kept of it, since reading it takes no framework."""
    assert row.file is not None
    network = onnx_file.network(row.file)
    tensors = tensors_of(network, spec)
    names = list(dict.fromkeys(tensor.tensor for tensor in tensors))
    side, pictures = [spec.size, spec.size], pictures_at_once(network, batch_size)
    try:
        graph = load_openvino().Core().read_model(row.file)
        graph.add_outputs([name for name in names if not _ends_with(graph, name)])
        graph.reshape([pictures, 3, *side] if network.channels_first else [pictures, *side, 3])
        compiled = _compiled(graph, spec)
    except RuntimeError as error:
        raise _cannot(row, error, "onnxruntime") from error
    places = [compiled.output(tensor.tensor) for tensor in tensors]
    request = compiled.create_infer_request()

    def compute(values: NDArray[Any]) -> list[NDArray[Any]]:
        found = request.infer([values])
        return [found[place] for place in places]

    return OnnxExtractor(compute, network, tensors, spec, batch_size)


def _ends_with(graph: Any, name: str) -> bool:
    return any(name in output.get_names() for output in graph.outputs)


def _cannot(row: Backbone, error: RuntimeError, other: str) -> UsageError:
    return UsageError(
        f"OpenVINO cannot compute {row.name}",
        found=str(error).strip().partition("\n")[0],
        hint=f"--engine {other}",
    )


def _tensor(number: int) -> str:
    """What the graph calls an output: names of layers may hold what names of tensors may not."""
    return f"output{number}"


def _graph(row: Backbone, spec: BackboneSpec, home: Home | None) -> Any:
    """The `openvino.Model` of any batch size: the one that is kept, else a new one, kept if it can be.

    It is read from its files in either case, so that the first extraction computes what the second does.
    """
    if home is not None:
        try:
            return _kept(row, spec, home)
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
    with tempfile.TemporaryDirectory() as folder:
        _write(row, spec, Path(folder))
        return _read(Path(folder))


def _kept(row: Backbone, spec: BackboneSpec, home: Home) -> Any:
    identity = _identity(spec)
    folder = own_place(home.cache, FOLDER, hashlib.sha256(identity.encode()).hexdigest()[:32])
    if not _is_whole(folder, identity):
        home.mark()
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Parts of one job that start together need the same graph: the first makes it, the others wait.
        with wait_for(folder.with_suffix(".lock")):
            if not _is_whole(folder, identity):
                _keep(row, spec, folder, identity)
    return _read(folder)


def _identity(spec: BackboneSpec) -> str:
    """All that the graph depends on; the precision is not chosen before it is compiled."""
    parts = {name: value for name, value in spec.key_part().items() if name != "precision"}
    return canonical_json({**parts, "conversion": CONVERSION, "openvino": version("openvino")})


def _is_whole(folder: Path, identity: str) -> bool:
    """Whether the graph called `identity` lies in `folder`, with the bytes that were written."""
    try:
        record = read_json(folder / RECORD)
        hashes = {name: file_hash(folder / name) for name in (GRAPH, CONSTANTS)}
    except (OSError, ValueError):
        return False
    return bool(record == {"identity": identity, "files": hashes})


def _keep(row: Backbone, spec: BackboneSpec, folder: Path, identity: str) -> None:
    discard(folder)
    with replacing(folder) as whole:
        whole.mkdir()
        _write(row, spec, whole)
        hashes = {name: file_hash(whole / name) for name in (GRAPH, CONSTANTS)}
        (whole / RECORD).write_text(json.dumps({"identity": identity, "files": hashes}), encoding="utf-8")


def _read(folder: Path) -> Any:
    return load_openvino().Core().read_model(folder / GRAPH)


def _write(row: Backbone, spec: BackboneSpec, folder: Path) -> None:
    """Write the graph of `spec` into `folder`, all constants in float32.

    Raises
    ------
    UsageError : OpenVINO does not know an operation of it.
    """
    openvino = load_openvino()
    source, tensors = _of_keras(row, spec, folder)
    try:
        graph = openvino.Core().read_model(source)
    except RuntimeError as error:
        raise _cannot(row, error, "tensorflow") from error
    for number, tensor in enumerate(tensors):
        graph.output(tensor).get_tensor().add_names({_tensor(number)})
    openvino.serialize(graph, folder / GRAPH, folder / CONSTANTS)
    source.unlink()
    _keep_depthwise_whole(folder / GRAPH)


def _keep_depthwise_whole(path: Path) -> None:
    """Mark the depthwise convolutions of a graph as to stay in float32, where it is computed in bfloat16.

    Their trained kernels nearly sum to zero, so rounding them costs more than all else. Only the format of
    the file has a mark for it.
    """
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("./layers/layer[@type='GroupConvolution']"):
        known = layer.find("rt_info")
        marks = ElementTree.SubElement(layer, "rt_info") if known is None else known
        ElementTree.SubElement(marks, "attribute", name="precise", version="0")
    tree.write(path, xml_declaration=True, encoding="utf-8")


def _of_keras(row: Backbone, spec: BackboneSpec, folder: Path) -> tuple[Path, list[str]]:
    """The network as a file of TensorFlow's, and its tensors in the order of `spec.outputs`.

    Preprocessing is in front of it, pooling behind it. OpenVINO folds batch normalisation itself.
    """
    from probe.backbones import network
    from probe.backbones.forward import freeze_graph
    from probe.backbones.graph import signature

    model, values = network.build_to_freeze(row, spec)
    with values:
        graph = freeze_graph(model, row, spec, signature(spec, None))
    path = folder / "network.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path, [output.name for output in graph.outputs]
