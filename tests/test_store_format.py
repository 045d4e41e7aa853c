"""The reader of ``docs/store-format.md``, which knows nothing of the package, sees what the package sees."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.store import Store
from tests.shell import PROJECT

PAGE = PROJECT / "docs" / "store-format.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Made:
    """A store of two units with all that a store can have, and a home whose newest store it is."""

    home: Path
    store: Store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, noise = tmp_path_factory.mktemp("format"), np.random.default_rng(0)
    pictures = folder / "pictures"
    pictures.mkdir()
    lines = ["path,label,split,group"]
    for number in range(300):
        name = f"bild ä{number:03}.png"
        Image.fromarray(noise.integers(0, 256, (4, 6, 3), np.uint8)).save(pictures / name)
        label, group = ("one", "zwei", "")[number % 3], "" if number % 5 else f"animal {number % 7}"
        lines.append(f"{name},{label},{('train', 'val', 'test')[number % 4 % 3]},{group}")
    (pictures / "bild ä007.png").write_bytes(b"\x89PNG no picture")
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    space = probe.Workspace(folder / "data", quiet=True)
    store = space.extract(
        pictures,
        backbone="pixels",
        size=2,
        labels=folder / "labels.csv",
        outputs=["pixels", "pixels:map"],
        views=1,
        augment="flip",
    )
    return Made(folder, store)


@pytest.fixture
def reader(made: Made, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """The class of the page, of which no block names the package."""
    assert not re.search(r"^\s*(?:import|from) probe\b", "\n".join(BLOCKS), re.MULTILINE)
    monkeypatch.chdir(made.home)
    space: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, space)
    return space["Store"]  # type: ignore[no-any-return]


def test_every_array_and_column_is_what_the_package_reads(made: Made, reader: Callable[[Path], Any]) -> None:
    ours, theirs = made.store, reader(made.store.path)
    assert theirs.units == 2
    assert theirs.outputs == ["pixels", "pixels:map"]
    assert (theirs.array("status") == ours.status).all()
    assert theirs.array("status").tolist().count(1) == 1
    assert (theirs.array("viewed") == 1).tolist() == ours.viewed.tolist()
    for output, shape in (("pixels", (12,)), ("pixels:map", (2, 2, 3))):
        for view in (0, 1):
            found = theirs.array(f"features/{output}@{view}" if view else f"features/{output}")
            assert found.shape == (300, *shape)
            np.testing.assert_array_equal(
                found.reshape(300, -1), ours.features(output, view).flat(np.arange(300))
            )
    index, found = ours.index, theirs.index()
    for name in ("ids", "hashes", "splits", "groups", "labels", "classes"):
        assert list(found[name]) == getattr(index, name).tolist(), name


def _swap(folder: Path) -> None:
    first, second = (folder / "data.zarr" / "status" / "c" / unit for unit in "01")
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def _flip(folder: Path) -> None:
    chunk = folder / "data.zarr" / "status" / "c" / "0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(name)
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "MANIFEST.json").unlink(), "unfinished"),
        (_edit("MANIFEST.json", '"rows": 300', '"rows": 299'), "manifest was changed"),
        (_edit("commits/*.jsonl", '"turned": 0', '"turned": 1'), "has no commit line"),
        (lambda folder: (folder / "data.zarr/status/c/1").unlink(), "unit 1 is missing"),
        (lambda folder: (folder / "data.zarr/status/c/1").write_bytes(b"short"), "another size"),
        (_flip, "unit 0 is damaged"),
        (_swap, "misplaced"),
    ],
)
def test_what_is_damaged_is_refused(
    made: Made,
    reader: Callable[[Path], Any],
    tmp_path: Path,
    damage: Callable[[Path], None],
    says: str,
) -> None:
    shutil.copytree(made.store.path, tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(ValueError, match=says):
        reader(tmp_path / "store").array("status")
