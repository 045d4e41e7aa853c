"""The rules of the house, read from the imports themselves (docs/design.md, "The house")."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "probe"

FLOORS = [
    [
        "errors",
        "registry",
        "config",
        "cluster",
        "hashing",
        "internet",
        "jpeg",
        "machine",
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
        "table",
        "notebook",
        "workers",
    ],
    ["datasets", "images", "stats", "curves"],
    ["backbones", "store", "heads"],
    ["extract", "runs"],
    ["fit", "train"],
    ["finetune", "studies"],
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
    "onnx": {"fit"},
    "tf2onnx": {"fit"},
    "pyarrow": {"arrow", "store"},
    "pandas": {"store", "table"},
    "xarray": {"store"},
    "datasets": {"datasets"},
    "pickle": {"backbones"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Every module a file imports, anywhere in it; names written as "module:attribute" strings too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "probe" else [module]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_up(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no place in the house: add it to docs/design.md and to this test"
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top == "probe" and rest:
            other = rest.split(".")[0]
            if other not in FLOOR:
                assert other in ("__version__",), f"{path} imports {name}"
            elif other != room:
                allowed = FLOOR[other] < FLOOR[room] or (other in COMMON and room in COMMON) or room == "cli"
                assert allowed, f"{room} must not import {other} ({path})"
        elif top in ONLY_IN:
            assert room in ONLY_IN[top], f"{top} must not be imported in {room} ({path})"


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
    "compare help": ["compare", "--help"],
    "baseline list": ["baseline", "list"],
    "sweep help": ["sweep", "--help"],
    "reproduce help": ["reproduce", "--help"],
}


@pytest.mark.parametrize("arguments", LIGHT.values(), ids=LIGHT.keys())
def test_what_needs_no_network_starts_without_tensorflow(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom probe.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\nassert not heavy, heavy\n"
        "if '--help' in sys.argv and len(sys.argv) == 2: assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PROBE_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
