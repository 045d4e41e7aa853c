"""What is written is whole or not there: after errors, after kills, and after a power cut."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest

from probe.config import Home
from probe.datasets import open_dataset
from probe.durable import WRITING, replacing, settle
from probe.errors import DataError
from probe.train import pixels
from tests.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


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


def test_runs_and_stores_sweep_what_was_left_among_them(shell: Shell) -> None:
    places = [leftover(shell.home / part) for part in ("runs", "stores", "cache/index")]
    shell("extract", "--backbone", "pixels", "--size", "4", "--limit", "60", "fashion-sample")
    shell("fit", "majority")
    assert not [path for path in places if path.exists()]
    assert not list(shell.home.rglob(f"{WRITING}*"))
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


def folder_for_facts(array: Path, facts: Path) -> None:
    facts.unlink()
    facts.mkdir()


def no_array(array: Path, facts: Path) -> None:
    array.unlink()


SPOILT = (flip, shorten, empty_facts, foreign_facts, facts_of_before, folder_for_facts, no_array)


@pytest.mark.parametrize("spoil", [spoil_nothing, *SPOILT])
def test_kept_pixels_are_taken_only_as_they_were_written(
    spoil: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 0)
    home = Home(tmp_path)
    data = open_dataset("fashion-sample", home)
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
