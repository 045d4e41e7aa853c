"""Groups of a label file: kept with the store, never parted by folds and draws, and in every interval."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.store import Index, LocalFiles, find_store
from probe.store.index import read_index, write_index
from probe.units import kept_together
from tests.shell import Shell

PLAIN = Index(
    np.array(["a", "b", "c"]),
    np.array(["0" * 64, "1" * 64, "2" * 64]),
    np.array([0, 1, -1], np.int32),
    np.array(["train", "test", ""]),
    np.array(["cat", "dog"]),
)
PLAIN_HASH = "ccd3716bf5c873cead187b4ab91e16753c19d60cc44ddea3f15cddcf902e5cfa"


def write_labels(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def newest_index(shell: Shell) -> Index:
    return find_store(Home(shell.home), None).index


def listed(index: Index) -> list[str] | None:
    return None if index.groups is None else index.groups.tolist()


def test_units_join_content_and_groups_through_any_chain() -> None:
    hashes = np.array(["a", "b", "b", "c", "d", "", "", "e"])
    groups = np.array(["1", "1", "", "2", "", "", "3", "3"])
    assert kept_together(hashes).tolist() == [0, 1, 1, 2, 3, 4, 5, 6]
    assert kept_together(hashes, groups).tolist() == [0, 0, 0, 1, 2, 3, 4, 4]
    chain = np.array([str(row // 2) for row in range(100)])
    links = np.array(["", *(f"g{row // 2}" for row in range(98)), ""])
    assert set(kept_together(chain, links).tolist()) == {0}
    assert kept_together(np.array([], "<U1"), np.array([], "<U1")).tolist() == []


def test_an_index_without_groups_keeps_its_hash_and_its_file(tmp_path: Path) -> None:
    assert PLAIN.hash == PLAIN_HASH
    files = LocalFiles(tmp_path)
    write_index(files, PLAIN)
    with np.load(io.BytesIO(files.read(f"index/{PLAIN_HASH}.npz", 1 << 20))) as arrays:
        assert sorted(arrays) == ["classes", "hashes", "ids", "labels", "splits"]
    assert read_index(files, PLAIN_HASH, 3).groups is None


def test_an_index_with_groups_is_another_and_keeps_them(tmp_path: Path) -> None:
    grouped = Index(
        PLAIN.ids, PLAIN.hashes, PLAIN.labels, PLAIN.splits, PLAIN.classes, np.array(["p", "p", ""])
    )
    assert grouped.hash != PLAIN.hash
    files = LocalFiles(tmp_path)
    read = read_index(files, write_index(files, grouped), 3)
    assert listed(read) == ["p", "p", ""]
    assert grouped.parted_groups() == {"train_test": 1}
    assert grouped.take(np.array([2])).groups is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures, in groups of two in another label file of the same labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    rows = [f"{number:02}.png,{number % 2}" for number in range(12)]
    write_labels(tmp_path / "plain.csv", "path,label", rows)
    write_labels(
        tmp_path / "grouped.csv", "path,label,group", [f"{row},g{n // 4}" for n, row in enumerate(rows)]
    )
    return folder


def test_relabelling_with_groups_is_a_new_index_of_the_same_store(shell: Shell, pictures: Path) -> None:
    plain, grouped = pictures.parent / "plain.csv", pictures.parent / "grouped.csv"
    first = shell.json("extract", "--backbone", "pixels", pictures, "--labels", plain)
    before = shell.json("stores", "show")
    again = shell.json("extract", "--backbone", "pixels", pictures, "--labels", grouped)
    after = shell.json("stores", "show")
    assert (again["store"], again["reused"]) == (first["store"], True)
    assert (before["groups"], after["groups"], after["parted_groups"]) == (0, 3, {})
    assert before["index"] != after["index"]
    assert "groups     3" in shell("stores", "show")
    assert listed(newest_index(shell)) == [f"g{n // 4}" for n in range(12)]
    assert shell.json("data", "check", pictures, "--labels", grouped)["groups"] == 3


def test_groups_that_a_split_of_the_user_parts_are_said(shell: Shell, pictures: Path) -> None:
    splits = ["train", "val", "test"]
    rows = [f"{n:02}.png,{n % 2},{splits[n % 3]},g{n // 4}" for n in range(12)]
    labels = write_labels(pictures.parent / "parted.csv", "path,label,split,group", rows)
    shell("extract", "--backbone", "pixels", pictures, "--labels", labels)
    assert "3 groups in both train and test" in shell.error
    assert "groups     3, parted: 3 in both train and val, 3 in both train and test" in shell(
        "stores", "show"
    )


@pytest.mark.parametrize("file_format", ["npz", "npy", "parquet"])
def test_groups_go_out_and_come_in_with_the_embeddings(
    shell: Shell, tmp_path: Path, file_format: str
) -> None:
    groups = np.array([f"p{row // 3}" if row % 9 else "" for row in range(60)])
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "in.npz", features=features, labels=np.arange(60) % 2, groups=groups)
    shell("stores", "import", tmp_path / "in.npz")
    index = newest_index(shell)
    assert listed(index) == groups.tolist()
    assert index.parted_groups() == {}
    out = tmp_path / f"out.{file_format}"
    shell("stores", "export", "--output-file", out)
    shell.home = tmp_path / "other"
    labels = ["--labels", tmp_path / "out.labels.npz"] if file_format == "npy" else []
    shell("stores", "import", out, *labels)
    assert newest_index(shell).hash == index.hash


def test_groups_of_a_parquet_may_be_numbers_with_gaps(shell: Shell, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {
        "f0": np.arange(8, dtype=np.float32),
        "label": [0, 1] * 4,
        "group": [7, 7, None, 8, 8, None, None, 9],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    shell("stores", "import", tmp_path / "x.parquet")
    assert listed(newest_index(shell)) == ["7", "7", "", "8", "8", "", "", "9"]
