"""What a run says beyond its accuracy: classes, confusions, calibration and mistakes, on any console."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from probe.config import Home
from probe.runs import Predictions, Record, Run, write_run
from probe.stats.classification import evaluate
from probe.stats.intervals import wilson
from tests.shell import Shell

LONG = "a very long name of a class that no console of eighty columns has room for, number"
CLASSES = ["ant", "bee", "cat", "dog", "eel", "fox", f"{LONG} 7"]
WRONG = {1: 4, 3: 2, 6: 3}
"""Class -> how many of its ten images are called an ant."""


def predicted() -> Predictions:
    """Ten images of each of seven classes; `WRONG` says which are mistaken, the first most surely."""
    labels = np.repeat(np.arange(7), 10).astype(np.int32)
    called = labels.copy()
    for label, count in WRONG.items():
        called[np.flatnonzero(labels == label)[:count]] = 0
    probabilities = np.full((70, 7), 0.05, np.float32)
    probabilities[np.arange(70), called] = 0.7 - np.arange(70) / 1000
    probabilities /= probabilities.sum(1, keepdims=True)
    ids = np.array([f"{'deep/' * 12}pictures/number {row}.jpg" for row in range(70)])
    return Predictions(ids, labels, probabilities)


def kept(home: Home, **more: object) -> Run:
    found = predicted()
    result = {
        "kind": "fit",
        "head": "logreg",
        "dataset": "beasts",
        "classes": CLASSES,
        "output": ["x"],
        "test": evaluate(found.probabilities, found.labels).to_json(),
        "val": None,
        "parts": {"train": 7, "test": 70},
        **more,
    }
    return write_run(home, "beasts", Record.from_json(result), found, lambda _: None)


def block(text: str, title: str) -> list[str]:
    """The lines that a title stands before."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(title))
    rest = [lines[first]]
    for line in lines[first + 1 :]:
        if line[:10].strip():
            break
        rest.append(line)
    return rest


def test_a_run_shows_its_worst_classes_confusions_and_mistakes(shell: Shell) -> None:
    run = kept(Home(shell.home))
    assert "per_class" not in run.result  # as in runs of networks, and in older ones
    said = shell("runs", "show")
    worst = block(said, "worst")
    assert len(worst) == 5
    low, high = wilson(6, 10)
    assert worst[0].split() == [
        "worst",
        "bee",
        "0.6000",
        f"{low:.4f}",
        "–",
        f"{high:.4f}",
        "(6",
        "of",
        "10",
        "images)",
    ]
    assert [line.split()[0] for line in worst[2:3]] == ["dog"]
    confused = block(said, "confused")
    assert confused[0].split() == ["confused", "bee", "called", "ant", "4", "(40", "%)"]
    assert len(confused) == 3
    mistakes = block(said, "mistakes")
    assert mistakes[0].split()[1:] == ["0.6970", "bee", "called", "ant"]
    assert mistakes[1].strip() == predicted().ids[10]
    assert sum(".jpg" in line for line in mistakes) == 5


def test_a_run_shows_calibration_before_and_after_its_temperature(shell: Shell) -> None:
    found = {"temperature": 1.25, "fitted_on": 40, "test_ece": 0.0123, "test_log_loss": 0.4567}
    run = kept(Home(shell.home), calibration=found)
    first, second = block(shell("runs", "show"), "calibrate")
    assert "temperature 1.25, fitted on 40 validation images" in first
    assert f"calibration error {run.result['test']['ece']:.4f} → 0.0123" in second
    assert f"log-loss {run.result['test']['log_loss']:.4f} → 0.4567" in second


@pytest.mark.parametrize("columns", [80, 110])
def test_long_names_are_shortened_and_files_are_not(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    kept(Home(shell.home))
    monkeypatch.setenv("COLUMNS", str(columns))
    said = shell("runs", "show")
    for title in ("worst", "confused"):
        lines = block(said, title)
        assert all(len(line) <= columns for line in lines)
        assert any("…" in line and "number 7" in line for line in lines)
    assert len({line.index("(") for line in block(said, "worst")}) == 1  # one under the other
    assert "/number 60.jpg" not in said or f"{'deep/' * 12}pictures/number 60.jpg" in said
    assert f"{'deep/' * 12}pictures/number 10.jpg" in said


def test_files_are_told_with_their_folder(shell: Shell, tmp_path: Path) -> None:
    kept(Home(shell.home), origin=str(tmp_path))
    assert block(shell("runs", "show"), "mistakes")[0] == f"mistakes  in {tmp_path}:"


def test_a_run_without_its_predictions_is_still_shown(shell: Shell) -> None:
    run = kept(Home(shell.home))
    (run.path / "predictions.npz").unlink()
    said = shell("runs", "show")
    assert "classes   not known" in said
    assert "accuracy 0.8714" in said
    assert json.loads(shell("runs", "show", "--json"))["run"] == run.name


def test_a_run_without_a_test_part_says_no_more_than_that(shell: Shell) -> None:
    kept(Home(shell.home), test=None)
    said = shell("runs", "show")
    assert "no labelled images in this part" in said
    assert "worst" not in said
    assert "mistakes" not in said


def test_a_run_without_a_mistake_has_none_to_show(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRONG, 1, 0)
    monkeypatch.setitem(WRONG, 3, 0)
    monkeypatch.setitem(WRONG, 6, 0)
    kept(Home(shell.home))
    said = shell("runs", "show")
    assert "1.0000" in block(said, "worst")[0]
    assert "confused" not in said
    assert "mistakes" not in said
