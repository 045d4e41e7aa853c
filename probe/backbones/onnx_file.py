"""A user's own ``.onnx`` file as a row: what can be known of it without computing it.

Tensors are outputs by name, in letters that a file system and a comma-separated list take. Tokens (B, T, D)
are asked for as ``NAME:cls``, ``NAME:mean`` or ``NAME:map``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from probe.backbones import side_file
from probe.backbones.backbone import ONNX_FILE, Backbone
from probe.errors import ProbeError, UsageError, WeightsError, unknown_name
from probe.hashing import file_hash, file_stamp
from probe.whole import read_whole

LARGEST = 1 << 31
"""Bytes of a file that its format allows; larger weights lie in files beside it."""

SUFFIX = ".onnx"
CLS, MEAN, MAP = ":cls", ":mean", ":map"
FORMS = (CLS, MEAN, MAP)
MOST_PREFIX = 8
"""Tokens before those of the patches: the class token and registers."""
PROBABILITIES = ("Softmax", "Sigmoid")
SPATIAL = (
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LRN",
    "DepthToSpace",
)
"""Operators whose tensors are (B, channels, H, W), whatever the layout of the file's input."""
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    10: "float16",
    11: "float64",
}
"""Types of tensors by their numbers in the format."""
FLOATS = ("float32", "float16", "float64")
TAKEN = (*FLOATS, "uint8", "int16", "int32", "int64")
"""Types of input that hold 0 to 255."""


@dataclass(frozen=True)
class Tensor:
    """One tensor that can be asked for. `shape` is without the batch, None for what is left open."""

    name: str
    tensor: str
    shape: tuple[int | None, ...]
    channels_first: bool


@dataclass(frozen=True)
class Network:
    """What an ONNX file computes, its weights left aside.

    Attributes
    ----------
    input : the name of the one tensor it takes.
    dtype : of it, as numpy calls it.
    batch : pictures it takes at once, 0 for any number.
    side : of the square picture, pixels, 0 where it is left open.
    channels_first : (B, 3, S, S) rather than (B, S, S, 3).
    tensors : what can be asked for by name, in the order in which it is computed.
    ends : the names of those that the file ends with.
    """

    input: str
    dtype: str
    batch: int
    side: int
    channels_first: bool
    tensors: Mapping[str, Tensor]
    ends: tuple[str, ...]


def row(path: Path) -> Backbone:
    """The row for an ONNX file; its size is 0 where the file leaves it open.

    Its default output is what the file ends with, of a classifier what goes into its last layer, of tokens
    the class token, or their mean where there is none; empty where the user has to say.

    Raises
    ------
    UsageError : there is no such file, it is no ONNX file, or it does not take one square RGB picture.
    ProbeError : the packages that read it are not installed.
    """
    model = _load(path)
    found = _network(path, model)
    said = side_file.beside(path)
    output, note = _default_output(model, found)
    return Backbone(
        name="file:" + path.stem,
        kind=ONNX_FILE,
        network="",
        size=found.side or said.size,
        min_size=found.side or 1,
        width=None,
        preprocess="none" if "int" in found.dtype else said.preprocess,
        integers="int" in found.dtype,
        default_output=said.output or output,
        file=path,
        note="" if said.output else note,
    )


def network(path: Path) -> Network:
    """What the file computes. Raises as `row`."""
    return _network(path, _load(path))


def listed(path: Path) -> list[Tensor]:
    """Everything that can be asked for: what the file ends with first, then its tensors in order."""
    found = network(path)
    ends = [found.tensors[name] for name in found.ends]
    return [*ends, *(tensor for name, tensor in found.tensors.items() if name not in found.ends)]


def split(output: str) -> tuple[str, str]:
    """``("tokens", ":cls")`` of ``tokens:cls``; names of tensors may hold colons themselves."""
    form = next((form for form in FORMS if output.endswith(form)), "")
    return output.removesuffix(form), form


def choose_output(row: Backbone, output: str) -> str:
    """An output as it is stored, of one that names a tensor in its own or in our spelling.

    Raises
    ------
    UnknownNameError : the file has no such tensor.
    UsageError : the tensor has no such form, or it holds tokens and no form is asked for.
    """
    assert row.file is not None
    tensors = network(row.file).tensors
    wanted, form = split(output)
    name = next((name for name, found in tensors.items() if wanted in (name, found.tensor)), None)
    if name is None:
        raise unknown_name(f"output of {row.name}", output, tensors)
    forms = {2: ("",), 3: FORMS, 4: ("", MAP)}[len(tensors[name].shape) + 1]
    if form not in forms:
        what = "tokens" if forms is FORMS else f"{len(tensors[name].shape) + 1} axes"
        raise UsageError(
            f"output {name} of {row.name} has {what}",
            expected=" or ".join(name + known for known in forms),
            found=output,
        )
    return name + form


def weights_hash(path: Path) -> str:
    """sha256 of the file, or of it and of every file that holds weights of it, by name.

    Raises
    ------
    UsageError : as `row`, or a file of weights lies outside the folder.
    WeightsError : one is not there.
    """
    others = external_files(path)
    if not others:
        return file_hash(path, follow=True)
    hashes = (f"{other.relative_to(path.parent)} {file_hash(other, follow=True)}" for other in others)
    parts = [file_hash(path, follow=True), *hashes]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def external_files(path: Path) -> list[Path]:
    """The files beside it that hold weights of it, sorted. Raises as `weights_hash`."""
    places = {place for tensor in _stored(_load(path).graph) for place in _locations(tensor)}
    return [_inside(path, place) for place in sorted(places)]


def _inside(path: Path, place: str) -> Path:
    parts, found = PurePosixPath(place), path.parent / place
    leaves = parts.is_absolute() or ".." in parts.parts
    if leaves or not found.resolve().is_relative_to(path.parent.resolve()):
        raise UsageError(
            f"{path} has its weights outside its folder",
            expected=f"files in {path.parent}",
            found=place,
            hint="put all of its files into one folder, and save it with locations relative to it",
        )
    if not found.is_file():
        raise WeightsError(
            f"the weights of {path} are not all here", expected=str(found), found="no such file"
        )
    return found


def _locations(tensor: Any) -> list[str]:
    if not tensor.data_location:  # 0: within the file
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _stored(graph: Any) -> Iterator[Any]:
    """Every constant of a graph and of the graphs within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _stored(inner)


def _load(path: Path) -> Any:
    """The `onnx.ModelProto` without what lies in other files; the last few are remembered."""
    try:
        return _loaded(path, file_stamp(path))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read", found=error.strerror or str(error)) from error
    except MemoryError as error:
        raise UsageError(f"{path} is larger than the memory there is") from error


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, _: tuple[int, ...]) -> Any:
    if importlib.util.find_spec("onnx") is None:
        raise ProbeError(
            "the package that reads ONNX files is not installed", hint="pip install 'probe[onnx]'"
        )
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(read_whole(path, LARGEST, follow=True))
    except (DecodeError, ValueError) as error:
        raise UsageError(f"{path} is not an ONNX file, or damaged", found=str(error)) from error
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return model  # what the file says of shapes itself has to do


def _network(path: Path, model: Any) -> Network:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise UsageError(
            f"{path} takes {len(inputs)} inputs",
            expected="an ONNX file with one input, a picture",
            found=", ".join(value.name for value in inputs) or "none",
            hint="export the part of the network that takes the picture",
        )
    (entry,) = inputs
    shape, dtype = _shape(entry), _dtype(entry)
    first = len(shape) == 4 and shape[1] == 3
    sides = shape[2:] if first else shape[1:3]
    if len(shape) != 4 or not (first or shape[3] == 3) or len(set(sides)) != 1 or dtype not in TAKEN:
        raise UsageError(
            f"{path} does not take pictures as this program gives them",
            expected="input (batch, 3, side, side) or (batch, side, side, 3) of floats, or of integers that "
            "hold 0 to 255",
            found=f"input {entry.name} {tuple(shape)} of {dtype or 'no numbers'}",
        )
    batch, side = shape[0] or 0, sides[0] or 0
    tensors = _tensors(model.graph, entry.name, batch, first)
    ends = tuple(
        name for name, found in tensors.items() if found.tensor in {v.name for v in model.graph.output}
    )
    if not ends:
        raise UsageError(
            f"{path} gives no features",
            expected="outputs (batch, D), (batch, tokens, D) or (batch, D, rows, columns) of floats",
            found=", ".join(f"{value.name} {tuple(_shape(value))}" for value in model.graph.output) or "none",
        )
    return Network(entry.name, dtype, batch, side, first, tensors, ends)


def _shape(value: Any) -> list[int | None]:
    return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]


def _dtype(value: Any) -> str:
    """As numpy calls it; empty for what no picture and no feature is held in."""
    return TYPES.get(value.type.tensor_type.elem_type, "")


def _tensors(graph: Any, entry: str, batch: int, first: bool) -> dict[str, Tensor]:
    """Name -> every tensor of features, in the order of the nodes that compute them."""
    described = {value.name: value for value in (*graph.value_info, *graph.output)}
    layouts = {entry: first}
    found: dict[str, Tensor] = {}
    for node in graph.node:
        for name in node.output:
            layouts[name] = _channels_first(node, layouts)
            shape = _shape(described[name]) if name in described else []
            fits = 2 <= len(shape) <= 4 and shape[0] in ((batch,) if batch else (None,))
            if fits and _dtype(described[name]) in FLOATS:
                ours = _free(_spelled(name), found)
                found[ours] = Tensor(ours, name, tuple(shape[1:]), len(shape) == 4 and layouts[name])
    return found


def _channels_first(node: Any, layouts: Mapping[str, bool]) -> bool:
    """Whether a node's tensors of four axes are (B, channels, H, W): by its operator, else by its inputs."""
    if node.op_type in SPATIAL:
        return True
    before = next((layouts[name] for name in node.input if name in layouts), True)
    order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    if node.op_type == "Transpose" and order in (TO_LAST, TO_FIRST):
        return order == TO_FIRST
    return before


def _spelled(name: str) -> str:
    """A tensor's name in letters, digits, ``_``, ``.`` and ``-``: ``blocks.1_Add_output_0``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-") or "tensor"


def _free(name: str, taken: Mapping[str, Any]) -> str:
    spellings = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(new for new in spellings if new not in taken)


def _default_output(model: Any, found: Network) -> tuple[str, str]:
    """(output, what is to be said of it); the output is empty where the user has to choose."""
    if len(found.ends) != 1:
        return "", "it has several outputs: " + ", ".join(found.ends)
    tensor, note = found.tensors[found.ends[0]], ""
    before = _before_classifier(model.graph, tensor.tensor)
    known = next((t for t in found.tensors.values() if t.tensor == before), None)
    if known is not None:
        tensor, note = known, f"the output is {known.name}, which goes into the classifier"
    if len(tensor.shape) != 2:
        return tensor.name, note
    form = CLS if prefix_tokens(tensor.shape[0]) else MEAN
    what = "the class token" if form == CLS else "the mean over all places"
    return tensor.name + form, f"the output is {tensor.name}{form}, {what} of its tokens"


def prefix_tokens(count: int | None) -> int:
    """How many of so many tokens are in front of those of a square of patches: 1 of 197, 5 of 261."""
    if count is None:
        return 0
    more = count - math.isqrt(count) ** 2
    return more if more <= MOST_PREFIX else 0


def _before_classifier(graph: Any, name: str) -> str:
    """What goes into the last layer of a file that ends in probabilities, else empty."""
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(name)
    if node is None or node.op_type not in PROBABILITIES:
        return ""
    node = makers.get(node.input[0])
    while node is not None and node.op_type in ("Add", "Identity", "Cast", "Reshape", "Flatten"):
        node = next((makers[taken] for taken in node.input if taken in makers), None)
    return str(node.input[0]) if node is not None and node.op_type in ("Gemm", "MatMul") else ""


def ending_with(path: Path, tensors: Sequence[Tensor]) -> bytes:
    """The file's bytes, changed to give `tensors` as well; weights in other files stay there."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    given = {value.name for value in model.graph.output}
    wanted = dict.fromkeys(tensor.tensor for tensor in tensors)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in given)
    changed: bytes = model.SerializeToString()
    return changed
