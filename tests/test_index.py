"""Who the rows of a store are: a few bytes each on disk, read by columns; what was written before is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.config import Home
from probe.errors import StoreError
from probe.store import Index, LocalFiles, find_store, mend, open_store, put_index, verify_store
from probe.store import index as stored
from probe.store import manifest as manifests
from probe.store import writer as writers
from probe.store.index import StoredIndex, read_index, write_index
from tests.shell import Shell
from tests.test_store import HASHES, IDS, ROWS, fill, index, layout, make, unit_content


def hashed(count: int) -> np.ndarray:
    return np.array([hashlib.sha256(str(n // 2).encode()).hexdigest() for n in range(count)])


def plain_hash(found: Index) -> str:
    """The hash of an index as it always was."""
    digest = hashlib.sha256()
    for part in (found.ids, found.hashes, found.splits, found.classes):
        digest.update(json.dumps(part.tolist()).encode())
    digest.update(np.ascontiguousarray(found.labels, dtype="<i4").tobytes())
    if found.groups is not None:
        digest.update(json.dumps(found.groups.tolist()).encode())
    return digest.hexdigest()


def older(path: Path, found: Index) -> None:
    """Write an index as it was written before columns were packed."""
    arrays = {name: getattr(found, name) for name in ("ids", "hashes", "labels", "splits", "classes")}
    arrays |= {} if found.groups is None else {"groups": found.groups}
    np.savez_compressed(path / "index" / f"{found.hash}.npz", **arrays)


GROUPS = np.array([f"patient {n // 5}" if n % 7 else "" for n in range(ROWS)])
INDEXES = {
    "plain": index(),
    "real hashes": replace(index(), hashes=hashed(ROWS)),
    "some unread": replace(index(), hashes=np.where(np.arange(ROWS) % 3 == 0, "", hashed(ROWS))),
    "other texts": replace(index(), hashes=np.array([f"of {n // 2}" for n in range(ROWS)])),
    "capital digits": replace(index(), hashes=np.char.upper(hashed(ROWS))),
    "groups": replace(index(), hashes=hashed(ROWS), groups=GROUPS),
    "letters": replace(index(), ids=np.array([f"größe 木{'é' * (n % 4)}/{n}.png" for n in range(ROWS)])),
    "no classes": replace(index(), labels=np.full(ROWS, -1, np.int32), classes=np.empty(0, "<U1")),
    "odd names": replace(index(), classes=np.array(['a "b"', "\x1b[1m"]), splits=np.array(["train"] * ROWS)),
}


@pytest.mark.parametrize("what", INDEXES)
def test_what_is_written_is_read_a_column_at_a_time(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.store.columns.BLOCK", 16)
    monkeypatch.setattr(stored, "BLOCK", 16)
    wanted, files = INDEXES[what], LocalFiles(tmp_path)
    assert write_index(files, wanted) == plain_hash(wanted)
    found = read_index(files, wanted.hash, ROWS)
    assert isinstance(found, StoredIndex)
    assert found.hash == found.digest() == wanted.hash
    for name in ("ids", "hashes", "labels", "splits", "classes", "groups"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.tolist() == theirs.tolist(), name
    np.testing.assert_array_equal(found.units(), wanted.units())
    assert json.dumps(found.facts()) == json.dumps(wanted.facts())
    assert found.take(np.arange(3)).hash == wanted.take(np.arange(3)).hash
    swapped = replace(found, labels=wanted.labels[::-1])
    assert swapped.hash == replace(wanted, labels=wanted.labels[::-1]).hash
    assert json.dumps(swapped.facts()) == json.dumps(replace(wanted, labels=swapped.labels).facts())


@pytest.mark.parametrize("what", INDEXES)
def test_an_index_from_before_is_read_and_stays_the_same(what: str, tmp_path: Path) -> None:
    wanted = INDEXES[what]
    (tmp_path / "index").mkdir()
    older(tmp_path, wanted)
    before = (tmp_path / "index" / f"{wanted.hash}.npz").read_bytes()
    found = read_index(LocalFiles(tmp_path), wanted.hash, ROWS)
    assert found.hash == wanted.hash
    assert json.dumps(found.facts()) == json.dumps(wanted.facts())
    write_index(LocalFiles(tmp_path), wanted)
    assert (tmp_path / "index" / f"{wanted.hash}.npz").read_bytes() == before


def test_a_row_takes_its_hash_and_its_id(tmp_path: Path) -> None:
    count = 20_000
    large = Index(
        np.array([f"{n:08d}.png" for n in range(count - 1)] + [2000 * "x"]),
        hashed(count),
        np.zeros(count, np.int32),
        np.array(["train"] * count),
        np.array(["a"]),
    )
    write_index(LocalFiles(tmp_path), large)
    assert (tmp_path / "index" / f"{large.hash}.npz").stat().st_size < 45 * count


@pytest.mark.parametrize("rows", [0, ROWS])
def test_labels_that_are_changed_are_noticed(home: Home, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where an index is small; of a large one by what looks at all of a store."""
    path = make(home)
    assert fill(path)
    monkeypatch.setattr(stored, "CHECKED_ROWS", rows)
    file = path / "index" / f"{index().hash}.npz"
    with np.load(file) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["labels"] = changed["labels"][::-1].copy()
    np.savez(file, **changed)
    if rows:
        with pytest.raises(StoreError, match="was changed"):
            read_index(LocalFiles(path), index().hash, ROWS)
    assert any("index" in problem for problem in verify_store(path).problems)
    assert f"index/{index().hash}.npz" in mend(path).files


@pytest.mark.parametrize("large", [False, True])
def test_an_index_of_another_labelling_under_this_name_is_noticed(
    home: Home, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(home)
    assert fill(path)
    monkeypatch.setattr(stored, "CHECKED_ROWS", 0 if large else ROWS)
    other = index(np.zeros(ROWS, np.int32))
    put_index(path, other)
    (path / "index" / f"{other.hash}.npz").replace(path / "index" / f"{index().hash}.npz")
    with pytest.raises(StoreError, match="was changed"):
        read_index(LocalFiles(path), index().hash, ROWS)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_bit_anywhere_in_an_index_is_noticed_or_harmless(tmp_path: Path, place: int) -> None:
    files, wanted = LocalFiles(tmp_path), INDEXES["groups"]
    write_index(files, wanted)
    file = tmp_path / "index" / f"{wanted.hash}.npz"
    content = bytearray(file.read_bytes())
    content[place * len(content) // 100] ^= 1 << place % 8
    file.write_bytes(content)
    try:
        found = read_index(files, wanted.hash, ROWS)
        seen = found.facts(), found.ids.tolist(), found.units().tolist()
    except StoreError as error:
        seen, hint = None, error.hint
    assert (
        "repair" in str(hint)
        if seen is None
        else seen == (wanted.facts(), wanted.ids.tolist(), wanted.units().tolist())
    )


def test_a_store_with_more_unreadable_images_than_a_manifest_names(
    home: Home, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (writers, manifests):
        monkeypatch.setattr(module, "MOST_LISTED", 3)
    path = make(Home(shell.home))
    with writers.StoreWriter(path) as writer:
        for unit in writer.pending_units():
            arrays, _ = unit_content(unit)
            start, stop = layout().unit_range(unit)
            for name, array in arrays.items():
                array[:] = 1 if name == "status" else np.nan
            writer.write_unit(unit, arrays, dict.fromkeys(range(start, stop), (1, "no image")))
        put_index(path, index())
        from tests.test_store import SPEC

        assert writer.seal(SPEC, IDS, {"dataset": "d"})
    store = open_store(path)
    assert (len(store.manifest.unreadable), store.manifest.unreadable_count) == (3, ROWS)
    assert set(store.unreadable) == set(IDS.tolist())
    assert verify_store(path, full=True).ok
    assert shell.json("stores", "ls")[0]["unreadable"] == ROWS
    assert len(shell.json("stores", "show")["unreadable"]) == ROWS
    assert not mend(path)


def test_lists_read_no_index_and_show_reads_none_of_its_rows(
    home: Home, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "CHECKED_ROWS", 0)
    path = make(Home(shell.home))
    assert fill(path)
    read: list[str] = []
    plain = stored.read_arrays

    def noted(path, names=None):  # type: ignore[no-untyped-def]
        read.extend(names or ["all"])
        return plain(path, names)

    monkeypatch.setattr(stored, "read_arrays", noted)
    shell("stores", "ls")
    assert not read
    shown = shell.json("stores", "show")
    assert shown["parts"] == {"train": 28, "val": 14, "test": 28}
    assert set(read) <= {"digest", "labels", "facts"}
    assert find_store(Home(shell.home), None).name == path.name
    assert HASHES.shape == (ROWS,)
