"""What is written is whole or not there: after errors, after kills, and after a power cut."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from probe import durable
from probe.config import Home
from probe.datasets import DATASETS, open_dataset
from probe.datasets.fetch import fetch
from probe.datasets.unpack import unpack
from probe.datasets.unzip import open_arrays
from probe.durable import WRITING, replacing, settle
from probe.errors import DataError
from probe.runs import list_runs
from probe.train import pixels
from tests import archives
from tests.faulty_server import running_server, serve
from tests.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


def fail_to_sync(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the disk refuse to sync one folder."""
    sync = durable.sync_folder

    def refused(path: Path) -> None:
        if path == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(path)

    monkeypatch.setattr(durable, "sync_folder", refused)


def test_what_is_in_its_place_is_finished_though_its_folder_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_to_sync(monkeypatch, tmp_path)
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "a.json").read_text() == "new"
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "a.json") in line
    assert "power cut" in line


def test_a_run_in_its_place_is_told_as_finished_whatever_fails_then(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def settled(made: Path, path: Path) -> None:
        settle(made, path)
        monkeypatch.setattr("probe.runs.run.open_run", broken)

    shell("extract", "--backbone", "pixels", "--size", "4", "--limit", "60", "fashion-sample")
    with monkeypatch.context():
        fail_to_sync(monkeypatch, shell.home / "runs")
        monkeypatch.setattr("probe.runs.run.settle", settled)
        monkeypatch.setattr("probe.runs.naming.replacing", broken)
        made = shell.json("fit", "majority", "--name", "kept")
        assert "in its place" in shell.error
        assert "without its name" in shell.error
    monkeypatch.undo()
    assert [dict(row.result) for row in list_runs(Home(shell.home))[0]] == [made]


def leftover(parent: Path, name: str = "dead") -> Path:
    """What a process that was killed while it wrote leaves: a folder, and a lock that nobody holds."""
    folder = parent / f"{WRITING}{name}"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"x")
    folder.with_name(folder.name + ".lock").touch()
    return folder


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as partial:
        assert partial.suffix == ".json"
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_dead_process_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    dead, alive = leftover(tmp_path), leftover(tmp_path, "alive")
    with (tmp_path / f"{alive.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with replacing(tmp_path / "a") as partial:
            partial.write_text("new")
        assert not dead.exists()
        assert (alive / "half").exists()


def test_what_could_not_be_removed_is_swept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def written_meanwhile(folder: Path, **options: bool) -> None:
        (folder / "late").write_text("by what did not hear of the error in time")

    monkeypatch.setattr(shutil, "rmtree", written_meanwhile)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
            raise ZeroDivisionError
        assert len(list(tmp_path.glob(f"{WRITING}*/late"))) == len(list(tmp_path.glob("*.lock")))
    monkeypatch.setattr(shutil, "rmtree", remove)
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_is_no_lock_of_ours_stops_nobody_and_makes_nothing_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / f"{WRITING}folder.lock").mkdir()
    os.mkfifo(tmp_path / f"{WRITING}pipe.lock")
    (tmp_path / f"{WRITING}link.lock").symlink_to(outside)
    (tmp_path / f"{WRITING}loop.lock").symlink_to(tmp_path / f"{WRITING}loop.lock")
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert not outside.exists()


def test_runs_and_stores_sweep_what_was_left_among_them(shell: Shell) -> None:
    places = [leftover(shell.home / part) for part in ("runs", "stores", "cache/index")]
    shell("extract", "--backbone", "pixels", "--size", "4", "--limit", "60", "fashion-sample")
    shell("fit", "majority")
    assert not [path for path in places if path.exists()]
    assert not list(shell.home.rglob(f"{WRITING}*"))
    index = leftover(shell.home / "cache/index", "in a folder that is only read")
    shell("extract", "--backbone", "pixels", "--size", "4", "--limit", "60", "fashion-sample")
    assert not index.exists()
    gone = leftover(shell.home / "stores")
    (store,) = (path for path in (shell.home / "stores").iterdir() if path.name[0] != ".")
    shell("stores", "rm", store.name, "--yes")
    assert not gone.exists()


class ForgetfulDisk:
    """Knows what a power cut would leave: contents that were synced, under names that were synced.

    Every rename is asked whether all it moves was synced after its last change, but for those of zarr, whose
    chunks the store syncs before it counts on them. `names` are the folders whose new names were not synced
    yet.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, int] = {}
        self.lost: list[str] = []
        self.names: set[str] = set()
        self.renames = 0
        fsync, replace = os.fsync, Path.replace

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            found = os.fstat(descriptor)
            self.synced[found.st_ino] = found.st_mtime_ns
            self.names.discard(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

        def checked(made: Path, path: Path) -> Path:
            if made.suffix != ".partial":
                self.lost += self.unsynced(made)
                self.renames += 1
            self.names.add(str(path.parent.resolve()))
            return replace(made, path)

        def noted_disk(folder: Path) -> bool:
            self.synced |= {f.stat().st_ino: f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}
            return True

        monkeypatch.setattr(durable, "sync_disk", noted_disk)
        monkeypatch.setattr(os, "fsync", noted)
        monkeypatch.setattr(Path, "replace", checked)

    def unsynced(self, path: Path) -> list[str]:
        """The files at or below `path` that were changed after they were last synced."""
        files = [part for part in (path, *path.rglob("*")) if part.is_file()]
        stats = [(part, part.stat()) for part in files]
        return [str(part) for part, found in stats if self.synced.get(found.st_ino) != found.st_mtime_ns]


def test_the_forgetful_disk_tells_what_was_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = ForgetfulDisk(monkeypatch)
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").replace(tmp_path / "b")
    assert disk.lost == [str(tmp_path / "a")]
    assert disk.names == {str(tmp_path.resolve())}
    disk.lost.clear()
    settle(tmp_path / "b", tmp_path / "c")
    assert (disk.lost, disk.names) == ([], set())


def test_nothing_that_a_command_finished_is_lost_in_a_power_cut(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 0)
    lines = {
        "extract --backbone pixels --size 4 --limit 60 fashion-sample": 3,
        "fit centroid": 1,
        "finetune --backbone fine.keras --preprocess unit --unfreeze all --epochs 1 --head-epochs 1 "
        "--limit 60 fashion-sample": 4,
        "sweep cifar10/exp0 --set batch_size=32 --epochs 1 --limit 60 --data fashion-sample": 4,
        "export centroid --output-file exported.keras": 2,
    }
    save_network(shell.home.parent / "fine.keras")
    monkeypatch.chdir(shell.home.parent)
    disk = ForgetfulDisk(monkeypatch)
    for line, least in lines.items():
        before = disk.renames
        shell(*line.split())
        assert disk.renames - before >= least, line
        assert disk.lost == [], line
        assert disk.names == set(), line
        kept = [shell.home / part for part in ("stores", "runs", "sweeps")]
        assert [file for folder in kept for file in disk.unsynced(folder)] == [], line


@pytest.mark.parametrize("pictures", [3, durable.MANY])
def test_nothing_that_was_unpacked_is_lost_in_a_power_cut(
    pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many files are synced with the whole disk: that takes seconds where one by one takes minutes."""
    archive = archives.write_zip(tmp_path / "x.zip", {f"a/{n}.jpg": b"x" for n in range(pictures)})
    disk = ForgetfulDisk(monkeypatch)
    unpack([archive], tmp_path / "set")
    assert len(list((tmp_path / "set" / "a").iterdir())) == pictures
    assert (disk.renames, disk.lost, disk.names) == (1, [], set())


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_nothing_that_was_fetched_is_lost_in_a_power_cut(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archives.write_tar(tmp_path / "cifar-10-binary.tar.gz", archives.cifar10(3))
    contents = {packed.name: packed.read_bytes()} if name == "cifar10" else archives.fashion(6, 3)
    home = Home(tmp_path / "home")
    disk = ForgetfulDisk(monkeypatch)
    with running_server() as server:
        fetch(serve(server, DATASETS[name], contents), home, pause=0)
    assert disk.renames >= 1 + len(contents)
    assert (disk.lost, disk.names) == ([], set())
    assert disk.unsynced(home.datasets) == []


def test_arrays_that_were_unpacked_outlast_a_power_cut_and_are_taken_only_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = tmp_path / "set.npz", tmp_path / "cache"
    np.savez_compressed(path, a=np.arange(500))
    disk = ForgetfulDisk(monkeypatch)
    open_arrays(path, cache, in_memory=100)
    assert (disk.renames, disk.lost, disk.names) == (1, [], set())
    (unpacked,) = cache.rglob("*.npy")
    for spoil in (flip, shorten, no_array):
        spoil(unpacked, path)
        np.testing.assert_array_equal(open_arrays(path, cache, in_memory=100)["a"], np.arange(500))


def test_a_sync_of_the_whole_disk_is_a_call_of_the_system(tmp_path: Path) -> None:
    assert durable.sync_disk(tmp_path)
    with pytest.raises(FileNotFoundError):
        durable.sync_disk(tmp_path / "none")


def save_network(path: Path) -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    keras.Model(pixels, keras.layers.Conv2D(2, 3, name="last")(pixels)).save(path)


# ---- decoded pictures that are kept ----------------------------------------------------------------------


def spoil_nothing(array: Path, facts: Path) -> None:
    pass


def flip(array: Path, facts: Path) -> None:
    content = bytearray(array.read_bytes())
    content[-5] ^= 4
    array.write_bytes(content)


def shorten(array: Path, facts: Path) -> None:
    array.write_bytes(array.read_bytes()[:-100])


def empty_facts(array: Path, facts: Path) -> None:
    facts.write_text("")


def foreign_facts(array: Path, facts: Path) -> None:
    facts.write_text(json.dumps({"unreadable": "none", "grey": 1, "crc32c": True}))


def facts_of_before(array: Path, facts: Path) -> None:
    facts.write_text(json.dumps({"unreadable": [], "grey": True}))


def other_rows(array: Path, facts: Path) -> None:
    facts.write_text(facts.read_text().replace('"unreadable": []', '"unreadable": [1]'))


def folder_for_facts(array: Path, facts: Path) -> None:
    facts.unlink()
    facts.mkdir()


def no_array(array: Path, facts: Path) -> None:
    array.unlink()


SPOILT = (flip, shorten, empty_facts, foreign_facts, facts_of_before, other_rows, folder_for_facts, no_array)


@pytest.mark.parametrize("spoil", [spoil_nothing, *SPOILT])
def test_kept_pixels_are_taken_only_as_they_were_written(
    spoil: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 0)
    home = Home(tmp_path)
    data = open_dataset("fashion-sample", home).take(np.arange(0, 3500, 10))
    first = pixels.read_pixels(data, 4, home.cache).data
    (array,), (facts,) = ((home.cache / "pixels").glob(f"*.{kind}") for kind in ("npy", "json"))
    expected = np.array(first.train.inputs)
    made = array.stat().st_ino
    spoil(array, facts)  # type: ignore[operator]
    again = pixels.read_pixels(data, 4, home.cache).data
    np.testing.assert_array_equal(again.train.inputs, expected)
    assert again.digest() == first.digest()
    assert (array.stat().st_ino == made) == (spoil is spoil_nothing)


def test_pixels_that_do_not_fit_on_the_disk_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixels, "MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    home = Home(tmp_path)
    with pytest.raises(DataError, match="do not fit on the disk") as raised:
        pixels.read_pixels(open_dataset("fashion-sample", home), 4, home.cache)
    assert "make room" in str(raised.value)
    assert list((home.cache / "pixels").iterdir()) == []
