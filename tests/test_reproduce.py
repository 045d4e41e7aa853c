"""Experiments in processes of their own: bounded, resumed, ended with the one that started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from probe.children import ChildError, Children
from probe.config import Home
from probe.report import reproduction
from probe.runs import list_runs
from probe.studies.baselines import BASELINES
from probe.studies.recipe import Published, Ran, Recipe
from probe.studies.reproduce import Plan, Verdict
from probe.studies.rows import Rows, asked_for, question, reproduce_in_processes
from tests.shell import PROJECT, Shell

ANSWERING = "tests.answering"
EXTRA = {"program": "probe.cli:cli", "precision": "fp32", "quiet": True}
EXTRACT = "probe extract --backbone pixels --size 8 fashion-sample"
PLAN = Plan(limit=140)
WAIT_S = 120


def row(name: str, *commands: str, **changes: Any) -> Recipe:
    published = (Published(0.9),)
    made = Recipe(f"study/{name}", "a row", "fashion-sample", commands=commands, published=published)
    return replace(made, **changes)


CENTROID = row("centroid", EXTRACT, "probe fit centroid")
KNN = row("knn", EXTRACT, "probe fit knn --k 1")
NOWHERE = row("nowhere", "probe extract --backbone resnet50 --size 32 fashion-sample", "probe fit knn")
TRAINED = row("trained", network="F D4 R", size=8, epochs=4, batch_size=8, commands=())


def run(home: Home, recipes: list[Recipe], jobs: int = 1, dask: str | None = None) -> list[Verdict]:
    rows = Rows("probe.commands.reproduce_row", EXTRA, jobs, dask)
    return list(reproduce_in_processes(recipes, PLAN, home, rows, say=lambda recipe, line: None))


def gone(pid: int) -> bool:
    """Whether a process has ended within `WAIT_S`, or left only its entry."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not (file.exists() and file.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)


# ---- one process -----------------------------------------------------------------------------------------


def test_a_child_answers_and_what_it_prints_is_passed_on() -> None:
    said: list[str] = []
    with Children() as children:
        assert children.ask(ANSWERING, {"do": "add", "numbers": [1, 2]}, say=said.append) == 3
    assert said == ["printed"]


@pytest.mark.parametrize(
    ("do", "problem", "found"),
    [("die", "killed", "printed"), ("fail", "exit code 1", "ValueError: this cannot be answered")],
)
def test_a_child_that_ends_without_an_answer_is_an_error(do: str, problem: str, found: str) -> None:
    with Children() as children, pytest.raises(ChildError, match=problem) as caught:
        children.ask(ANSWERING, {"do": do, "numbers": []}, say=lambda line: None)
    assert found in str(caught.value.found)


def test_children_end_with_the_block(tmp_path: Path) -> None:
    ended: list[ChildError] = []
    what = {"do": "wait", "file": str(tmp_path / "pid")}

    def ask(children: Children) -> None:
        try:
            children.ask(ANSWERING, what, say=lambda line: None)
        except ChildError as error:
            ended.append(error)

    with Children() as children:
        asking = threading.Thread(target=ask, args=(children,))
        asking.start()
        wait_for(tmp_path / "pid")
    asking.join(WAIT_S)
    assert len(ended) == 1
    assert gone(int((tmp_path / "pid").read_text()))
    with pytest.raises(ChildError, match="nothing is started any more"):
        children.ask(ANSWERING, what, say=lambda line: None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_children_end_with_the_process_that_asked(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal\n"
        "from probe.children import Children\n"
        # What is started in the background ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Children() as children:\n"
        f"    children.ask('{ANSWERING}', {{'do': 'wait', 'file': {str(tmp_path / 'pid')!r}}}, say=print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path / "pid")
        process.send_signal(number)
    assert process.returncode != 0
    assert gone(int((tmp_path / "pid").read_text()))


# ---- a study ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", BASELINES.values(), ids=lambda recipe: recipe.name)
def test_a_process_is_asked_for_the_very_experiment(recipe: Recipe, home: Home) -> None:
    plan = Plan(data={recipe.data: "other", "not-its-own": "x"}, epochs=2, limit=3)
    asked = question(recipe, plan, home, Rows("module", EXTRA))
    assert asked_for(asked) == (recipe, replace(plan, data={recipe.data: "other"}), home)


def told(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Without the names of runs, which have the time in them."""
    return [{**verdict.to_json(), "run": None, "curves": None} for verdict in verdicts]


def test_the_verdicts_are_the_same_whatever_runs_at_the_same_time(home: Home, tmp_path: Path) -> None:
    """Two of the rows extract the same, and would be in each other's way."""
    rows = [NOWHERE, KNN, CENTROID]
    first = run(home, rows)
    assert [(v.experiment, v.verdict) for v in first] == [
        ("study/nowhere", "not run"),
        ("study/knn", "below"),
        ("study/centroid", "below"),
    ]
    assert "weights of resnet50 are not on this machine" in first[0].why
    assert told(run(Home(tmp_path / "other"), rows, jobs=3)) == told(first)
    # What was extracted and fitted is not done again.
    assert run(home, rows, jobs=2) == first
    assert len(list_runs(home)[0]) == 2
    assert len(list(home.stores.glob("*/MANIFEST.json"))) == 1


def test_a_cluster_runs_the_experiments(home: Home) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        (verdict,) = run(home, [CENTROID], dask=cluster.scheduler_address)
    assert verdict.measured is not None


def test_a_study_killed_in_the_middle_goes_on_and_repeats_nothing(home: Home) -> None:
    code = (
        "from pathlib import Path\n"
        "from probe.config import Home\n"
        "from tests.test_reproduce import CENTROID, TRAINED, run\n"
        f"run(Home(Path({str(home.root)!r})), [CENTROID, TRAINED])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + WAIT_S
        states = home.cache / "training"
        while not list(states.glob("*/*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert children
    assert all(gone(child.pid) for child in children)
    (kept,) = list_runs(home)[0]
    first, second = run(home, [CENTROID, TRAINED])
    assert first.run == kept.name
    assert (second.here and second.here.epochs) == 4
    assert len(list_runs(home)[0]) == 2


def test_a_process_that_dies_is_a_verdict_and_stops_nothing(home: Home) -> None:
    rows = Rows(ANSWERING, {"do": "die", "numbers": []})
    found = list(reproduce_in_processes([KNN, CENTROID], PLAN, home, rows, say=lambda recipe, line: None))
    assert [verdict.verdict for verdict in found] == ["not run", "not run"]
    assert all("killed, perhaps for want of memory" in verdict.why for verdict in found)
    assert found[0].commands == KNN.commands


# ---- fits are not repeated -------------------------------------------------------------------------------


def test_a_fit_is_given_again_where_nothing_that_decides_it_is_another(shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", 8, "--limit", 140, "fashion-sample")
    line = ("fit", "knn", "--k", "1,3")
    first = shell.json(*line)["run"]
    assert shell.json(*line, "--reuse")["run"] == first
    assert f"run {first} is this very fit" in shell.error
    others = [shell.json(*line, *more, "--reuse")["run"] for more in ((), ("--no-refit",), ("--k", "1"))]
    assert others[0] == first
    assert len(set(others)) == 3
    assert shell.json(*line)["run"] not in others
    shell("extract", "--backbone", "pixels", "--size", 8, "--limit", 130, "fashion-sample")
    assert shell.json(*line, "--reuse")["run"] not in others


# ---- how the study's own training went -------------------------------------------------------------------


def verdict(there: Ran | None, here: Ran | None) -> Verdict:
    return Verdict(
        *("study/row", "a row", "", "test", "data", 0.5, None, 0.5, 0.4, 0.6, "inside", True, "", ()),
        there=there,
        here=here,
    )


def test_the_curves_of_the_study_stand_beside_ours() -> None:
    both = verdict(Ran(43, 0.6135, 38), Ran(40, 0.62, 31))
    assert Verdict.from_json(both.to_json()) == both
    headings, (texts,) = reproduction.filled([both])
    assert texts[headings.index("epochs, best val. accuracy there")] == "43, 0.6135 at 38"
    assert texts[headings.index("the same here")] == "40, 0.6200 at 31"
    for page in (reproduction.markdown([both], "t"), reproduction.html([both], "t")):
        assert "43, 0.6135 at 38" in page
        assert "40, 0.6200 at 31" in page
    assert reproduction.ran_text(Ran(10)) == "10"
    bare = reproduction.filled([verdict(None, None)])[0]
    assert not {"epochs, best val. accuracy there", "the same here", "remarks"} & set(bare)


def test_show_says_how_the_training_of_the_study_went(shell: Shell) -> None:
    said = shell("baseline", "show", "cifar10/exp12")
    assert "149 epochs, validation accuracy 0.8673 at best, in epoch 142" in said
    shown = shell.json("baseline", "show", "cub200/b-two-stages")
    assert shown["ran"] == {"epochs": 5, "val_accuracy": None, "best_epoch": None}
