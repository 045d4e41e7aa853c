"""``probe plot``, and what ``probe reproduce`` draws over one another."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from probe import cli
from probe.config import Home
from probe.report.overlay import find_courses
from probe.report.reproduction import draw_comparisons, html
from probe.runs import course_of, find_run
from probe.studies.baselines import BASELINES, COMPARISONS
from probe.studies.reproduce import Plan, verdicts_of
from tests.shell import Shell
from tests.test_studies import no_transfer

TINY = ("--data", "fashion-sample", "--limit", 140, "--precision", "fp32", "--epochs")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two runs of a baseline, one of a dense head with two seeds, one of a nearest centroid, and a sweep."""
    home = Home(tmp_path_factory.mktemp("plots") / "home")
    for line in (
        ("baseline", "run", "cifar10/exp0", *TINY, 2),
        ("baseline", "run", "cifar10/exp0", *TINY, 1),
        ("extract", "--backbone", "pixels", "--size", 8, "--limit", 140, "fashion-sample"),
        ("fit", "dense", "--hidden", 8, "--epochs", 3, "--seeds", 2),
        ("fit", "centroid"),
        ("sweep", "cifar10/exp0", *TINY, 1, "--set", "lr=0.001,0.01"),
    ):
        # The first word of a run's name is the second in which it ended: two of one are told apart otherwise.
        time.sleep(1 - time.time() % 1 if line[0] == "baseline" else 0)
        cli.run(["--home", str(home.root), *map(str, line), "--quiet"])
    return home


@pytest.fixture
def shell(filled: Home, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(filled.root, capsys)


def sweep_of(home: Home) -> str:
    (folder,) = home.sweeps.glob("cifar10-exp0-*")
    return folder.name


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_runs_and_sweeps_are_drawn_over_one_another(shell: Shell, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"drawn{suffix}"
    first, sweep = find_run(Home(shell.home), "latest:4").name, sweep_of(Home(shell.home))
    found = shell.json("plot", "curves", first, "dense", sweep, "--title", "three", "-o", file)
    assert found["file"] == str(file)
    labels = list(found["runs"])
    assert labels[0] == "cifar10-exp0-fashion-sample-s0"
    assert labels[1].startswith("dense-fashion-sample-pixels")
    assert labels[2:] == ["lr=0.001", "lr=0.01"]
    assert [run["epochs"] for run in found["runs"].values()] == [2, 3, 1, 1]
    assert all(run["kept"] >= 1 for run in found["runs"].values())
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(begins)


def test_runs_of_one_name_are_called_by_their_whole_names(filled: Home) -> None:
    names = [find_run(filled, f"latest:{back}").name for back in (3, 4)]
    assert list(find_courses(filled, names)) == names


def test_a_head_has_the_course_of_the_seed_that_was_chosen(filled: Home) -> None:
    run = find_run(filled, "dense")
    course = course_of(run)
    assert course is not None
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(course.history)
    losses = [loss for loss in course.history["val_loss"] if loss is not None]
    assert course.kept == 1 + losses.index(min(losses))
    chosen = run.result["path"][run.result["chosen"]["seed"]]
    assert min(losses) == pytest.approx(chosen["val_log_loss"], rel=1e-4)
    assert len(losses) == chosen["epochs"]


def test_a_factor_is_used_on_short_trainings_too(shell: Shell, tmp_path: Path) -> None:
    plain, smoothed = tmp_path / "plain.svg", tmp_path / "smoothed.svg"
    shell("plot", "curves", "latest:4", "-o", plain)
    shell("plot", "curves", "latest:4", "--smoothing", 0.5, "-o", smoothed)
    average = "moving average (factor 0.5)"
    assert average not in plain.read_text()
    assert average in smoothed.read_text()


WRONG = [
    ("latest:4 -o drawn.jpg", ".png, .svg, .pdf"),
    ("latest:4 -o nowhere/drawn.png", "there is no folder nowhere"),
    ("centroid", "centroid is not trained epoch by epoch"),
    ("nothing-of-this-name", "there is no run called"),
    ("latest:4 --smoothing 1", "--smoothing"),
    ("", "RUN"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_what_cannot_be_drawn_is_said_and_leaves_no_file(
    shell: Shell, line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell("plot", "curves", *line.split(), code=2)
    assert said in shell.error
    assert not list(tmp_path.glob("*.*"))


def test_every_comparison_is_of_experiments_of_one_study() -> None:
    assert len(COMPARISONS) == 6
    for comparison in COMPARISONS:
        assert len({BASELINES[row].study for row in comparison.rows}) == 1
        assert len(comparison.rows) >= 2


def test_what_a_study_draws_over_one_another_is_in_the_page(home: Home) -> None:
    rows = [BASELINES["cifar100-a/dropout"], BASELINES["cifar100-a/dropout-low"]]
    plan = Plan(data={"cifar100-25": "fashion-sample"}, epochs=1, limit=140)
    verdicts = [found for row in rows for found in verdicts_of(row, plan, home, no_transfer)]
    assert draw_comparisons(verdicts[:1], home) == []  # one run alone is no comparison
    (picture,) = draw_comparisons(verdicts, home)
    assert picture.title == "cifar100-a: dropout: high or low"
    (home.root / "one.png").write_bytes(picture.png)
    with Image.open(home.root / "one.png") as drawn:
        assert drawn.width > drawn.height > 400
    page = html(verdicts, "a page", [picture])
    assert page.index("dropout: high or low") < page.index("<h2>Curves</h2>")
    assert page.count("<img ") == 3
