"""The rules of the house, read from the imports themselves (docs/design.md, "The house")."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "probe"

FLOORS = [
    [
        "errors",
        "failpoints",
        "archives",
        "registry",
        "config",
        "children",
        "cluster",
        "drawing",
        "durable",
        "hashing",
        "internet",
        "jpeg",
        "machine",
        "openvino_setup",
        "plain",
        "progress",
        "signals",
        "versions",
        "tensorflow_setup",
        "arrow",
        "units",
        "networks",
        "order",
        "records",
        "scratch",
        "table",
        "text",
        "notebook",
        "workers",
        "whole",
    ],
    ["datasets", "images", "stats", "curves"],
    ["backbones", "store", "heads"],
    ["extract", "runs"],
    ["fit", "train"],
    ["finetune", "studies", "survey", "audit"],
    ["report"],
    ["workspace"],
    ["commands", "cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
COMMON = set(FLOORS[0])

ONLY_IN = {
    "click": {"commands", "cli"},
    "zarr": {"store"},
    "sklearn": {"heads", "fit", "stats"},
    "scipy": {"heads", "fit", "stats"},
    "tensorflow": {"tensorflow_setup"},
    "keras": {"tensorflow_setup"},
    "onnx": {"backbones", "fit"},
    "onnxruntime": {"backbones"},
    "tf2onnx": {"fit"},
    "openvino": {"openvino_setup"},
    "pyarrow": {"arrow", "store"},
    "pandas": {"store", "table"},
    "xarray": {"store"},
    "datasets": {"datasets"},
    "pickle": {"backbones"},
    "matplotlib": {"drawing", "curves", "images", "report", "survey"},
    "jinja2": {"report"},
    "plotly": {"report"},
    "openTSNE": {"report"},
}

NAMED_IN = {"keras": {"backbones"}}
"""Rooms whose tables may name code of a package that is imported elsewhere: it is loaded by way of there."""

NAMED = re.compile(r"((?:[A-Za-z_]\w*)(?:\.\w+)*):([A-Za-z_]\w*)")

NEVER = {"train": {"store", "runs", "heads", "backbones", "extract", "fit"}}
"""Rooms that a room could import by its floor, and does without: the loop knows arrays alone."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Every module a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "probe" else [module]
    return found


def named(source: str) -> list[tuple[str, str]]:
    """(module, attribute) of every string that names code of ours, or of a package with a rule of its own, as
    "module:attribute": what tables hold and `load_object` takes."""
    strings = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    found = [NAMED.fullmatch(text) for text in strings if isinstance(text, str)]
    named = [(match[1], match[2]) for match in found if match]
    return [(module, name) for module, name in named if module.split(".")[0] in ("probe", *ONLY_IN)]


@functools.cache
def defined(module: str) -> frozenset[str] | None:
    """The names a module has at its top, read and not imported; None where there is no such module."""
    top, *rest = module.split(".")
    package = importlib.util.find_spec(top)
    if package is None or package.origin is None:
        return None
    place = Path(package.origin).parent.joinpath(*rest)
    path = next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
    if path is None:
        return None
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


def why_not_import(room: str, name: str) -> str:
    """What speaks against a room importing a module; empty where nothing does."""
    top, _, rest = name.partition(".")
    if top == "probe" and rest:
        other = rest.split(".")[0]
        if other not in FLOOR:
            return "" if other == "__version__" else f"{other} has no place in the house"
        allowed = FLOOR[other] < FLOOR[room] or (other in COMMON and room in COMMON) or room == "cli"
        allowed = allowed and other not in NEVER.get(room, ())
        return "" if other == room or allowed else f"{room} must not import {other}"
    if top in ONLY_IN and room not in ONLY_IN[top]:
        return f"{top} must not be imported in {room}"
    return ""


def why_not_name(room: str, module: str, attribute: str) -> str:
    """What speaks against a room naming code in a string; empty where nothing does."""
    known = defined(module)
    if known is None:
        return f"there is no module {module}"
    if attribute not in known:
        return f"{module} has no {attribute}"
    return "" if room in NAMED_IN.get(module.split(".")[0], ()) else why_not_import(room, module)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_up(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no place in the house: add it to docs/design.md and to this test"
    faults = [why_not_import(room, name) for name in imported(path)]
    faults += [why_not_name(room, *name) for name in named(path.read_text(encoding="utf-8"))]
    assert not any(faults), f"{path}: {', '.join(filter(None, faults))}"


@pytest.mark.parametrize(
    ("room", "text", "fault"),
    [
        ("heads", "probe.heads.logreg:fit", ""),
        ("backbones", "keras.applications:ResNet50", ""),
        ("backbones", "keras.applications:ResNet51", "keras.applications has no ResNet51"),
        ("heads", "probe.heads.logrec:fit", "there is no module probe.heads.logrec"),
        ("heads", "probe.heads.logreg:fitted", "probe.heads.logreg has no fitted"),
        ("heads", "probe.fit.fit:fit", "heads must not import fit"),
        ("heads", "keras.applications:ResNet50", "keras must not be imported in heads"),
    ],
)
def test_code_that_a_string_names_is_held_to_the_rules(room: str, text: str, fault: str) -> None:
    (name,) = named(f"row = dict(code={text!r}, note='last:N')")
    assert why_not_name(room, *name) == fault


FOREIGN = {
    "_inbound_nodes": "Keras has no public way from a layer to its neighbours",
    "_outbound_nodes": "Keras",
    "_keras_history": "Keras has no public way from a tensor to its layer",
    "_nodes_by_depth": "Keras",
    "_flatten_layers": "Keras has no public way from a layer to the layers within",
    "_maybe_symbolic_build": "Keras: what fails under several devices, see train/loop.py",
    "_fingerprint": "Hugging Face's datasets: what a split is known by",
    "_exit": "os: an end without clearing up",
    "_repr_html_": "what notebooks call",
}
"""Private names of others that there is no public name for."""

EVERY_FILE = [
    path for folder in ("probe", "tests", "bench") for path in (PACKAGE.parent / folder).rglob("*.py")
]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in FOREIGN


def named_privately(path: Path) -> set[str]:
    """Private names that a file takes from elsewhere: imported, as attributes, or in strings."""
    found, own = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(names=names):
                found |= {alias.name for alias in names}
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                own.add(name)
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.Call(func=ast.Attribute(attr="setattr") | ast.Name(id="getattr"), args=arguments):
                texts = [text.value for text in arguments if isinstance(text, ast.Constant)]
                found |= {str(text).rpartition(".")[2] for text in texts}
    return {name for name in found if is_private(name)} - own


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_takes_a_private_name_of_another(path: Path) -> None:
    assert not named_privately(path), "make the seam public, or test through the front"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_looks_into_the_json_of_a_result(path: Path) -> None:
    """`Run.record` is typed; `Run.result` is for `--json` alone."""
    looked = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Subscript | ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "result"
    ]
    assert not looked


def test_every_floor_of_the_design_page_is_the_one_held_here() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    block = text.split("```")[1]
    for rooms, line in zip(FLOORS, block.strip().splitlines(), strict=True):
        words = line.split("    ")[0].split()
        assert set(rooms) <= set(line.replace("·", " ").split()), (rooms, words)


LIGHT = {
    "help": ["--help"],
    "fit help": ["fit", "logreg", "--help"],
    "extract help": ["extract", "--help"],
    "finetune help": ["finetune", "--help"],
    "stores": ["stores", "ls"],
    "runs": ["runs", "ls"],
    "data": ["data", "ls"],
    "backbones": ["backbones"],
    "heads": ["heads"],
    "doctor": ["doctor"],
    "export help": ["export", "--help"],
    "survey help": ["survey", "--help"],
    "compare help": ["compare", "--help"],
    "audit help": ["audit", "--help"],
    "baseline list": ["baseline", "list"],
    "sweep help": ["sweep", "--help"],
    "reproduce help": ["reproduce", "--help"],
    "plot help": ["plot", "curves", "--help"],
    "report help": ["report", "--help"],
}


STARTS = """
import json, sys
from probe.cli import main
for name, arguments in json.loads(sys.argv[1]).items():
    try:
        main(arguments)
    except SystemExit as stop:
        assert not stop.code, (name, stop.code)
    heavy = {"tensorflow", "keras", "torch"} & set(sys.modules)
    assert not heavy, (name, heavy)
    assert name != "help" or "numpy" not in sys.modules
    print("end of", name)
"""


def test_what_needs_no_network_starts_without_tensorflow(tmp_path: Path) -> None:
    """One after the other in a process: what the first of them imports is there for all."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS, json.dumps(LIGHT)],
        env={"PROBE_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = re.split("end of .*\n", done.stdout)
    assert len(said) == len(LIGHT) + 1
    assert all(said[:-1])
