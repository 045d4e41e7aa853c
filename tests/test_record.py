"""A result as a typed record: every form of ``result.json`` there ever was is read, and damage is told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.config import Home
from probe.errors import RunError, UnknownNameError
from probe.runs import Predictions, Record, Run, find_run, list_runs, open_run, write_run
from probe.runs.predictions import read_predictions, write_predictions
from probe.runs.record import FitFacts, Scores, TrainFacts, TuneFacts
from probe.table import Table
from tests.shell import Shell, unwrapped

WRITTEN = Path(__file__).parent / "results"
"""``result.json`` of every kind, as they were written before a record had a type."""

GOLDEN = sorted(path.stem for path in WRITTEN.glob("*.json"))

Value = dict[str, Any]


def written(name: str) -> Value:
    found: Value = json.loads((WRITTEN / f"{name}.json").read_text())
    return found


def put(home: Home, name: str, value: object) -> Path:
    folder = home.runs / name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def without(value: Value, *names: str) -> Value:
    return {name: found for name, found in value.items() if name not in names}


def first_fit(value: Value) -> Value:
    """A fit as the first version wrote it."""
    later = ("sequence", "views", "average_views", "seeds", "curve", "origin", "pixels", "weights_path")
    analysis = ("per_class", "most_confused", "confident_mistakes", "reliability", "calibration")
    counts = ("duplicates", "label_conflicts", "parted_groups", "dropped_classes")
    old = without(value, *later, *analysis, *counts, "files")
    old["test"] = without(old["test"], "groups", "interval")
    old["val"] = without(old["val"], "groups", "interval", "fitted_on", "used_for")
    return old | {"output": old["output"][0]}


def first_tuning(value: Value) -> Value:
    old = without(value, "sequence", "start", "identity", "files")
    frozen = {"name": "the frozen probe", "n": 30, "difference": 0.1}
    return without(old, "frozen_probe") | {"comparison": frozen, "finished": "2025-01-01T00:00:00+00:00"}


def first_training(value: Value) -> Value:
    return without(value, "sequence", "pixels", "files")


OLDER: dict[str, tuple[str, Callable[[Value], Value]]] = {
    "fit": ("fit-logreg", first_fit),
    "finetune": ("finetune", first_tuning),
    "baseline": ("baseline", first_training),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_record_writes_what_it_has_read(name: str) -> None:
    value = written(name)
    record = Record.from_json(value)
    assert record.to_json() == value
    assert json.loads(json.dumps(record.to_json())) == value


@pytest.mark.parametrize("name", GOLDEN)
def test_every_run_is_shown_and_listed(name: str, shell: Shell) -> None:
    value = written(name)
    put(Home(shell.home), "one", value)
    said = shell("runs", "show")
    assert f"accuracy {value['test']['accuracy']:.4f}" in said
    assert f"head      {value['head']}" in said
    told = unwrapped(said.splitlines())
    assert all(f"note      {line}" in told for line in value["notes"])
    assert shell.json("runs", "show") == value
    (row,) = shell.json("runs", "ls")
    assert row["accuracy"] == value["test"]["accuracy"]
    assert row["backbone"] == value.get("backbone", {}).get("name")


@pytest.mark.parametrize("kind", OLDER)
def test_the_first_form_of_every_kind_is_read_and_shown_as_it_is(kind: str, shell: Shell) -> None:
    name, aged = OLDER[kind]
    value = aged(written(name))
    put(Home(shell.home), "old", value)
    run = find_run(Home(shell.home), "latest")
    assert run.test is not None
    assert run.test.interval == (value["test"]["accuracy_low"], value["test"]["accuracy_high"])
    assert f"accuracy {run.test.accuracy:.4f}" in shell("runs", "show")
    assert shell.json("runs", "show") == value


def test_each_kind_says_its_own() -> None:
    fitted = Record.from_json(first_fit(written("fit-knn"))).facts
    assert isinstance(fitted, FitFacts)
    assert fitted.output == ("pixels",)
    tuned = Record.from_json(written("finetune")).facts
    assert isinstance(tuned, TuneFacts)
    assert tuned.network.features == "add3"
    trained = Record.from_json(written("baseline")).facts
    assert isinstance(trained, TrainFacts)
    assert (trained.epochs.scored, trained.published[0].accuracy) == (1, 0.6058)


def test_a_kind_that_is_not_known_is_shown_with_what_all_kinds_say(shell: Shell) -> None:
    put(Home(shell.home), "new", written("fit-knn") | {"kind": "of another version", "more": {"x": 1}})
    assert "accuracy 0.5000" in shell("runs", "show")
    assert shell.json("runs", "show")["more"] == {"x": 1}


def changed(*path: str | int, to: object) -> Value:
    """The golden fit with one value replaced; ``...`` takes it away."""
    value = written("fit-logreg")
    place: Any = value
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return value


DEEP = "[" * 100_000 + "]" * 100_000
DAMAGED = {
    "classes are missing": (changed("classes", to=...), "'classes'"),
    "classes are a number": (changed("classes", to=3), "classes"),
    "a class is a number": (changed("classes", to=["a", 1]), "classes[1]"),
    "accuracy is text": (changed("test", "accuracy", to="x"), "test.accuracy"),
    "accuracy is missing": (changed("test", "accuracy", to=...), "'accuracy'"),
    "test is text": (changed("test", to="good"), "test"),
    "recall is a list": (changed("per_class", 1, "recall", to=[]), "per_class[1].recall"),
    "a note is an object": (changed("notes", to=[{}]), "notes[0]"),
    "backbone is text": (changed("backbone", to="pixels"), "backbone"),
    "backbone without a name": (changed("backbone", to={}), "backbone.name"),
    "parts count in words": (changed("parts", "train", to="seven"), "parts.train"),
    "a number too large": (
        json.dumps(written("fit-logreg")).replace('"seconds": ', '"seconds": 1e400, "x": '),
        "1e400",
    ),
    "a number of no size": (
        json.dumps(written("fit-logreg")).replace('"seconds": ', '"seconds": NaN, "x": '),
        "NaN",
    ),
    "a number of 400 digits": (changed("test", "accuracy", to=10**400), "test.accuracy"),
    "lists in lists": (DEEP, "nested too deeply"),
    "lists in lists in a field": ('{"schema": 1, "notes": ' + DEEP + "}", "nested too deeply"),
    "a list": ("[]", ""),
    "nothing": ("", ""),
    "half": (json.dumps(written("fit-logreg"))[:500], ""),
    "no text": ("\x00\x01", ""),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_an_error_that_names_file_and_value(what: str, shell: Shell) -> None:
    value, named = DAMAGED[what]
    folder = put(Home(shell.home), "bad", value)
    shell("runs", "show", "bad", code=1)
    assert f"{folder / 'result.json'} is damaged" in shell.error
    assert named in shell.error
    with pytest.raises(RunError):
        open_run(folder)


def test_damaged_runs_are_listed_with_their_reason_and_passed_over(shell: Shell) -> None:
    home = Home(shell.home)
    for number, (value, _) in enumerate(DAMAGED.values()):
        put(home, f"bad{number}", value)
    (home.runs / "folder" / "result.json").mkdir(parents=True)
    (home.runs / "empty").mkdir()
    good = put(home, "good", written("fit-logreg"))
    assert [row["run"] for row in shell.json("runs", "ls")] == ["good"]
    assert sum(" is damaged" in line for line in shell.error.splitlines()) == len([*DAMAGED, "folder"])
    assert "folder: " in shell.error
    assert find_run(home, "latest").path == good
    assert "accuracy" in shell("runs", "show", "latest")
    shell("runs", "show", "bad", code=2)
    assert "state cannot be read" not in shell.error  # the same of all of them
    assert len(list_runs(home)[1]) == len(DAMAGED) + 2


def test_a_run_is_written_with_name_number_time_versions_and_hashes(home: Home) -> None:
    run = kept(home)
    assert run.record.run == run.name
    assert run.record.sequence == 1
    assert set(run.record.files or {}) == {"predictions.npz", "result.json"}
    assert {"probe", "python", "numpy"} <= set(run.record.versions)
    assert Record.from_json(run.result) == run.record


CLASSES = ("=ant", "<bee>", "cat")


def kept(home: Home, record: Record | None = None, columns: int = 3) -> Run:
    labels = np.array([0, 0, 1, 2], np.int32)
    probabilities = np.eye(columns, dtype=np.float32)[[0, 1, 1, 2]]
    found = Predictions(np.array(["a", "b", "c", "d"]), labels, probabilities)
    scores = Scores(4, 0.75, 0.3, 0.95, 1.0, 0.8, 0.7, 0.5, 0.1, None)
    plain = Record(kind="fit", head="knn", classes=CLASSES, test=scores, facts=FitFacts(output=("pixels",)))
    return write_run(home, "x", record or plain, found, lambda folder: None)


def test_figures_are_attributes(home: Home) -> None:
    run = kept(home)
    assert run.test is not None
    assert (run.test.accuracy, run.test.interval, run.val) == (0.75, (0.3, 0.95), None)
    assert run.result["test"]["interval"] == "Wilson"


def test_tables_are_rows_with_columns(home: Home, tmp_path: Path) -> None:
    table = kept(home).table("per_class")
    assert [row["class"] for row in table] == list(CLASSES)
    assert table.column("recall") == [0.5, 1.0, 1.0]
    assert table.columns[:3] == ("class", "label", "n")
    assert len(table[1:]) == 2
    assert "recall" in repr(table)
    shown = table._repr_html_()
    assert "&lt;bee&gt;" in shown
    assert "<bee>" not in shown
    text = table.to_csv(tmp_path / "classes.csv")
    assert (tmp_path / "classes.csv").read_text() == text
    assert [row["class"] for row in csv.DictReader(text.splitlines())] == ["'=ant", "<bee>", "cat"]
    frame = table.to_pandas()
    assert list(frame.columns) == list(table.columns)
    assert frame["recall"].tolist() == [0.5, 1.0, 1.0]


def test_every_table_of_every_kind_can_be_asked_for(home: Home) -> None:
    fitted = open_run(put(home, "fitted", written("fit-logreg")))
    assert fitted.table("curve").column("size") == ["shots 1", "all"]
    assert fitted.table("path")[0]["c"] == 1e-06
    assert fitted.table("most_confused")[0]["called"] == "things"
    assert list(fitted.table("history")) == []
    assert list(fitted.table("dropped_classes")) == []
    trained = open_run(put(home, "trained", written("baseline")))
    assert trained.table("history").column("epoch") == [1, 2, 3]
    assert trained.table("history")[1]["val_accuracy"] == pytest.approx(0.15)
    assert list(trained.table("curve")) == []
    with pytest.raises(UnknownNameError, match="no table of a run called 'perclass'"):
        fitted.table("perclass")


def test_a_table_without_rows_still_shows(home: Home) -> None:
    assert repr(Table([])) == ""
    assert "<table>" in Table([], ["a"])._repr_html_()
    assert Table([{"a": n} for n in range(100)])._repr_html_().count("<tr>") == 61


def test_predictions_of_other_classes_are_not_of_this_run(home: Home) -> None:
    run = kept(home, columns=4)
    with pytest.raises(RunError, match=r"predictions.npz is not of this run"):
        _ = run.predictions


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_damaged_predictions_are_an_error_that_names_them(content: bytes, shell: Shell) -> None:
    run = kept(Home(shell.home))
    (run.path / "predictions.npz").write_bytes(content)
    assert "predictions.npz cannot be read" in shell("runs", "show")
    other = kept(Home(shell.home))
    shell("compare", run.name, other.name, code=1)
    assert "predictions.npz cannot be read" in shell.error


def exchange(one: Path, other: Path) -> None:
    mine = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def test_predictions_of_another_run_are_refused(shell: Shell) -> None:
    one, other = kept(Home(shell.home)), kept(Home(shell.home), columns=3)
    content = read_predictions(other.path)
    write_predictions(replace(content, labels=content.labels[::-1].copy()), other.path)
    exchange(one.path / "predictions.npz", other.path / "predictions.npz")
    shell("compare", one.name, other.name, code=1)
    assert "predictions.npz was changed" in shell.error


def test_a_run_that_is_a_link_is_removed_and_what_it_leads_to_stays(shell: Shell, tmp_path: Path) -> None:
    run = kept(Home(shell.home))
    run.path.rename(tmp_path / run.name)
    run.path.symlink_to(tmp_path / run.name)
    shell("runs", "rm", run.name, "--yes")
    assert not list(run.path.parent.iterdir())
    assert (tmp_path / run.name / "result.json").is_file()


def test_a_number_that_no_array_takes_is_damage(shell: Shell) -> None:
    run = kept(Home(shell.home))
    result = json.loads((run.path / "result.json").read_text())
    del result["files"]["result.json"]
    result["test"]["n"] = 10**400
    (run.path / "result.json").write_text(json.dumps(result))
    shell("runs", "show", run.name, code=1)
    assert "test.n" in shell.error
    assert "internal" not in shell.error


def test_a_result_that_was_changed_or_is_that_of_another_run_is_told(shell: Shell) -> None:
    one, other = kept(Home(shell.home)), kept(Home(shell.home))
    exchange(one.path / "result.json", other.path / "result.json")
    assert shell.json("runs", "ls") == []
    assert shell.error.count("is that of another run") == 2
    shell("runs", "show", one.name, code=1)
    exchange(one.path / "result.json", other.path / "result.json")
    file = one.path / "result.json"
    file.write_text(file.read_text().replace('"accuracy": 0.75', '"accuracy": 0.85'))
    assert len(shell.json("runs", "ls")) == 1
    assert "result.json was changed" in shell.error


def test_a_diverged_head_has_no_figure_in_its_history(home: Home) -> None:
    from probe.runs.tables import write_history

    run = kept(home)
    write_history([[{"loss": 1.5}, {"loss": float("nan")}], [{"loss": float("inf")}]], run.path)
    assert "NaN" not in (run.path / "history.json").read_text()
    table = run.table("history")
    assert [(row["seed"], row["epoch"], row["loss"]) for row in table] == [
        (0, 1, 1.5),
        (0, 2, None),
        (1, 1, None),
    ]
    # Older versions wrote what JSON has no word for.
    (run.path / "history.json").write_text('[[{"loss": NaN}, {"loss": 2.0}]]')
    assert run.table("history").column("loss") == [None, 2.0]
    (run.path / "history.json").write_text('[{"loss": "x"}]')
    with pytest.raises(RunError, match=r"history.json is damaged"):
        run.table("history")
