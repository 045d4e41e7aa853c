"""What bash completes: click's own protocol, and bash itself with the script that it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from probe import Workspace
from probe.cli import cli
from tests.shell import PROJECT

SAMPLE = "fashion-sample"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    space = Workspace(tmp_path_factory.mktemp("completed") / "home", quiet=True)
    store = space.extract(SAMPLE, backbone="pixels", size=4, limit=200)
    space.fit("centroid", store, name="first")
    return space


def completed(space: Workspace, *words: str) -> list[str]:
    """What is offered for the last of `words`, of ``probe``."""
    *before, last = words
    shell = ShellComplete(cli, {}, "probe", "_PROBE_COMPLETE")
    items = shell.get_completions(["--home", str(space.home), *before], last)
    return [item.value for item in items if item.type == "plain"]


def test_names_of_the_home_and_of_the_tables(space: Workspace) -> None:
    store, run = space.stores[0].name, space.runs[0].name
    assert store in completed(space, "fit", "logreg", "fashion")
    assert SAMPLE in completed(space, "fit", "logreg", "fashion")
    assert completed(space, "stores", "show", "fa") == [store]
    for words in (["runs", "show"], ["predict"], ["export"], ["compare", "latest"], ["plot", "curves"]):
        assert completed(space, *words, "") == ["latest", "first", run], words
    assert completed(space, "runs", "rm", "fi") == ["first"]
    assert completed(space, "extract", "--backbone", "pix") == ["pixels"]
    assert completed(space, "extract", "fashion-s") == [SAMPLE]
    assert completed(space, "survey", SAMPLE, "--backbones", "resnet50,pix") == ["resnet50,pixels"]
    assert completed(space, "survey", SAMPLE, "--heads", "knn,k") == []
    assert "cub200" in completed(space, "data", "fetch", "")
    assert completed(space, "finetune", "--store", "fa") == [store]
    assert completed(space, "surv") == ["survey"]


def test_where_no_name_begins_so_bash_looks_for_files(space: Workspace) -> None:
    shell = ShellComplete(cli, {}, "probe", "_PROBE_COMPLETE")
    for words in (["extract"], ["extract", "--backbone"], ["fit", "knn"]):
        (item,) = shell.get_completions(["--home", str(space.home), *words], "photos/")
        assert (item.type, item.value) == ("file", "photos/")


def test_bash_completes(space: Workspace, tmp_path: Path) -> None:
    """With the home of PROBE_HOME, by the script that is to be sourced, and without TensorFlow."""
    program = tmp_path / "probe"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PROJECT)!r})\n"
        "from probe.cli import main\n"
        "try: main()\n"
        "finally: assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules), 'heavy'\n"
    )
    program.chmod(0o755)
    script = (
        'eval "$(_PROBE_COMPLETE=bash_source probe)"\n'
        "COMP_WORDS=(probe runs show fir); COMP_CWORD=3\n"
        '_probe_completion probe\necho "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROBE_HOME": str(space.home)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "first\n", done.stderr
    assert not done.stderr
