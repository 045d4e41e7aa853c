"""Features in 8 bits with a scale for every vector: what is kept, what it costs, and who reads it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.store import Store, open_store

from .onnx_files import cnn
from .shell import PROJECT, Shell

OUTPUTS = ("features", "features:map")
BAD = "cats/00.png"


def add_pictures(root: Path, numbers: range) -> Path:
    for number in numbers:
        folder = root / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 128 + 100 * (number % 2), (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnn(tmp_path_factory.mktemp("network") / "tiny.onnx")


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.extract.run.unit_rows", lambda *_: 8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = add_pictures(tmp_path_factory.mktemp("photos"), range(30))
    (root / BAD).write_bytes(b"no picture")
    return root


@pytest.fixture
def words(network: Path) -> tuple[object, ...]:
    named = ("--backbone", network, "--outputs", ",".join(OUTPUTS), "--preprocess", "unit", "--batch-size", 4)
    return ("extract", *named, "--engine", "onnxruntime", "--store-dtype")


def chunks(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("c/**/*")) if p.is_file()}


def test_a_store_is_a_quarter_and_says_what_that_cost(
    photos: Path, words: tuple[object, ...], shell: Shell
) -> None:
    views = ("--views", 1, "--views-of", "all")
    small = shell.json(*words, "int8", *views, photos, code=4)
    whole = shell.json(*words, "float32", *views, photos, code=4)
    assert (small["rows_computed"], whole["rows_computed"], whole["rows_copied"]) == (30, 30, 0)
    assert whole["rounding"] is None
    one, other = (open_store(Path(result["path"])) for result in (small, whole))
    assert [s.manifest.layout.row_bytes("features:map") for s in (one, other)] == [16 * (8 + 4), 16 * 8 * 4]
    bad = np.flatnonzero(one.index.ids == BAD)
    read, worst = one.rows(), 0.0
    for output in OUTPUTS:
        for view in (0, 1):
            found, exact = (store.features(output, view) for store in (one, other))
            values = found.read(read)
            assert values.dtype == np.float32
            assert np.isnan(found.read()[bad]).all()
            lost = np.linalg.norm(values - exact.read(read), axis=-1)
            length = np.linalg.norm(exact.read(read), axis=-1)
            worst = max(worst, float((lost / np.where(length > 0, length, 1)).max()))
            mapped = found.mapped(read)
            assert (mapped.dtype, mapped.shape) == (np.float32, values.shape)
            np.testing.assert_array_equal(mapped[np.arange(len(read))[::-1]], values[::-1])
    assert 0 < worst < 0.02
    assert small["rounding"] == pytest.approx(worst, rel=1e-4)
    for said in (shell(*words, "int8", *views, photos, code=4), shell("stores", "show", small["store"])):
        assert f"no vector differs from float32 by more than {100 * worst:.2g} % of its length" in said
    assert shell.json("stores", "verify", "--full", small["store"])["ok"]


def test_older_versions_are_told_that_it_is_another_kind(
    photos: Path, words: tuple[object, ...], shell: Shell
) -> None:
    """They know schema 1, and say which they found."""
    for dtype, schema in (("float16", 1), ("int8", 2)):
        path = Path(shell.json(*words, dtype, photos, code=4)["path"])
        assert json.loads((path / "MANIFEST.json").read_text())["schema"] == schema


def test_rows_are_made_of_float32_and_copied_as_they_are(
    network: Path, words: tuple[object, ...], shell: Shell, tmp_path: Path
) -> None:
    photos = add_pictures(tmp_path / "photos", range(30))
    alone = shell.json(*words, "int8", photos)
    shell.home = tmp_path / "other"
    shell.json(*words, "float32", photos)
    copied = shell.json(*words, "int8", photos)
    assert (copied["rows_computed"], copied["rows_copied"]) == (0, 30)
    assert (copied["key"], copied["rounding"]) == (alone["key"], alone["rounding"])
    assert chunks(Path(copied["path"])) == chunks(Path(alone["path"]))
    shell("stores", "rm", "--yes", "latest:2")
    add_pictures(photos, range(30, 31))
    more = shell.json(*words, "int8", photos)
    assert (more["rows_computed"], more["rows_copied"]) == (1, 30)
    assert more["rounding"] >= copied["rounding"]
    old, new = (open_store(Path(result["path"])) for result in (copied, more))
    kept = np.isin(new.index.ids, old.index.ids)
    np.testing.assert_array_equal(new.features().read()[kept], old.features().read())
    assert shell.json(*words, "float16", photos)["rows_copied"] == 0


def test_shards_and_repair_give_the_same_bytes(
    photos: Path, words: tuple[object, ...], shell: Shell, tmp_path: Path
) -> None:
    whole = shell.json(*words, "int8", photos, code=4)
    shell.home = tmp_path / "parts"
    shell("extract", "--shard", "1/2", *words[1:], "int8", photos)
    parts = shell.json("extract", "--shard", "0/2", *words[1:], "int8", photos, code=4)
    path, expected = Path(parts["path"]), chunks(Path(whole["path"]))
    assert parts["rounding"] == whole["rounding"]
    assert chunks(path) == expected
    scales = path / "data.zarr" / "scales" / "features" / "c" / "1"
    scales.write_bytes(bytes(reversed(scales.read_bytes())))
    assert not shell.json("stores", "verify", path.name, code=3)["ok"]
    shell("stores", "export", "--output", "features", "--output-file", tmp_path / "x.npz", code=1)
    assert "is damaged in scales/features" in shell.error
    assert shell.json("stores", "repair", path.name)["rows_computed"] == 8
    assert chunks(path) == expected


def test_everything_that_reads_a_store_reads_it(
    photos: Path, words: tuple[object, ...], shell: Shell, tmp_path: Path
) -> None:
    store = open_store(Path(shell.json(*words, "int8", photos, code=4)["path"]))
    runs = [
        shell.json("fit", head, "--output", output, *more)["run"]
        for head, output, more in (
            ("knn", "features", ()),
            ("logreg", "features", ("--memory", "1KB")),
            ("attentive", "features:map", ("--epochs", 2, "--memory", "1KB")),
        )
    ]
    assert len(shell.json("compare", *runs[:2])) > 0
    assert "dogs/01.png" in shell("predict", runs[0], photos / "dogs")
    assert shell.json("audit", store.name)["store"] == store.name
    file = tmp_path / "out.npz"
    shell("stores", "export", "--output", "features", "--output-file", file)
    with np.load(file) as arrays:
        assert arrays["features"].dtype == np.float32
        np.testing.assert_array_equal(arrays["features"], store.features("features").read(store.rows()))
    shell("stores", "import", file)
    assert newest(shell).manifest.layout.dtype == "float32"


def test_the_reader_of_the_page_reads_it(photos: Path, words: tuple[object, ...], shell: Shell) -> None:
    """It knows nothing of the package (``docs/store-format.md``)."""
    ours = open_store(Path(shell.json(*words, "int8", photos, code=4)["path"]))
    page = (PROJECT / "docs" / "store-format.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "class Store" in c)
    space: dict[str, Any] = {}
    exec(code, space)
    theirs = space["Store"](ours.path)
    for output in OUTPUTS:
        found = theirs.features(output)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, ours.features(output).read())


def newest(shell: Shell) -> Store:
    from probe.store import find_store

    return find_store(Home(shell.home), None)


def test_pixels_are_refused_before_any_is_read(shell: Shell, tmp_path: Path) -> None:
    shell("extract", "--backbone", "pixels", "--size", 8, "--store-dtype", "int8", tmp_path / "none", code=2)
    assert "pixels cannot be stored as int8" in shell.error
    assert "float16" in shell.error


def test_a_damaged_record_names_no_other_type(photos: Path, words: tuple[object, ...], shell: Shell) -> None:
    path = Path(shell.json(*words, "int8", photos, code=4)["path"])
    for name in ("MANIFEST.json", "data.zarr/zarr.json"):
        text = (path / name).read_text().replace('"dtype": "int8"', '"dtype": "int4"')
        (path / name).write_text(text)
    shell("stores", "show", path.name, code=1)
    assert "impossible values" in shell.error
    shutil.rmtree(path)
