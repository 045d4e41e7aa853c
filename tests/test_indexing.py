"""The index of content hashes: what is reread, what is not."""

import hashlib
import os

import numpy as np
import pytest

from probe.config import Home
from probe.datasets import open_dataset
from probe.datasets.indexing import hash_rows, index_rows
from probe.datasets.sources import ArraySource, FileSource
from probe.hashing import content_hash

OLD = 1_600_000_000


@pytest.fixture
def counted(monkeypatch):
    """Rows that were read, whatever the source."""
    reads = []
    for kind in (FileSource, ArraySource):
        original = kind.read

        def read(self, row, original=original):
            reads.append(row)
            return original(self, row)

        monkeypatch.setattr(kind, "read", read)
    return reads


def files(root, count=30):
    root.mkdir()
    names = [f"{i:03}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        (root / name).write_bytes(b"%d" % i)
        os.utime(root / name, (OLD, OLD))
    return FileSource(root, names)


def test_a_second_pass_reads_nothing(tmp_path, counted):
    source = files(tmp_path / "x")
    first = index_rows(source, 30, tmp_path / "cache").hashes
    assert first.tolist() == [hashlib.sha256(b"%d" % i).hexdigest() for i in range(30)]
    assert sorted(counted) == list(range(30))
    counted.clear()
    np.testing.assert_array_equal(index_rows(source, 30, tmp_path / "cache").hashes, first)
    assert counted == []


def test_a_changed_a_new_and_a_missing_file(tmp_path, counted):
    source = files(tmp_path / "x")
    index_rows(source, 30, tmp_path / "cache")
    counted.clear()
    (tmp_path / "x" / "005.jpg").write_bytes(b"longer")
    (tmp_path / "x" / "006.jpg").write_bytes(b"7")
    (tmp_path / "x" / "007.jpg").unlink()
    (tmp_path / "x" / "new.jpg").write_bytes(b"new")
    more = FileSource(source.root, [*source.files, "new.jpg"])
    hashes = index_rows(more, 31, tmp_path / "cache").hashes
    assert sorted(counted) == [5, 6, 30]
    assert hashes[5] == hashlib.sha256(b"longer").hexdigest()
    assert hashes[6] == hashlib.sha256(b"7").hexdigest()
    assert hashes[7] == ""
    assert hashes[30] == hashlib.sha256(b"new").hexdigest()


def write_in_place(path, content):
    path.write_bytes(content)


def rename_into_place(path, content):
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


@pytest.mark.parametrize("replace", [write_in_place, rename_into_place])
def test_content_that_is_replaced_with_size_and_mtime_kept_is_read_again(tmp_path, counted, replace):
    source = files(tmp_path / "x")
    index_rows(source, 30, tmp_path / "cache")
    counted.clear()
    path = tmp_path / "x" / "012.jpg"
    replace(path, b"21")
    os.utime(path, (OLD, OLD))
    assert (path.stat().st_size, path.stat().st_mtime) == (2, OLD)
    hashes = index_rows(source, 30, tmp_path / "cache").hashes
    assert hashes[12] == hashlib.sha256(b"21").hexdigest()
    assert counted == [12]


def test_all_bytes_are_read_again_when_asked_for(tmp_path, counted):
    source = files(tmp_path / "x")
    first = index_rows(source, 30, tmp_path / "cache").hashes
    np.testing.assert_array_equal(index_rows(source, 30, tmp_path / "cache", rehash=True).hashes, first)
    assert sorted(counted) == sorted([*range(30), *range(30)])
    index_rows(source, 30, tmp_path / "cache")
    assert len(counted) == 60


def test_a_cache_of_size_and_mtime_alone_is_not_believed(tmp_path, counted):
    source = files(tmp_path / "x")
    first = index_rows(source, 30, tmp_path / "cache").hashes
    (file,) = (tmp_path / "cache" / "index").iterdir()
    with np.load(file) as stored:
        older = {name: stored[name] for name in stored.files}
    np.savez(file, **older | {"stamps": older["stamps"][:, :2], "hashes": np.roll(older["hashes"], 1)})
    np.testing.assert_array_equal(index_rows(source, 30, tmp_path / "cache").hashes, first)
    assert len(counted) == 60


def test_a_subset_neither_rereads_nor_forgets(tmp_path, counted):
    source = files(tmp_path / "x")
    everything = index_rows(source, 30, tmp_path / "cache").hashes
    counted.clear()
    part = FileSource(source.root, source.files[3:20:2])
    np.testing.assert_array_equal(index_rows(part, 9, tmp_path / "cache").hashes, everything[3:20:2])
    os.utime(tmp_path / "x" / "005.jpg", (OLD + 1, OLD + 1))
    index_rows(part, 9, tmp_path / "cache")
    index_rows(source, 30, tmp_path / "cache")
    assert counted == [1]


def test_files_written_this_moment_are_not_remembered(tmp_path, counted, monkeypatch):
    source = files(tmp_path / "x")
    monkeypatch.setattr("time.time_ns", lambda: OLD * 10**9 + 1000)
    index_rows(source, 30, tmp_path / "cache")
    index_rows(source, 30, tmp_path / "cache")
    assert len(counted) == 60


def test_arrays_written_this_moment_are_not_remembered(tmp_path, counted, monkeypatch):
    path, pixels = tmp_path / "set.npz", np.arange(640, dtype=np.uint32).astype(np.uint8).reshape(40, 4, 4)
    np.savez(path, train_images=pixels, train_labels=np.arange(40) % 2)
    monkeypatch.setattr("time.time_ns", lambda: path.stat().st_mtime_ns + 1000)
    open_dataset(str(path), Home(tmp_path / "home"))
    open_dataset(str(path), Home(tmp_path / "home"))
    assert len(counted) == 80


def test_a_damaged_cache_is_an_empty_one(tmp_path, counted):
    source = files(tmp_path / "x")
    first = index_rows(source, 30, tmp_path / "cache").hashes
    (file,) = (tmp_path / "cache" / "index").iterdir()
    for content in (b"", b"words", file.read_bytes()[:300]):
        file.write_bytes(content)
        np.testing.assert_array_equal(index_rows(source, 30, tmp_path / "cache").hashes, first)
    assert len(counted) == 120


def test_arrays_are_remembered_by_their_file(tmp_path, counted):
    home = Home(tmp_path / "home")
    path = tmp_path / "set.npz"
    pixels = np.arange(60 * 16, dtype=np.uint32).astype(np.uint8).reshape(60, 4, 4)
    labels = np.arange(60) % 3
    np.savez(path, train_images=pixels[:40], train_labels=labels[:40], test_images=pixels, test_labels=labels)
    os.utime(path, (OLD, OLD))
    first = open_dataset(str(path), home)
    assert len(counted) == 100
    counted.clear()
    np.testing.assert_array_equal(open_dataset(str(path), home).hashes, first.hashes)
    assert counted == []
    np.savez(path, train_images=pixels[:41], train_labels=labels[:41], test_images=pixels, test_labels=labels)
    assert len(open_dataset(str(path), home)) == 101
    assert len(counted) == 101


@pytest.mark.parametrize("in_memory", [True, False])
def test_arrays_that_are_replaced_with_size_and_mtime_kept_are_read_again(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(
            "probe.datasets.unzip.open_arrays.__kwdefaults__", {"in_memory": 0, "anew": False}
        )
    home = Home(tmp_path / "home")
    path = tmp_path / "set.npz"
    pixels = np.arange(60 * 16, dtype=np.uint32).astype(np.uint8).reshape(60, 4, 4)
    for content in (pixels, 255 - pixels):
        np.savez(path, train_images=content, train_labels=np.arange(60) % 3)
        os.utime(path, (OLD, OLD))
        dataset = open_dataset(str(path), home)
        np.testing.assert_array_equal(dataset.source.read(7), content[7])
        assert dataset.hashes[7] == content_hash(content[7])


def test_threads_do_not_change_the_order(tmp_path):
    source = files(tmp_path / "x", 200)
    rows = np.arange(200)[::-1]
    one, four = (hash_rows(source, rows, threads=threads).hashes for threads in (1, 4))
    np.testing.assert_array_equal(one, four)
    assert one[0] == hashlib.sha256(b"199").hexdigest()
