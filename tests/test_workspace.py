"""What notebooks and programs call: the verbs of a workspace, with the options of the commands."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import probe
from probe.cli import cli
from probe.errors import FitOptionError, UnknownNameError, UsageError
from probe.runs import Run
from probe.store import Store
from tests.shell import PROJECT

SAMPLE = "fashion-sample"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> probe.Workspace:
    return probe.Workspace(tmp_path_factory.mktemp("space") / "home", quiet=True)


@pytest.fixture(scope="module")
def store(space: probe.Workspace) -> Store:
    return space.extract(SAMPLE, backbone="pixels", size=8, limit=300)


@pytest.fixture(scope="module")
def run(space: probe.Workspace, store: Store) -> Run:
    return space.fit("logreg", store, c=[0.1])


def test_importing_costs_nothing() -> None:
    code = "import sys, probe\nassert 'Workspace' in dir(probe)\nprint(len({'numpy', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "0", done.stderr


def test_a_workspace_is_imported_without_tensorflow() -> None:
    code = "import sys, probe\nprobe.Workspace('x')\nprint(len({'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "0", done.stderr


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Workbench'"):
        probe.Workbench  # noqa: B018


def test_the_home_is_the_one_of_the_environment_or_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_HOME", "/somewhere/else")
    assert probe.Workspace().home == Path("/somewhere/else")
    assert probe.Workspace("here").home == Path("here")
    monkeypatch.delenv("PROBE_HOME")
    assert probe.Workspace().home == Path("data")


def test_a_store_is_reused(space: probe.Workspace, store: Store) -> None:
    again = space.extract(SAMPLE, backbone="pixels", size=8, limit=300)
    assert again.path == store.path
    assert again.manifest.facts["created"] == store.manifest.facts["created"]


def test_a_run_is_the_one_of_the_command(space: probe.Workspace, store: Store, run: Run, shell: Any) -> None:
    shell.home = space.home
    told = shell.json("fit", "logreg", store.name, "--c", "0.1")
    for name in ("test", "val", "options", "store_key", "index", "output"):
        assert told[name] == run.result[name], name
    assert run.result["options"]["c"] == [0.1]


def test_runs_are_compared_by_themselves_or_by_name(space: probe.Workspace, store: Store, run: Run) -> None:
    other, third = space.fit("majority", store), space.fit("centroid", store)
    done = space.compare(run, other.name)
    low, high = done.interval
    assert low < done.difference < high
    assert done.shown
    assert run.name in done.verdict
    assert "test images in common" in repr(done)
    assert len(space.compare(run, other, third).comparisons) == 3
    with pytest.raises(UsageError, match="nothing to compare"):
        space.compare(run)
    with pytest.raises(UsageError, match="named twice"):
        space.compare(run, run.name)


WRONG: dict[str, tuple[Callable[[probe.Workspace], object], type[probe.ProbeError], str]] = {
    "no such option": (
        lambda w: w.extract(SAMPLE, bakbone="pixels"),
        UnknownNameError,
        "did you mean 'backbone'",
    ),
    "no backbone": (lambda w: w.extract(SAMPLE), UsageError, "backbone has to be given"),
    "a text for a number": (
        lambda w: w.extract(SAMPLE, backbone="pixels", size="8"),
        UsageError,
        "a whole number or None",
    ),
    "a number too small": (
        lambda w: w.extract(SAMPLE, backbone="pixels", batch_size=0),
        UsageError,
        "at least 1",
    ),
    "no such precision": (
        lambda w: w.extract(SAMPLE, backbone="pixels", precision="fp64"),
        UnknownNameError,
        "fp32",
    ),
    "no such layout": (
        lambda w: w.extract(SAMPLE, backbone="pixels", layout="clases"),
        UnknownNameError,
        "'classes'",
    ),
    "no split": (lambda w: w.extract(SAMPLE, backbone="pixels", split="a,b"), UsageError, "0.6,0.2,0.2"),
    "two fractions": (
        lambda w: w.extract(SAMPLE, backbone="pixels", split=[0.5, 0.5]),
        UsageError,
        "numbers",
    ),
    "no head": (lambda w: w.fit("logrek"), UnknownNameError, "did you mean 'logreg'"),
    "one fold": (lambda w: w.fit("logreg", cv=1), FitOptionError, "at least 2 folds"),
    "a text for folds": (lambda w: w.fit("logreg", cv="5"), UsageError, "a whole number"),
    "truth for a number": (lambda w: w.fit("logreg", cv=True), UsageError, "a whole number"),
    "no class weight": (lambda w: w.fit("logreg", class_weight="rare"), UsageError, "'balanced' or None"),
    "a number for a list": (lambda w: w.fit("logreg", c=0.1), UsageError, "a list of numbers"),
    "no size": (lambda w: w.fit("logreg", memory="much"), UsageError, "500MB"),
    "another head's option": (lambda w: w.fit("knn", cv=3), UnknownNameError, "no option called 'cv'"),
    "no store": (lambda w: w.fit("knn", "nothing"), UnknownNameError, "no store called"),
}


@pytest.mark.parametrize(("call", "kind", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_errors_for_people(
    space: probe.Workspace,
    store: Store,
    call: Callable[[probe.Workspace], object],
    kind: type[probe.ProbeError],
    said: str,
) -> None:
    with pytest.raises(kind) as stop:
        call(space)
    assert said in str(stop.value)


def options_of(*words: str) -> dict[str, Any]:
    """Option of a command, as the flag is spelt with underscores -> its default."""
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {max(o.opts, key=len).lstrip("-").replace("-", "_"): o.default for o in options}


ELSEWHERE = {"json", "quiet", "dry_run", "shard"}
"""Options of what a command prints, and of one part of several: a workspace has no such keywords."""

VERBS = {"extract": ["extract"], "fit": ["fit", "majority"]}


@pytest.mark.parametrize("verb", VERBS)
def test_keywords_are_the_options_with_their_defaults(space: probe.Workspace, verb: str) -> None:
    options = {
        {"from": "source"}.get(name, name): default for name, default in options_of(*VERBS[verb]).items()
    }
    parameters = inspect.signature(getattr(space, verb)).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(options) - set(keywords) <= ELSEWHERE
    unset = (None, False, (), inspect.Parameter.empty)
    for name in set(options) & set(keywords):
        given = None if options[name].__class__.__name__ == "Sentinel" else options[name]
        assert given == keywords[name] or (given in unset and keywords[name] in unset), name
