"""Damage to a store is noticed, and put right by the command that is hinted; what is whole stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.errors import StoreError
from probe.store import StoreWriter, open_store, remove_store, store_folder
from probe.store import files as store_files
from probe.store import index as store_index
from probe.store.locks import writing

from .shell import Shell

WORDS = ("extract", "--backbone", "pixels", "--size", "16", "--batch-size", "4")
UNIT_ROWS = 20
"""So that the pictures make three units."""
CHUNKS = "data.zarr/features/pixels/c"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("photos") / "photos"
    for number in range(54):
        folder = root / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    (root / "cats" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module", autouse=True)
def small_units() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probe.extract.run.unit_rows", lambda *_: UNIT_ROWS)
        yield


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished store, never changed."""
    home = tmp_path_factory.mktemp("made") / "home"
    from probe.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["--home", str(home), *WORDS, str(photos)])
    assert stop.value.code == 4
    return home


@pytest.fixture
def store(made: Path, shell: Shell) -> Path:
    shutil.copytree(made / "stores", shell.home / "stores")
    shutil.copytree(made / "cache", shell.home / "cache", dirs_exist_ok=True)
    (store,) = (path for path in (shell.home / "stores").iterdir() if not path.name.startswith("."))
    assert open_store(store).manifest.layout.units == 3
    return store


def flip(path: Path, place: int = 40) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def swap(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def change_record(path: Path, change: Callable[[dict], None]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def put_others_rows(store: Path) -> None:
    """Whole chunks and whole commit lines, as those of another store are that were copied over its own."""
    arrays = {path.parent for path in (store / "data.zarr").rglob("c")}
    for array in arrays:
        first, second = (next(p for p in [array / f"c/{n}", array / f"c/{n}/0"] if p.is_file()) for n in "01")
        swap(first, second)
    log = store / "commits/0of1.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ("chunks", "crc32c", "unreadable"):
        lines[0][name], lines[1][name] = lines[1][name], lines[0][name]
    log.write_text("".join(json.dumps({**line, "line": ""}) + "\n" for line in lines))


def drop_commit(store: Path) -> None:
    log = store / "commits/0of1.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))


DAMAGE: dict[str, tuple[Callable[[Path], object], int]] = {
    "bit": (lambda s: flip(s / CHUNKS / "1/0"), 1),
    "bit in status": (lambda s: flip(s / "data.zarr/status/c/2", 3), 1),
    "cut": (lambda s: (s / CHUNKS / "1/0").write_bytes(b"short"), 1),
    "gone": (lambda s: (s / CHUNKS / "0/0").unlink(), 1),
    "folder": (lambda s: folder_in_place(s / CHUNKS / "0/0"), 1),
    "swapped": (lambda s: swap(s / CHUNKS / "0/0", s / CHUNKS / "1/0"), 2),
    "copied over": (lambda s: shutil.copyfile(s / CHUNKS / "0/0", s / CHUNKS / "1/0"), 1),
    "commit lost": (drop_commit, 1),
    "rows of another store": (put_others_rows, 3),
    "manifest of another size": (
        lambda s: change_record(s / "MANIFEST.json", lambda r: r["spec"]["backbone"].update(size=8)),
        0,
    ),
    "manifest cut": (lambda s: (s / "MANIFEST.json").write_text("{"), 0),
    "manifest gone": (lambda s: (s / "MANIFEST.json").unlink(), 0),
    "manifest folder": (lambda s: folder_in_place(s / "MANIFEST.json"), 0),
    "manifest of many rows": (
        lambda s: change_record(s / "MANIFEST.json", lambda r: r["layout"].update(rows=10**18)),
        0,
    ),
    "manifest hides": (lambda s: change_record(s / "MANIFEST.json", lambda r: r.update(unreadable={})), 0),
    "array record": (
        lambda s: change_record(s / "data.zarr/features/pixels/zarr.json", lambda r: r.update(shape=[1, 1])),
        0,
    ),
    "array record gone": (lambda s: (s / "data.zarr/status/zarr.json").unlink(), 0),
    "group record": (lambda s: (s / "data.zarr/zarr.json").write_text("[]"), 0),
    "index cut": (lambda s: next((s / "index").glob("*.npz")).write_bytes(b"PK"), 0),
    "current gone": (lambda s: (s / "index/CURRENT.json").unlink(), 0),
}
"""What is done to a store, and how many units have to be computed again."""


def features(store: Path) -> np.ndarray:
    return open_store(store).features().read()


def chunk_times(store: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (store / CHUNKS).rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_same_command_computes_just_what_was_damaged(
    name: str, store: Path, made: Path, photos: Path, shell: Shell
) -> None:
    damage, units = DAMAGE[name]
    expected = features(made / "stores" / store.name)
    damage(store)
    before = chunk_times(store)
    if name == "group record" or name.startswith("array"):
        shell("stores", "repair", store.name)
    done = shell.json(*WORDS, photos, code=4)
    assert done["rows_computed"] <= units * open_store(store).manifest.layout.unit_rows
    assert (done["rows_computed"] > 0) == (units > 0)
    np.testing.assert_array_equal(features(store), expected)
    assert shell.json("stores", "verify", "--full", store.name)["ok"]
    kept = [path for path, time in chunk_times(store).items() if before.get(path) == time]
    assert len(kept) == 3 - units


@pytest.mark.parametrize("name", DAMAGE)
def test_repair_puts_right_what_the_images_and_records_tell(
    name: str, store: Path, made: Path, shell: Shell
) -> None:
    damage, units = DAMAGE[name]
    expected = features(made / "stores" / store.name)
    damage(store)
    if name == "index cut":
        shell("stores", "repair", store.name, code=1)
        assert "which labels its rows have is not known" in shell.error
        return
    done = shell.json("stores", "repair", store.name)
    assert len(done["units"]) == units
    np.testing.assert_array_equal(features(store), expected)
    assert shell.json("stores", "verify", "--full", store.name)["ok"]
    assert "nothing to repair" in shell("stores", "repair", store.name)


def test_what_is_damaged_at_once_is_put_right_at_once(store: Path, made: Path, shell: Shell) -> None:
    expected = features(made / "stores" / store.name)
    for name in ("gone", "bit", "bit in status", "array record gone", "current gone"):
        DAMAGE[name][0](store)
    assert shell.json("stores", "repair", store.name)["units"] == [0, 1, 2]
    np.testing.assert_array_equal(features(store), expected)
    assert shell.json("stores", "verify", "--full", store.name)["ok"]


@pytest.mark.parametrize("name", ["MANIFEST.json", "index/CURRENT.json", "index/*.npz"])
def test_what_the_disk_does_not_give_now_is_not_taken_away(
    name: str, store: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = store.glob(name)
    before = {file: file.read_bytes() for file in store.rglob("*") if file.is_file()}

    def failing(read: Callable[..., Any]) -> Callable[..., Any]:
        def fail(file: Any, *others: Any) -> Any:
            if Path(file) == path:
                raise OSError(errno.EIO, "Input/output error")
            return read(file, *others)

        return fail

    with monkeypatch.context() as patched:
        patched.setattr(store_files, "read_whole", failing(store_files.read_whole))
        patched.setattr(store_index, "read_arrays", failing(store_index.read_arrays))
        shell("stores", "repair", store.name, code=1)
    assert "Input/output error" in shell.error
    assert "nothing was taken away" in shell.error
    assert {file: file.read_bytes() for file in before} == before
    assert "nothing to repair" in shell("stores", "repair", store.name)


NOTICED = ("bit", "bit in status", "cut", "gone", "folder", "swapped", "copied over")


@pytest.mark.parametrize("name", [*NOTICED, "rows of another store", "manifest of another size"])
def test_a_reader_says_which_command_repairs(name: str, store: Path, shell: Shell) -> None:
    DAMAGE[name][0](store)
    shell("fit", "knn", code=1)
    assert f"probe stores repair {store.name}" in shell.error


@pytest.mark.parametrize("name", ["swapped", "copied over"])
def test_rows_that_are_read_in_any_order_are_those_of_their_place(name: str, store: Path) -> None:
    DAMAGE[name][0](store)
    rows = open_store(store).features().mapped(np.arange(54))
    with pytest.raises(StoreError, match="is damaged"):
        rows[np.array([53, 20, 0])]


def test_a_store_under_the_name_of_another_is_not_reused(store: Path, photos: Path, shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", "8", "--batch-size", "4", photos, code=4)
    (other,) = (path for path in store.parent.glob("[!.]*") if path != store)
    shutil.rmtree(other)
    shutil.copytree(store, other)
    for words in (
        ("extract", "--backbone", "pixels", "--size", "8", "--batch-size", "4", photos),
        ("fit", "knn", other.name),
        ("stores", "verify", other.name),
        ("stores", "repair", other.name),
    ):
        shell(*words, code=1)
        assert f"{other.name} holds another store than its name says" in shell.error
    assert other.name in [shell("stores", "ls"), shell.error][1]
    assert open_store(store).manifest.layout.rows == 55


def test_exchanged_chunks_are_noticed_without_reading_them(store: Path, shell: Shell) -> None:
    swap(store / CHUNKS / "0/0", store / CHUNKS / "1/0")
    assert not shell.json("stores", "verify", store.name, code=3)["ok"]


def test_a_store_from_before_checksums_were_committed_still_reads(store: Path, shell: Shell) -> None:
    log = store / "commits/0of1.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        del line["crc32c"], line["line"]
    log.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    from probe.store.commits import commits_digest, read_commits
    from probe.store.files import LocalFiles

    digest = commits_digest(read_commits(LocalFiles(store), open_store(store).manifest.layout))
    change_record(
        store / "MANIFEST.json", lambda record: record.update(digest=digest) or record.pop("sha256")
    )
    assert shell.json("stores", "verify", "--full", store.name)["ok"]
    assert np.isfinite(features(store)[:3]).all()


LINKED = ("commits/0of1.jsonl", "index/CURRENT.json", f"{CHUNKS}/1/0", "MANIFEST.json")


@pytest.mark.parametrize("name", [*LINKED, "commits", "index", CHUNKS, "data.zarr"])
def test_nothing_in_a_store_is_opened_through_a_link(
    name: str, store: Path, photos: Path, shell: Shell, tmp_path: Path
) -> None:
    outside = tmp_path / "mine"
    shutil.move(store / name, outside)
    (store / name).symlink_to(outside)
    (store / "MANIFEST.json").unlink(missing_ok=True)
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    shell(*WORDS, photos, code=4 if name == "MANIFEST.json" else 1)
    if name != "MANIFEST.json":
        assert "is a link" in shell.error
    assert {path: path.read_bytes() for path in before} == before
    assert (
        sorted(outside.rglob("*")) == sorted(path for path in before if path != outside) or outside.is_dir()
    )


def test_a_linked_store_is_removed_and_what_it_leads_to_stays(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    shutil.move(store, tmp_path / "elsewhere")
    store.symlink_to(tmp_path / "elsewhere")
    shell("stores", "rm", store.name, "--yes")
    assert not list(store.parent.iterdir())
    assert (tmp_path / "elsewhere/MANIFEST.json").is_file()


def test_a_copy_that_shares_its_files_is_not_written(store: Path, shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy", copy_function=os.link)
    flip(store / CHUNKS / "1/0")
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    shell("stores", "repair", store.name)
    assert shell.json("stores", "verify", "--full", store.name)["ok"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_log_that_a_copy_shares_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "commits" / "0of1.jsonl"
    first = store_files.AppendLog(path)
    first.append(b"one")
    os.link(path, tmp_path / "copy")
    with pytest.raises(StoreError, match="another process"):
        store_files.AppendLog(path)
    first.append(b"two")
    first.close()
    second = store_files.AppendLog(path)
    second.append(b"three")
    second.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert (tmp_path / "copy").read_bytes() == b"one\ntwo\n"


def test_a_commit_with_a_checksum_of_no_chunk_is_none(store: Path, shell: Shell) -> None:
    log = store / "commits/0of1.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[0]["crc32c"] = dict.fromkeys(lines[0]["crc32c"], 10**30)
    log.write_text("".join(json.dumps({**line, "line": ""}) + "\n" for line in lines))
    shell("fit", "knn", code=1)
    assert f"probe stores repair {store.name}" in shell.error


def test_a_store_that_is_written_is_not_removed(store: Path, shell: Shell) -> None:
    home = Home(shell.home)
    with StoreWriter(store), pytest.raises(StoreError, match="in use") as caught:
        remove_store(home, store.name)
    assert f"process {os.getpid()}" in str(caught.value)
    assert store_folder(home, store.name) == store
    with writing(store), writing(store):
        shell("stores", "rm", store.name, "--yes", code=1)
        shell("stores", "repair", store.name, code=1)
    shell("stores", "rm", store.name, "--yes")
    assert not list((shell.home / "stores").iterdir())


def test_a_store_is_not_written_while_it_is_removed(store: Path) -> None:
    from probe.store.locks import alone

    with alone(store), pytest.raises(StoreError, match="in use"):
        StoreWriter(store)
