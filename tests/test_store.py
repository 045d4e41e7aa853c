"""The store's promises: what is committed is durable and complete, what is damaged is noticed."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from probe.config import Home
from probe.errors import StoreError, UnknownNameError
from probe.store import (
    Index,
    Layout,
    LocalFiles,
    StoreSpec,
    StoreWriter,
    create,
    find_store,
    images_digest,
    open_store,
    put_index,
    store_path,
    unit_rows,
    verify_store,
)

ROWS, UNIT, BATCH = 70, 16, 8
IDS = np.array([f"image{i:03d}.png" for i in range(ROWS)])
HASHES = np.array([f"{i:064x}" for i in range(ROWS)])
BACKBONE = {
    "name": "b",
    "weights": "w",
    "size": 8,
    "preprocess": "none",
    "outputs": ["f"],
    "precision": "fp32",
}
SPEC = StoreSpec(BACKBONE, {"policy": "p"}, None, "float32", images_digest(IDS, HASHES))
FEATURES = np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float32)
MAPS = np.random.default_rng(1).normal(size=(ROWS, 2, 2, 3)).astype(np.float32)
UNREAD = 20


def layout(**changes: object) -> Layout:
    plain = Layout(SPEC.key, ROWS, UNIT, BATCH, {"f": (5,), "m:map": (2, 2, 3)}, "float32")
    return dataclasses.replace(plain, **changes)


def index(labels: np.ndarray | None = None) -> Index:
    splits = np.array(["train", "train", "val", "test", "test"] * (ROWS // 5))
    found = np.arange(ROWS, dtype=np.int32) % 2 if labels is None else labels
    return Index(IDS, HASHES, found, splits, np.array(["even", "odd"]))


def unit_content(unit: int) -> tuple[dict[str, np.ndarray], dict[int, tuple[int, str]]]:
    start, stop = layout().unit_range(unit)
    arrays = {
        "features/f": FEATURES[start:stop].copy(),
        "features/m:map": MAPS[start:stop].copy(),
        "status": np.zeros(stop - start, np.uint8),
    }
    problems = {}
    if start <= UNREAD < stop:
        problems[UNREAD] = (1, "not an image")
        arrays["features/f"][UNREAD - start] = np.nan
        arrays["features/m:map"][UNREAD - start] = np.nan
        arrays["status"][UNREAD - start] = 1
    return arrays, problems


def fill(path: Path, shard: int = 0, shards: int = 1, stop_after: int | None = None) -> bool:
    with StoreWriter(path, shard, shards) as writer:
        for unit in writer.pending_units()[:stop_after]:
            writer.write_unit(unit, *unit_content(unit))
        put_index(path, index())
        return writer.seal(SPEC, IDS, {"dataset": "d"})


def make(home: Home, **changes: object) -> Path:
    path = store_path(home, "d", "b", SPEC.key)
    create(path, SPEC, layout(**changes))
    return path


@pytest.fixture
def finished(home: Home) -> Path:
    path = make(home)
    assert fill(path)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(path)): f.read_bytes()
        for f in sorted((path / "data.zarr").rglob("*"))
        if f.is_file()
    }


def test_what_was_written_is_read_back(finished: Path) -> None:
    store = open_store(finished)
    read = np.delete(np.arange(ROWS), UNREAD)
    np.testing.assert_array_equal(store.rows(), read)
    np.testing.assert_array_equal(store.features("f").read(read), FEATURES[read])
    np.testing.assert_array_equal(store.features("m:map").read(read), MAPS[read])
    assert np.isnan(store.features("f").read()[UNREAD]).all()
    np.testing.assert_array_equal(store.index.ids, IDS)
    assert store.manifest.unreadable == {str(IDS[UNREAD]): (1, "not an image")}


@pytest.mark.parametrize("rows", [[], [3], [0, 69], [17, 18, 19], list(range(0, 70, 7)), list(range(70))])
def test_any_selection_of_rows_reads_the_same_values(finished: Path, rows: list[int]) -> None:
    wanted = np.array([row for row in rows if row != UNREAD], np.intp)
    np.testing.assert_array_equal(open_store(finished).features("f").read(wanted), FEATURES[wanted])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("ends", [(0, 70), (16, 32), (17, 18), (5, 40), (63, 70), (8, 8)])
def test_ranges_are_what_zarr_reads(home: Home, dtype: str, ends: tuple[int, int]) -> None:
    path = make(home, dtype=dtype)
    fill(path)
    store = open_store(path)
    for name in ("features/f", "features/m:map"):
        expected = zarr.open_array(str(path / "data.zarr" / name), mode="r")[slice(*ends)]
        read = store.read(name, *ends)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, expected)


def test_unreadable_rows_are_in_no_split(finished: Path) -> None:
    store = open_store(finished)
    assert index().splits[UNREAD] == "train"
    assert UNREAD not in store.rows("train")
    assert len(store.rows("train")) == 2 * ROWS // 5 - 1


@pytest.mark.parametrize("done", [0, 1, 3])
def test_an_unfinished_store_says_so_and_resumes_to_the_same_bytes(
    home: Home, tmp_path: Path, done: int
) -> None:
    whole = make(Home(tmp_path / "other"))
    fill(whole)
    path = make(home)
    assert not fill(path, stop_after=done)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(path)
    with StoreWriter(path) as writer:
        assert len(writer.pending_units()) == layout().units - done
    assert fill(path)
    assert contents(path) == contents(whole)


def test_a_torn_commit_line_is_ignored_and_cut_off(home: Home) -> None:
    path = make(home)
    fill(path, stop_after=2)
    log = path / "commits" / "0of1.jsonl"
    log.write_bytes(log.read_bytes() + b'{"unit": 2, "rows": [32')
    with StoreWriter(path) as writer:
        assert writer.pending_units() == [2, 3, 4]
    assert fill(path)
    assert all(json.loads(line) for line in log.read_text().splitlines())
    assert verify_store(path, full=True).ok


def test_a_commit_without_its_chunk_is_done_again(home: Home) -> None:
    path = make(home)
    fill(path, stop_after=3)
    (path / "data.zarr/features/f/c/1/0").write_bytes(b"short")
    with StoreWriter(path) as writer:
        assert writer.pending_units() == [1, 3, 4]


def test_partial_files_are_swept(home: Home) -> None:
    path = make(home)
    leftover = path / "data.zarr/features/f/c/0/0.abc.partial"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a chunk")
    assert fill(path)
    assert not list(path.rglob("*.partial"))


def test_two_shards_write_the_same_bytes_as_one(home: Home, tmp_path: Path) -> None:
    whole = make(Home(tmp_path / "other"))
    fill(whole)
    path = make(home)
    assert not fill(path, 0, 2)
    assert fill(path, 1, 2)
    assert contents(path) == contents(whole)


def test_two_processes_cannot_write_one_shard(home: Home) -> None:
    path = make(home)
    with StoreWriter(path), pytest.raises(StoreError, match="another process"):
        StoreWriter(path)


def test_a_chunk_of_nothing_but_unreadable_rows_is_kept(home: Home) -> None:
    path = make(home)
    with StoreWriter(path) as writer:
        for unit in writer.pending_units():
            start, stop = layout().unit_range(unit)
            arrays = {
                "features/f": np.full((stop - start, 5), np.nan, np.float32),
                "features/m:map": np.full((stop - start, 2, 2, 3), np.nan, np.float32),
                "status": np.ones(stop - start, np.uint8),
            }
            writer.write_unit(unit, arrays, dict.fromkeys(range(start, stop), (1, "bad")))
        put_index(path, index())
        assert writer.seal(SPEC, IDS, {})
    assert verify_store(path, full=True).ok
    assert not len(open_store(path).rows())


def damage_bit(path: Path) -> None:
    chunk = path / "data.zarr/features/f/c/1/0"
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(bytes(data))


def damage_missing(path: Path) -> None:
    (path / "data.zarr/features/f/c/1/0").unlink()


def damage_commit(path: Path) -> None:
    log = path / "commits" / "0of1.jsonl"
    log.write_text("\n".join(log.read_text().splitlines()[1:]) + "\n")


def damage_manifest(path: Path) -> None:
    manifest = path / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"policy": "p"', '"policy": "q"'))


def damage_nan(path: Path) -> None:
    manifest = path / "MANIFEST.json"
    record = json.loads(manifest.read_text())
    record["unreadable"] = {}
    del record["sha256"]  # as in manifests from before it was recorded
    manifest.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "needs_full", "said"),
    [
        (damage_bit, True, "content changed"),
        (damage_missing, False, "missing or has the wrong size"),
        (damage_commit, False, "no commit line"),
        (damage_manifest, False, "the key is"),
        (damage_nan, True, "does not match the status"),
    ],
)
def test_verify_finds_every_kind_of_damage(
    finished: Path, damage: object, needs_full: bool, said: str
) -> None:
    assert verify_store(finished, full=True).ok
    damage(finished)  # type: ignore[operator]
    assert verify_store(finished).ok is needs_full
    problems = verify_store(finished, full=True).problems
    assert any(said in problem for problem in problems), problems


def damage_length(path: Path) -> None:
    chunk = path / "data.zarr/features/f/c/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])


@pytest.mark.parametrize("cut", [1, 4, 5, 300])
def test_a_chunk_that_shrinks_while_the_store_is_open_is_noticed(finished: Path, cut: int) -> None:
    features = open_store(finished).features("f")
    chunk = finished / "data.zarr/features/f/c/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-cut])
    with pytest.raises(StoreError, match="damaged"):
        features.read()


@pytest.mark.parametrize("damage", [damage_bit, damage_missing, damage_length])
def test_reading_damage_is_an_error_and_never_a_number(finished: Path, damage: object) -> None:
    damage(finished)  # type: ignore[operator]
    with pytest.raises(StoreError, match="damaged"):
        open_store(finished).features("f").read()


def test_another_schema_is_refused(finished: Path) -> None:
    manifest = finished / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(StoreError, match="another version") as caught:
        open_store(finished)
    assert "schema 1" in str(caught.value)
    assert "99" in str(caught.value)


def test_a_name_never_leaves_the_store(tmp_path: Path) -> None:
    for name in ("../x", "/etc/passwd", "a/../../b", "", "a//b"):
        with pytest.raises(StoreError):
            LocalFiles(tmp_path).path(name)


def test_relabelling_adds_an_index_and_keeps_the_features(finished: Path) -> None:
    before = contents(finished)
    old = open_store(finished).index_hash
    new = put_index(finished, index(np.zeros(ROWS, np.int32)))
    store = open_store(finished)
    assert store.index_hash == new != old
    assert (store.index.labels == 0).all()
    assert contents(finished) == before
    assert (finished / "index" / f"{old}.npz").exists()


def test_the_newest_store_is_the_last_used_and_never_an_internal_one(home: Home) -> None:
    paths = []
    for name, internal in (("a", False), ("b", False), ("c", True)):
        path = home.stores / f"{name}-b-{SPEC.key[:12]}"
        create(path, SPEC, layout(internal=internal))
        fill(path)
        paths.append(path)
    assert find_store(home, None).path == paths[1]
    put_index(paths[0], index())
    assert find_store(home, None).path == paths[0]
    assert find_store(home, paths[2].name).path == paths[2]


def test_unknown_store_names_the_near_ones(finished: Path, home: Home) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_store(home, "nothing-like-it")
    assert finished.name in str(caught.value)


def test_a_store_that_would_not_fit_is_refused_before_any_work(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalFiles, "free_bytes", lambda self: 1000)
    with pytest.raises(StoreError, match="would not fit"):
        make(home)
    assert not store_path(home, "d", "b", SPEC.key).exists()


def test_a_store_is_made_by_no_thread_that_outlives_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_open, writers, full_at = io.open, [], [0]

    def opened(file: object, mode: str = "r", *rest: int, **options: object) -> object:
        if "w" in mode:
            writers.append(threading.current_thread())
            if len(writers) in full_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain_open(file, mode, *rest, **options)

    monkeypatch.setattr(io, "open", opened)
    make(home)
    shutil.rmtree(home.stores)
    for number in range(1, len(writers) + 1):
        writers.clear()
        full_at[:] = [number]
        with pytest.raises(StoreError, match="disk is full"):
            make(home)
        assert set(writers) == {threading.main_thread()}
        assert not list(home.stores.iterdir())


def test_a_full_disk_in_the_middle_is_one_clear_error_and_keeps_the_units(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(home)
    fill(path, stop_after=2)

    def full(self: LocalFiles, names: list[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LocalFiles, "sync", full)
        with pytest.raises(StoreError, match="disk is full"):
            fill(path)
    with StoreWriter(path) as writer:
        assert writer.pending_units() == [2, 3, 4]
    assert fill(path)


@pytest.mark.parametrize(
    ("rows", "batch", "row_bytes", "expected"),
    [
        (1000, 32, 1280 * 4, 256),
        (1000, 48, 1280 * 4, 240),
        (1000, 512, 1280 * 4, 512),
        (1000, 32, 7 * 7 * 2048 * 4, 32),
        (5_000_000, 32, 1024 * 4, 2048),
    ],
)
def test_unit_rows(rows: int, batch: int, row_bytes: int, expected: int) -> None:
    found = unit_rows(rows, batch, row_bytes)
    assert found == expected
    assert found % batch == 0
