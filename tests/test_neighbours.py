"""One store, run, cell or cache that is damaged: it is told with its reason, and all others are used."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from probe.cli import run
from probe.config import Home
from probe.errors import LinkError, UsageError
from probe.order import one_at_a_time
from probe.runs import list_runs, name_run
from probe.runs.naming import Naming, write_naming
from probe.store import list_stores
from probe.studies.sweep import CellResult, read_cell, run_sweep, write_cell
from tests.shell import PHOTOS, Shell

DEEP = "[" * 100_000
Damage = Callable[[Path], None]


def put(text: str) -> Damage:
    return lambda path: [make_way(path), path.write_text(text, encoding="utf-8")][0]


def make_way(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def a_folder(path: Path) -> None:
    make_way(path)
    path.mkdir()


def a_pipe(path: Path) -> None:
    make_way(path)
    os.mkfifo(path)


def a_device(path: Path) -> None:
    make_way(path)
    path.symlink_to("/dev/zero")


def a_loop(path: Path) -> None:
    make_way(path)
    path.symlink_to(path)


def too_large(path: Path) -> None:
    make_way(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)


def changed(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: Path) -> None:
        record = json.loads(path.read_text(encoding="utf-8"))
        change(record)
        path.write_text(json.dumps(record).replace('"HUGE"', "1e400"), encoding="utf-8")

    return damage


def unsealed(change: Callable[[dict[str, Any]], object]) -> Damage:
    """`changed`, of a record as versions wrote it that did not seal it."""
    return changed(lambda record: (record.pop("sha256"), change(record)))


ANYWHERE = {
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a device": a_device,
    "a loop": a_loop,
    "too large": too_large,
    "deep": put(DEEP),
    "a list": put("[]"),
    "a number": put("1e400"),
    "not text": lambda path: [make_way(path), path.write_bytes(b"\xff\xfe{}")][0],
    "digits": put('{"schema": 1, "sequence": ' + "9" * 5000 + "}"),
}
MANIFESTS = {
    "rows 1e400": changed(lambda record: record["layout"].update(rows="HUGE")),
    "rows NaN": changed(lambda record: record["layout"].update(rows=float("nan"))),
    "rows 1e18": changed(lambda record: record["layout"].update(rows=10**18)),
    "a negative shape": changed(lambda record: record["layout"].update(shapes={"pixels": [-4, -4]})),
    "a shape that overflows": changed(
        lambda record: record["layout"].update(shapes={"pixels": [1 << 32] * 2})
    ),
    "a shape of many digits": changed(lambda record: record["layout"].update(shapes={"pixels": [10**40]})),
    "no output": changed(lambda record: record["layout"].update(shapes={})),
    "a dtype": changed(lambda record: record["layout"].update(dtype="float33")),
    "no backbone": changed(lambda record: record["spec"].update(backbone=[])),
    "a size of text": changed(lambda record: record["spec"]["backbone"].update(size="x")),
    "facts": changed(lambda record: record["facts"].update(dataset=["x"], origin=3)),
    "unreadable": changed(lambda record: record.update(unreadable={"a": 3})),
}
RESULTS = {
    "accuracy of text": changed(lambda record: record["test"].update(accuracy="x")),
    "accuracy 1e400": changed(lambda record: record["test"].update(accuracy="HUGE")),
    "accuracy NaN": changed(lambda record: record["test"].update(accuracy=float("nan"))),
    "backbone": changed(lambda record: record.update(backbone=["x"])),
    "classes": changed(lambda record: record.update(classes=3)),
    "facts": changed(lambda record: record.update(options=3)),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two stores and two runs, of which the later will be damaged."""
    home = tmp_path_factory.mktemp("kept") / "home"
    for size in ("4", "5"):
        run(["--home", str(home), "extract", "--backbone", "pixels", "--size", size, "--quiet", str(PHOTOS)])
        run(["--home", str(home), "fit", "centroid", "--quiet"])
    return home


@pytest.fixture
def neighbour(kept: Path, shell: Shell) -> Path:
    shutil.copytree(kept, shell.home)
    return shell.home


@pytest.mark.parametrize("what", [*ANYWHERE, *MANIFESTS])
def test_a_damaged_store_is_told_and_passed_over(what: str, neighbour: Path, shell: Shell) -> None:
    first, *_ = list_stores(Home(neighbour))[0]
    (ANYWHERE | MANIFESTS)[what](first.path / "MANIFEST.json")
    expect_passed_over(shell, "stores", first.name)
    assert shell.json("fit", "centroid")["store"] != first.name


@pytest.mark.parametrize("name", ["index/CURRENT.json", "index", "MANIFEST.json"])
@pytest.mark.parametrize("what", [what for what in ANYWHERE if what != "digits"])
def test_so_is_one_that_does_not_say_which_labels_hold(
    what: str, name: str, neighbour: Path, shell: Shell
) -> None:
    first, *_ = list_stores(Home(neighbour))[0]
    ANYWHERE[what](first.path / name)
    found, problems = list_stores(Home(neighbour))
    assert (len(found), [path.name for path, _ in problems]) == (1, [first.name])


def test_a_store_whose_labels_in_force_are_not_there_is_told(neighbour: Path, shell: Shell) -> None:
    first, *_ = list_stores(Home(neighbour))[0]
    unsealed(lambda record: record.update(index="0" * 64))(first.path / "index" / "CURRENT.json")
    expect_passed_over(shell, "stores", first.name)
    (_, why), *_ = list_stores(Home(neighbour))[1]
    assert "is not an index" in str(why)
    shell("stores", "repair", first.name)
    assert len(shell.json("stores", "ls")) == 2


def expect_passed_over(shell: Shell, kind: str, name: str) -> None:
    listed = shell.json(kind, "ls")
    assert len(listed) == 1
    (told,) = [line for line in shell.error.splitlines() if line.startswith(name)]
    assert len(told) > len(name) + 10
    shell(kind, "show", "latest", "--json")


@pytest.mark.parametrize("what", [*ANYWHERE, *RESULTS])
def test_a_damaged_run_is_told_and_passed_over(what: str, neighbour: Path, shell: Shell) -> None:
    first, *_ = list_runs(Home(neighbour))[0]
    (ANYWHERE | RESULTS)[what](first.path / "result.json")
    expect_passed_over(shell, "runs", first.name)
    shell("fit", "centroid", list_stores(Home(neighbour))[0][0].name)
    assert len(shell.json("runs", "ls")) == 2


def test_a_number_that_nobody_counted_to_makes_nothing_the_latest(neighbour: Path, shell: Shell) -> None:
    older = list_runs(Home(neighbour))[0][1]
    changed(lambda record: record.update(sequence=10**300, files={}))(older.path / "result.json")
    store = list_stores(Home(neighbour))[0][1]
    unsealed(lambda record: record.update(sequence=10**300))(store.path / "index" / "CURRENT.json")
    made = shell.json("fit", "centroid")
    assert made["store"] != store.name
    assert shell.json("runs", "ls")[0]["run"] == made["run"]
    shell("extract", "--backbone", "pixels", "--size", 6, PHOTOS)
    assert shell.json("stores", "ls")[0]["size"] == 6


CELL = CellResult("lr=1", 0, None, 0.5, 0.5, 1, 1, None, 10, 0.5, {"loss": [1.0, None]})


@pytest.mark.parametrize("what", ANYWHERE)
def test_a_damaged_cell_of_a_sweep_is_trained_again(what: str, tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    write_cell(path, CELL)
    assert read_cell(path) == CELL
    if what != "digits":
        ANYWHERE[what](path)
        assert read_cell(path) is None
        write_cell(path, CELL)
        assert read_cell(path) == CELL


def test_a_cell_that_the_disk_does_not_give_now_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    write_cell(tmp_path / "cell.json", CELL)
    monkeypatch.setattr("probe.studies.sweep.read_json", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_cell(tmp_path / "cell.json")


@pytest.mark.parametrize("what", [what for what in ANYWHERE if what != "digits"])
def test_a_damaged_memory_of_hashes_is_made_again(what: str, neighbour: Path, shell: Shell) -> None:
    (memory,) = (neighbour / "cache" / "index").glob("*.npz")
    ANYWHERE[what](memory)
    assert shell.json("extract", "--backbone", "pixels", "--size", 4, PHOTOS)["reused"]
    assert memory.stat().st_size > 100


EXTRACT = ("extract", "--backbone", "pixels", "--size", 4, PHOTOS)


def led_away(path: Path, outside: Path) -> dict[Path, bytes]:
    """Put a link in the place of a file or folder, and tell what lies where it leads to."""
    shutil.move(path, outside)
    path.symlink_to(outside)
    return contents(outside)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in [folder, *folder.rglob("*")] if path.is_file()}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("stores", EXTRACT),
        ("cache", EXTRACT),
        ("cache/index", EXTRACT),
        ("runs", ("fit", "centroid")),
    ],
)
def test_nothing_of_a_home_is_written_through_a_link(
    part: str, words: tuple[object, ...], neighbour: Path, shell: Shell, tmp_path: Path
) -> None:
    (neighbour / part).mkdir(exist_ok=True)
    before = led_away(neighbour / part, tmp_path / "outside")
    shell(*words, code=1)
    assert f"{neighbour / part} is a link" in shell.error
    assert contents(tmp_path / "outside") == before


def test_a_home_may_be_a_link_or_lie_behind_one(neighbour: Path, shell: Shell, tmp_path: Path) -> None:
    led_away(neighbour, tmp_path / "outside")
    assert shell.json(*EXTRACT)["reused"]
    shell("fit", "centroid")
    (tmp_path / "behind").symlink_to(tmp_path)
    shell.home = tmp_path / "behind" / "outside"
    assert len(shell.json("runs", "ls")) == 3


def test_nor_are_cells_of_a_sweep(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.sweeps.mkdir(parents=True)
    led_away(home.sweeps, tmp_path / "outside")
    with pytest.raises(LinkError):
        _ = home.sweeps
    (tmp_path / "outside/cells").symlink_to(tmp_path / "home")
    with pytest.raises(LinkError):
        run_sweep(
            [], lambda _: pytest.fail("nothing is to be trained"), tmp_path / "outside", data_identity=str
        )


@pytest.mark.parametrize("kind", ["stores", "runs"])
def test_a_store_or_run_that_is_a_link_is_told_and_passed_over(
    kind: str, neighbour: Path, shell: Shell, tmp_path: Path
) -> None:
    home = Home(neighbour)
    path = list_stores(home)[0][0].path if kind == "stores" else list_runs(home)[0][0].path
    before = led_away(path, tmp_path / path.name)
    expect_passed_over(shell, kind, path.name)
    shell(kind, "show", path.name, code=1)
    assert "a link" in shell.error
    writing = [
        ("fit", "centroid", path.name),
        ("stores", "repair", path.name),
        ("extract", "--backbone", "pixels", "--size", 5, PHOTOS),
    ]
    for words in (
        writing
        if kind == "stores"
        else [("runs", "name", path.name, "mine"), ("runs", "note", path.name, "x")]
    ):
        shell(*words, code=1)
        assert "a link" in shell.error
    assert contents(tmp_path / path.name) == before
    # Named by its own path it is what it is.
    shell(kind, "show", tmp_path / path.name)


@pytest.mark.parametrize("name", ["result.json", "predictions.npz", "head.json", "head.npz"])
def test_a_file_of_a_run_is_not_read_through_a_link(
    name: str, neighbour: Path, shell: Shell, tmp_path: Path
) -> None:
    first, second = list_runs(Home(neighbour))[0]
    led_away(first.path / name, tmp_path / name)
    words = ("compare", first.name, second.name) if name[0] in "rp" else ("predict", first.name, PHOTOS)
    shell(*words, code=1)
    assert name in shell.error
    assert "a link" in shell.error


def test_a_name_is_neither_read_nor_written_through_a_link(
    neighbour: Path, shell: Shell, tmp_path: Path
) -> None:
    first = list_runs(Home(neighbour))[0][0]
    shell("runs", "name", first.name, "mine")
    before = led_away(first.path / "naming.json", tmp_path / "naming.json")
    shell("runs", "show", "mine", code=2)
    shell("runs", "name", first.name, "other")
    assert contents(tmp_path / "naming.json") == before
    assert not (first.path / "naming.json").is_symlink()


def test_the_sign_of_a_home_is_not_made_through_a_link(shell: Shell, tmp_path: Path) -> None:
    shell.home.mkdir(exist_ok=True)
    (shell.home / ".probe-home").symlink_to(tmp_path / "outside")
    shell(*EXTRACT)
    assert not (tmp_path / "outside").exists()


def test_two_names_given_at_once_are_given_one_after_the_other(neighbour: Path) -> None:
    home = Home(neighbour)
    first, second = list_runs(home)[0]
    assert first.naming == second.naming
    with ThreadPoolExecutor(1) as other, one_at_a_time(home.runs):
        late = other.submit(name_run, home, second, name="mine")
        write_naming(first.path, Naming("mine"), first.name)
        write_naming(second.path, Naming(note="kept"), second.name)
    with pytest.raises(UsageError, match="another run is called mine"):
        late.result()
    assert name_run(home, second, name="other").naming == Naming("other", "kept")
