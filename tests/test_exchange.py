"""Embeddings from and for other programs: npy, npz and parquet, through the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.config import Home
from probe.store import Store, find_store
from tests.shell import PHOTOS, Shell

N, D = 600, 6


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Separable embeddings of three classes, half a dozen numbers each."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    features = (rng.standard_normal((N, D)) + 4 * np.eye(3, D)[labels]).astype(np.float32)
    splits = np.array(["train", "train", "val", "test"])[np.arange(N) % 4]
    return {
        "features": features,
        "labels": labels,
        "splits": splits,
        "names": np.array(["c", "a", "b"])[labels],
    }


def newest(shell: Shell) -> Store:
    return find_store(Home(shell.home), None)


def write_csv(path: Path, header: str, *columns: Any) -> Path:
    lines = [header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_npy_with_a_csv_is_fitted_compared_and_verified(shell: Shell, tmp_path: Path, rows: Any) -> None:
    file = tmp_path / "clip embeddings.npy"
    np.save(file, rows["features"])
    labels = write_csv(tmp_path / "labels.csv", "label,split", rows["names"], rows["splits"])
    found = shell.json("stores", "import", file, "--labels", labels)
    assert (found["rows"], found["shape"], found["classes"], found["reused"]) == (N, [D], 3, False)
    assert found["store"].startswith("clip-embeddings-imported-")
    assert shell.json("stores", "verify", "--full")["ok"]
    shown = shell.json("stores", "show")
    assert shown["parts"] == {"train": 300, "val": 150, "test": 150}
    assert "imported embeddings" in shell("stores", "show")
    assert shell.json("fit", "logreg")["test"]["accuracy"] > 0.9
    shell("fit", "majority")
    assert "is better than" in shell("compare", "latest:2", "latest:1")
    np.testing.assert_array_equal(newest(shell).features().read(), rows["features"])


def test_a_run_on_imported_embeddings_cannot_predict_images(shell: Shell, tmp_path: Path, rows: Any) -> None:
    np.savez(tmp_path / "x.npz", features=rows["features"], labels=rows["labels"])
    shell("stores", "import", tmp_path / "x.npz")
    shell("fit", "centroid")
    shell("predict", "latest", PHOTOS, code=1)
    assert "cannot predict images" in shell.error
    assert "backbone is not known" in shell.error
    shell("finetune", "--unfreeze", "block5", code=1)
    assert "neither their backbone nor their images are known" in shell.error


def test_the_same_embeddings_are_one_store_and_new_labels_renew_it(
    shell: Shell, tmp_path: Path, rows: Any
) -> None:
    import pyarrow
    import pyarrow.parquet

    np.save(tmp_path / "x.npy", rows["features"])
    np.save(tmp_path / "y.npy", rows["labels"])
    np.savez(tmp_path / "x.npz", features=rows["features"], labels=rows["names"])
    columns = {f"f{i}": rows["features"][:, i] for i in range(D)} | {"label": rows["names"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    first = shell.json("stores", "import", tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    assert newest(shell).index.classes.tolist() == ["0", "1", "2"]
    for name in ("x.npz", "x.parquet"):
        again = shell.json("stores", "import", tmp_path / name)
        assert (again["key"], again["reused"]) == (first["key"], True)
        assert newest(shell).index.classes.tolist() == ["a", "b", "c"]
    unlabelled = shell.json("stores", "import", tmp_path / "x.npy")
    assert unlabelled["reused"]
    assert "no labels" in shell.error


def test_a_csv_with_ids_finds_its_rows_in_any_order(shell: Shell, tmp_path: Path, rows: Any) -> None:
    ids = np.array([f"image {i}" for i in range(N)])
    np.savez(tmp_path / "x.npz", features=rows["features"], ids=ids)
    order = np.random.default_rng(1).permutation(N)[: N - 5]
    labels = write_csv(tmp_path / "y.csv", "path,label", ids[order], rows["names"][order])
    shell("stores", "import", tmp_path / "x.npz", "--labels", labels)
    assert "5 rows not named in y.csv" in shell.error
    index = newest(shell).index
    np.testing.assert_array_equal(index.ids, ids)
    known = index.labels >= 0
    assert known.sum() == N - 5
    np.testing.assert_array_equal(index.classes[index.labels[known]], rows["names"][known])


@pytest.mark.parametrize("file_format", ["npz", "npy", "parquet"])
@pytest.mark.parametrize("shape", [(D,), (2, 1, 3)])
def test_export_and_import_give_identical_arrays(
    shell: Shell, tmp_path: Path, rows: Any, file_format: str, shape: tuple[int, ...]
) -> None:
    labels = np.where(np.arange(N) == 7, -1, rows["labels"])
    np.savez(
        tmp_path / "in.npz",
        features=rows["features"].reshape(N, *shape),
        ids=np.array([f"grüße/{N - i}" for i in range(N)]),
        labels=labels,
        splits=rows["splits"],
        classes=np.array(["zebra", "ant", "never seen", "bee"]),
    )
    shell("stores", "import", tmp_path / "in.npz")
    before = newest(shell)
    out = tmp_path / f"out.{file_format}"
    found = shell.json("stores", "export", "--output-file", out)
    assert (found["rows"], found["dropped"], found["shape"]) == (N, 0, list(shape))
    shell.home = tmp_path / "other"
    extra = ["--labels", tmp_path / "out.labels.npz"] if file_format == "npy" else []
    shell("stores", "import", out, *extra)
    after = newest(shell)
    assert after.key == before.key
    np.testing.assert_array_equal(after.features().read(), before.features().read())
    assert after.index.hash == before.index.hash
    assert after.index.labels[7] == -1


def test_export_of_a_store_of_images(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    photos = tmp_path / "photos"
    shutil.copytree(PHOTOS, photos)
    (photos / "animals" / "no.jpg").write_text("no picture")
    name = shell.json("extract", "--backbone", "pixels", "--store-dtype", "float16", photos, code=4)["store"]
    monkeypatch.chdir(tmp_path)
    found = shell.json("stores", "export", "--output", "pixels")
    assert (found["files"], found["rows"], found["dropped"]) == ([f"{name}.npz"], 10, 1)
    store = newest(shell)
    with np.load(found["files"][0], allow_pickle=False) as arrays:
        assert arrays["features"].dtype == np.float16
        np.testing.assert_array_equal(arrays["features"], store.features().read(store.rows()))
        np.testing.assert_array_equal(arrays["ids"], store.index.ids[store.rows()])
        np.testing.assert_array_equal(arrays["hashes"], store.index.hashes[store.rows()])
    shell("stores", "export", code=2)
    assert "is there already" in shell.error
    shell("stores", "export", "--output", "conv9", "--output-file", "x.npz", code=2)
    shell("stores", "export", "--output-file", "x.csv", code=2)
    assert "--format" in shell.error
    shell("stores", "export", "--format", "npy", "--output-file", "x.npz", code=2)
    assert "ending in .npy" in shell.error
    shell("stores", "export", "--output-file", tmp_path / "no" / "x.npy", code=2)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def good() -> dict[str, Any]:
    return {"features": np.zeros((4, 3), np.float32), "labels": np.arange(4)}


def _nan() -> Any:
    features = np.zeros((4, 3))
    features[[1, 3], 2] = np.nan, 1e60
    return features


WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("values", {"features": _nan()}, ["NaN", "2 of 4 rows, counted from 0: 1, 3"]),
    ("integers", {"features": np.zeros((4, 3), int)}, ["does not hold embeddings", "int64 (4, 3)"]),
    ("images", {"features": np.zeros((4, 8, 8, 3), np.uint8)}, ["look like images", "probe extract"]),
    ("three axes", {"features": np.zeros((4, 3, 2))}, ["(N, D) or (N, H, W, C)"]),
    ("none", {"features": np.zeros((0, 3))}, ["at least one"]),
    ("objects", {"features": np.array([{}, 1, 2, 3])}, ["Python objects", "never unpickled"]),
    ("no features", {"x": np.zeros((4, 3))}, ["no array called features", "x"]),
    ("a data set", {"train_images": np.zeros((4, 3))}, ["probe extract"]),
    ("labels short", good() | {"labels": np.arange(3)}, ["not one class a row", "(3,)"]),
    ("labels floating", good() | {"labels": np.zeros(4)}, ["not one class a row", "float64"]),
    ("label no class", good() | {"classes": np.array(["a", "b"])}, ["row 2", "0 to 1"]),
    ("name no class", good() | {"labels": np.array(list("abca")), "classes": np.array(["a", "b"])}, ["'c'"]),
    ("ids twice", good() | {"ids": np.array(list("abca"))}, ["'a' twice"]),
    (
        "no split",
        good() | {"splits": np.array(["train", "", "dev2", ""])},
        ["row 2", "'dev2' is not a split"],
    ),
    ("labels of other bytes", good() | {"labels": np.array([b"\xff", b"a", b"b", b"c"])}, ["are not text"]),
    ("half a letter", good() | {"labels": np.array(["a", "b", "\ud800", "c"])}, ["are not text"]),
    (
        "classes of other bytes",
        good() | {"classes": np.array([b"\xff", b"a", b"b", b"c"])},
        ["the classes of", "are not text"],
    ),
    ("hashes", good() | {"hashes": np.array(list("abcd"))}, ["64 hex digits"]),
]


@pytest.mark.parametrize(("arrays", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_an_npz_that_is_wrong_is_one_clear_message(
    shell: Shell, tmp_path: Path, arrays: Any, said: list[str]
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    shell("stores", "import", tmp_path / "x.npz", code=1)
    for words in said:
        assert words in shell.error
    assert not list((shell.home / "stores").glob("*"))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"words", b"\x93NUMPY\x01\x00", b"PK\x03\x04" + b"x" * 50, b"PAR1" * 9]
)
def test_a_file_that_is_not_what_its_name_says(
    shell: Shell, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    shell("stores", "import", tmp_path / name, code=1)
    assert "cannot be read as a" in shell.error


def test_files_that_cannot_be_asked_for(shell: Shell, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", good()["features"])
    for name, said in (("none.npy", "there is no file"), ("x.csv", "is not a file of embeddings")):
        shell("stores", "import", tmp_path / name, code=2)
        assert said in shell.error
    shell("stores", "import", tmp_path / "x.npy", "--labels", tmp_path / "none.csv", code=2)
    assert "there is no file" in shell.error
    (tmp_path / "folder.npy").mkdir()
    shell("stores", "import", tmp_path / "folder.npy", code=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label\na\nb\n", "expected: 4 labels"),
        ("id,class\n1,a\n", "expected: label and"),
        ("id,label\nx,a\nx,b\ny,a\nz,a\n", "names x twice"),
        ("label,split\na,train\nb,valid8\nb,\na,\n", "line 3"),
        ("", "an empty file"),
        ("label,split,label\na,train,b\n", "two columns called label"),
    ],
)
def test_labels_that_do_not_fit(shell: Shell, tmp_path: Path, text: str, said: str) -> None:
    np.save(tmp_path / "x.npy", good()["features"])
    (tmp_path / "y.csv").write_text(text)
    shell("stores", "import", tmp_path / "x.npy", "--labels", tmp_path / "y.csv", code=1)
    assert said in shell.error


def test_odd_names_and_what_a_file_says_of_its_shape(shell: Shell, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    names = ["9" * 5000, "1", "café", "2"]
    np.savez(tmp_path / "x.npz", **good() | {"labels": np.array([name.encode() for name in names])})
    shell("stores", "import", tmp_path / "x.npz")
    assert newest(shell).index.classes.tolist() == sorted(names)
    table = pyarrow.table({"v": [[1.0, 2.0], [3.0, 4.0]]})
    for said in ('{"shape": [-1, -1, 2]}', '{"shape": [1e400, 1, 1]}', '{"classes": 3}', "[" * 100_000):
        table = table.replace_schema_metadata({"probe": said})
        pyarrow.parquet.write_table(table, tmp_path / "y.parquet")
        shell("stores", "import", tmp_path / "y.parquet")
        assert newest(shell).output_shapes == {"features": (2,)}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1.0], "b": [2.0]}, "no embeddings that can be told"),
        ({"f0": [1.0], "f2": [2.0]}, "no embeddings that can be told"),
        ({"f0": [1.0, None], "f1": [1.0, 1.0]}, "1 of 2 rows, counted from 0: 1"),
        ({"v": [[1.0, 2.0], [1.0]]}, "1 in row 1"),
        ({"v": [[1.0], None, [2.0]]}, "none in row 1"),
        ({"v": [[1, 2], [3, 4]]}, "floating-point"),
        ({"v": [["a"], ["b"]]}, "floating-point"),
        ({"v": [[1.0], [2.0]], "label": [0.5, 1.0]}, "not one class a row"),
        ({"features": [[1.0], [2.0]], "label": [["a"], ["a", "b"]]}, "cannot be read as a parquet file"),
    ],
)
def test_parquet_that_is_wrong(shell: Shell, tmp_path: Path, columns: Any, said: str) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    shell("stores", "import", tmp_path / "x.parquet", code=1)
    assert said in shell.error


def test_without_pyarrow_the_extra_is_named(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", good()["features"])
    shell("stores", "import", tmp_path / "x.npy")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    shell("stores", "import", tmp_path / "x.parquet", code=2)
    assert "probe[parquet]" in shell.error
    shell("stores", "export", "--format", "parquet", "--output-file", tmp_path / "y.parquet", code=2)
    assert "probe[parquet]" in shell.error
