"""The newest run and store are those finished last, whatever clocks and names say."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.config import Home
from probe.errors import ProbeError, UnknownNameError
from probe.order import natural
from probe.runs import Predictions, Record, Run, find_run, list_runs, remove_run, write_run
from probe.runs.record import FitFacts
from probe.store import find_store, list_stores
from tests.shell import PHOTOS, Shell


def keep(home: Home, label: str = "logreg-x") -> Run:
    nothing = Predictions(np.array([], "<U1"), np.array([], np.int32), np.empty((0, 2), np.float32))
    record = Record(kind="fit", head="logreg", classes=("a", "b"), facts=FitFacts(output=("x",)))
    return write_run(home, label, record, nothing, lambda folder: None)


def set_clock(monkeypatch: pytest.MonkeyPatch, where: str, now: datetime) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now

    monkeypatch.setattr(where, Clock)


def without_numbers(home: Home) -> None:
    """Make the runs as they were before they had a number."""
    for run in list_runs(home)[0]:
        record = dict(run.result)
        del record["sequence"], record["files"]
        (run.path / "result.json").write_text(json.dumps(record))


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_of_eleven_runs_in_one_second_the_latest_is_the_eleventh(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, "probe.runs.run.datetime", NOON)
    kept = [keep(home).name for _ in range(11)]
    assert find_run(home, "latest").name == kept[10]
    assert find_run(home, "latest:2").name == kept[9]
    assert find_run(home, "latest:11").name == kept[0]
    assert [run.name for run in list_runs(home)[0]] == kept[::-1]


def test_a_clock_set_back_does_not_change_the_latest(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "probe.runs.run.datetime", NOON)
    keep(home)
    set_clock(monkeypatch, "probe.runs.run.datetime", NOON - timedelta(days=1))
    last = keep(home)
    assert find_run(home, None).name == last.name


def test_runs_from_before_numbers_come_first_in_the_order_of_time_and_name(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, "probe.runs.run.datetime", NOON)
    old = [keep(home).name for _ in range(11)]
    without_numbers(home)
    assert find_run(home, "latest").name == old[10]
    set_clock(monkeypatch, "probe.runs.run.datetime", NOON - timedelta(days=400))
    new = keep(home)
    assert [run.name for run in list_runs(home)[0]] == [new.name, *old[::-1]]


def test_a_copied_home_keeps_its_order_and_goes_on(home: Home, tmp_path: Path) -> None:
    kept = [keep(home, label).name for label in ("z", "y", "x")]
    copy = Home(tmp_path / "copy")
    shutil.copytree(home.root, copy.root, copy_function=shutil.copyfile)
    assert [run.name for run in list_runs(copy)[0]] == kept[::-1]
    assert find_run(copy, "latest").name == kept[2]
    fresh = keep(copy, "a")
    assert find_run(copy, "latest").name == fresh.name


def test_a_run_that_was_copied_in_counts_by_its_number(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    for _ in range(5):
        copied = keep(other, "other")
    keep(home)
    shutil.copytree(copied.path, home.runs / copied.name)
    assert find_run(home, "latest").name == copied.name
    last = keep(home)
    assert find_run(home, "latest").name == last.name


def test_after_the_newest_is_removed_the_next_is_the_latest(home: Home) -> None:
    first, second = keep(home, "b"), keep(home, "a")
    remove_run(home, second.name)
    assert find_run(home, "latest").name == first.name
    third = keep(home, "0")
    assert find_run(home, "latest").name == third.name


def _keep_some(root: Path) -> None:
    for _ in range(6):
        keep(Home(root))


def test_processes_that_finish_together_never_share_a_number(home: Home) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_keep_some, args=(home.root,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    runs, problems = list_runs(home)
    assert not problems
    assert sorted(run.result["sequence"] for run in runs) == list(range(1, 25))


@pytest.mark.parametrize("number", [None, True, "7", -1.5, [1]])
def test_a_number_that_is_none_counts_as_missing(home: Home, number: object) -> None:
    strange = keep(home, "z")
    record = dict(strange.result) | {"sequence": number, "created": number, "files": {}}
    (strange.path / "result.json").write_text(json.dumps(record))
    last = keep(home, "a")
    assert [run.name for run in list_runs(home)[0]] == [last.name, strange.name]


def test_the_latest_passes_over_what_cannot_be_read(home: Home) -> None:
    good, bad = keep(home, "a"), keep(home, "b")
    (bad.path / "result.json").write_text("{")
    assert find_run(home, "latest").name == good.name
    with pytest.raises(UnknownNameError, match="has no 2 runs"):
        find_run(home, "latest:2")


def test_an_empty_name_is_no_run(home: Home) -> None:
    keep(home)
    with pytest.raises(UnknownNameError):
        find_run(home, "")


def test_runs_that_share_a_part_of_their_name_are_listed_with_their_differences(shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", "4", PHOTOS)
    shell("fit", "majority")
    shell("fit", "centroid")
    shell("runs", "show", "photos-pixels", code=2)
    assert "head majority" in shell.error
    assert "head centroid" in shell.error
    assert "data set" not in shell.error  # the same in both


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["a", "a-2", "a-9", "a-10", "a-11", "b"]
    assert sorted(["b", "a-11", "a-10", "a-9", "a-2", "a"], key=natural) == names


def sizes(shell: Shell, *wanted: int) -> list[str]:
    extract = ("extract", "--backbone", "pixels", PHOTOS, "--size")
    return [shell.json(*extract, size)["store"] for size in wanted]


def test_the_latest_store_is_the_one_last_finished_or_reused_whatever_the_clock_says(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sizes(shell, 4, 5)
    set_clock(monkeypatch, "probe.store.catalog.datetime", NOON - timedelta(days=4000))
    third, again = sizes(shell, 6, 4)
    assert again == first
    assert [row["store"] for row in shell.json("stores", "ls")] == [first, third, second]
    for name, expected in (("latest", first), ("latest:1", first), ("latest:2", third), ("latest:3", second)):
        assert shell.json("stores", "show", name)["store"] == expected
    shell("stores", "show", "latest:4", code=2)
    assert "3" in shell.error


def test_stores_from_before_numbers_come_before_those_with_one(shell: Shell) -> None:
    names = sizes(shell, 4, 5, 6)
    home = Home(shell.home)
    for name, used in zip(names, ("2030-01-01", "2031-01-01", "2029-01-01"), strict=True):
        current = home.stores / name / "index" / "CURRENT.json"
        record = json.loads(current.read_text())
        current.write_text(json.dumps({"index": record["index"], "used": used}))
    assert [store.name for store in list_stores(home)[0]] == [names[1], names[0], names[2]]
    sizes(shell, 6)
    assert find_store(home, "latest").name == names[2]


def test_latest_names_a_store_in_every_command_that_takes_one(shell: Shell, tmp_path: Path) -> None:
    first, second = sizes(shell, 4, 5)
    assert shell.json("fit", "centroid", "latest:2")["store"] == first
    assert shell.json("stores", "verify", "latest")["ok"]
    shell("stores", "export", "latest:2", "--output-file", tmp_path / "x.npz")
    assert np.load(tmp_path / "x.npz")["features"].shape[1] == 3 * 4 * 4
    shell("stores", "rm", "latest", "--yes")
    assert [row["store"] for row in shell.json("stores", "ls")] == [first]
    assert second in shell.error or not (shell.home / "stores" / second).exists()
    shell("fit", "majority")
    newest = shell.json("runs", "ls")[0]["run"]
    shell("runs", "rm", "latest", "--yes")
    assert newest not in [row["run"] for row in shell.json("runs", "ls")]


def test_a_part_of_a_name_is_not_enough_to_delete_by(shell: Shell) -> None:
    (name,) = sizes(shell, 4)
    shell("stores", "rm", "photos", "--yes", code=2)
    assert (shell.home / "stores" / name).is_dir()
    with pytest.raises(ProbeError):
        remove_run(Home(shell.home), "")
