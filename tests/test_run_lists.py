"""Runs in order, by condition and in other forms; their names and notes; and what fits a terminal."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import subprocess
import sys

import pytest

from probe import Workspace
from tests.shell import PROJECT, Shell

SAMPLE = "fashion-sample"
HEADS = ("majority", "ridge", "centroid")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    space = Workspace(tmp_path_factory.mktemp("runs") / "home", quiet=True)
    store = space.extract(SAMPLE, backbone="pixels", size=8, limit=300)
    for head in HEADS:
        space.fit(head, store)
    return space


@pytest.fixture
def runs(space: Workspace, shell: Shell) -> Shell:
    shell.home = space.home
    return shell


def test_runs_in_the_order_of_a_field(runs: Shell) -> None:
    accuracies = [row["accuracy"] for row in runs.json("runs", "ls", "--sort", "accuracy")]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [row["head"] for row in runs.json("runs", "ls", "--sort", "head")] == sorted(HEADS)
    assert [row["head"] for row in runs.json("runs", "ls")] == [*reversed(HEADS)]
    runs("runs", "ls", "--sort", "acuracy", code=2)
    assert "did you mean 'accuracy'" in runs.error


def test_runs_of_which_something_holds(runs: Shell) -> None:
    (row,) = runs.json("runs", "ls", "--where", "head=ridge")
    assert row["head"] == "ridge"
    assert runs.json("runs", "ls", "--where", "head=ridge", "--where", "backbone=vgg16") == []
    assert len(runs.json("runs", "ls", "--where", f"n={row['n']}")) == 3
    assert runs.json("runs", "ls", "--where", "n=many") == []
    runs("runs", "ls", "--where", "head", code=2)
    assert "FIELD=VALUE" in runs.error
    runs("runs", "ls", "--where", "haed=ridge", code=2)
    assert "did you mean 'head'" in runs.error


def test_the_list_in_other_forms(runs: Shell) -> None:
    found = list(csv.DictReader(io.StringIO(runs("runs", "ls", "--csv", "--sort", "accuracy"))))
    assert [row["head"] for row in found] == ["ridge", "centroid", "majority"]
    assert float(found[0]["accuracy"]) > float(found[1]["accuracy"])
    assert runs("runs", "ls", "--markdown").splitlines()[1] == "|" + "---|" * 6
    assert r"\begin{tabular}" in runs("runs", "ls", "--latex", "--where", "head=ridge")
    runs("runs", "ls", "--csv", "--json", code=2)
    assert "exclude each other" in runs.error


def test_a_run_has_a_name_and_a_note(runs: Shell, space: Workspace) -> None:
    told = runs("fit", "centroid", SAMPLE, "--name", "better-one", "--note", "of the <first> day")
    assert "name      better-one" in told
    assert "said      of the <first> day" in told
    assert runs.json("runs", "show", "better-one")["head"] == "centroid"
    (row,) = runs.json("runs", "ls", "--where", "name=better-one")
    assert row["note"] == "of the <first> day"
    assert "&lt;first&gt;" in space.runs["better-one"]._repr_html_()
    assert "better-one" in runs("runs", "ls")
    before = space.runs["better-one"].result

    runs("runs", "name", "better-one", "final")
    runs("runs", "note", "final", "")
    renamed = space.runs["final"]
    assert renamed.result == before, "what was measured is as it was"
    assert (renamed.naming.name, renamed.naming.note) == ("final", None)
    ridge = runs.json("runs", "ls", "--where", "head=ridge")[0]["run"]
    for name, said in (
        ("final", "another run is called"),
        ("latest:2", "cannot be called"),
        ("a/b", "letters"),
    ):
        runs("runs", "name", ridge, name, code=2)
        assert said in runs.error
    runs("fit", "majority", SAMPLE, "--name", "final", code=2)
    assert len(space.runs) == 4, "a name that is taken costs no fit"
    runs("runs", "name", "final", "")
    assert "final" not in runs("runs", "ls")
    (renamed.path / "naming.json").write_text("{")
    assert len(runs.json("runs", "ls")) == 4


def test_the_summary_of_a_fit_fits_eighty_columns(runs: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = runs("fit", "logreg", SAMPLE, "--c", "0.001,0.1", "--shots", "1,2", "--repeats", 2)
    assert "note" in told
    assert max(len(line) for line in told.splitlines() if not line.startswith("in  ")) <= 80


@pytest.mark.parametrize("colours", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_no_colours(space: Workspace, colours: dict[str, str]) -> None:
    """None are ever written, so that there is nothing for NO_COLOR to take away."""
    ours, theirs = pty.openpty()
    words = [
        "survey",
        SAMPLE,
        "--limit",
        "200",
        "--size",
        "4",
        "--backbones",
        "pixels",
        "--heads",
        "majority",
    ]
    done = subprocess.Popen(
        [sys.executable, "-m", "probe", *words],
        env={**os.environ, **colours, "PROBE_HOME": str(space.home), "PYTHONPATH": str(PROJECT)},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 4096):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    assert done.wait() == 0, written
    assert b"majority" in written
    assert not re.search(rb"\x1b\[[0-9;]*m", written)
