"""Files of two neighbours of one shape, exchanged by a restore that went wrong, or with one value changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probe import audit as audits
from probe.config import Home
from probe.errors import DataError, ProbeError, StoreError
from probe.runs import list_runs
from probe.store import list_stores, open_store
from probe.studies.sweep import CellResult, read_cell, write_cell
from probe.studies.sweep_job import sweep_cells
from tests.shell import PHOTOS, Shell

CURRENT = "index/CURRENT.json"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two stores of the same pictures, and a run that has a name of each."""
    folder = tmp_path_factory.mktemp("exchanged") / "home"
    with pytest.MonkeyPatch.context():
        from probe.cli import cli

        for size in ("4", "5"):
            for line in (
                ("extract", "--backbone", "pixels", "--size", size, "--quiet", str(PHOTOS)),
                ("fit", "centroid", "--quiet", "--name", f"size-{size}"),
            ):
                cli.main(["--home", str(folder), *line], standalone_mode=False)
    return folder


@pytest.fixture
def home(kept: Path, tmp_path: Path) -> Home:
    shutil.copytree(kept, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def shell(home: Home, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(home.root, capsys)


def exchange(one: Path, other: Path) -> None:
    mine, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(mine)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def age(path: Path, *fields: str) -> None:
    """Make a record as it was before it said whose it is."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key not in fields}))


def test_what_two_stores_say_of_their_use_is_noticed_when_exchanged(home: Home, shell: Shell) -> None:
    first, second = (store.path for store in list_stores(home)[0])
    exchange(first / CURRENT, second / CURRENT)
    assert list_stores(home)[0] == []
    shell("stores", "show", first.name, code=1)
    assert "another store" in shell.error
    for name in (first.name, second.name):
        assert CURRENT in shell("stores", "repair", name)
    assert {store.name for store in list_stores(home)[0]} == {first.name, second.name}


def test_so_is_a_number_that_would_make_another_store_the_newest(home: Home, shell: Shell) -> None:
    newest, older = (store.path for store in list_stores(home)[0])
    change(older / CURRENT, sequence=99)
    with pytest.raises(StoreError, match="is damaged"):
        open_store(older)
    shell("extract", "--backbone", "pixels", "--size", "4", PHOTOS)
    assert [store.name for store in list_stores(home)[0]] == [older.name, newest.name]


def test_a_record_of_a_version_that_did_not_say_whose_it_is_still_holds(home: Home, shell: Shell) -> None:
    before = [store.name for store in list_stores(home)[0]]
    for name in before:
        age(home.stores / name / CURRENT, "store", "sha256")
    assert [store.name for store in list_stores(home)[0]] == before
    assert "reused" in shell("extract", "--backbone", "pixels", "--size", "4", PHOTOS) + shell.error
    assert "store" in json.loads((home.stores / before[1] / CURRENT).read_text())


@pytest.mark.parametrize("how", [exchange, lambda one, other: change(one, name="best")])
def test_the_name_of_another_run_is_no_name(
    how: Callable[[Path, Path], None], home: Home, shell: Shell
) -> None:
    runs = [run.path for run in list_runs(home)[0]]
    how(runs[0] / "naming.json", runs[1] / "naming.json")
    told = shell("runs", "ls", "--json")
    assert runs[0].name in shell.error
    assert json.loads(told)[0]["name"] is None
    shell("runs", "name", runs[0].name, "anew")
    assert shell.json("runs", "show", "anew")["run"] == runs[0].name
    age(runs[0] / "naming.json", "run", "sha256")
    assert shell.json("runs", "show", "anew")["run"] == runs[0].name


def test_the_audit_of_another_store_is_none(home: Home, shell: Shell) -> None:
    first, second = list_stores(home)[0]
    for store in (first, second):
        shell("audit", store.name, "--quiet")
    assert audits.read(first) is not None
    places = [store.path.with_name(f"{store.name}.audit.json") for store in (first, second)]
    kept = places[1].read_text()
    change(places[1], seconds=1e9)
    with pytest.raises(StoreError, match="record of an audit"):
        audits.read(second)
    places[1].write_text(kept)
    exchange(*places)
    for store in (first, second):
        with pytest.raises(StoreError, match="record of an audit"):
            audits.read(store)


CELL = CellResult("lr=1", 0, None, 0.5, 0.5, 1, 1, None, 10, 0.5, {"loss": [1.0, None]})


def test_a_cell_of_a_sweep_in_the_place_of_another_is_trained_again(tmp_path: Path) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    write_cell(one, CELL)
    write_cell(other, replace(CELL, setting="lr=2"))
    exchange(one, other)
    assert (read_cell(one), read_cell(other)) == (None, None)
    exchange(one, other)
    change(one, val_accuracy=0.9)
    assert read_cell(one) is None
    age(other, "cell", "sha256")
    assert read_cell(other) == replace(CELL, setting="lr=2")


def test_the_record_of_another_sweep_is_not_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "exp0-data-0123456789ab"
    folder.mkdir()
    record: dict[str, Any] = {"dataset": "data", "cells": [], "key": "0123456789ab" + 52 * "0"}
    (folder / "sweep.json").write_text(json.dumps(record))
    assert sweep_cells(folder) == ("data", [])
    folder.rename(tmp_path / "exp0-data-ffffffffffff")
    with pytest.raises(DataError, match="another sweep"):
        sweep_cells(tmp_path / "exp0-data-ffffffffffff")
    change(tmp_path / "exp0-data-ffffffffffff" / "sweep.json", key="f" * 64, sha256="0" * 64)
    with pytest.raises(ProbeError, match="was changed"):
        sweep_cells(tmp_path / "exp0-data-ffffffffffff")
