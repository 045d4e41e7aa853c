"""Two results on the same images, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.config import Home
from probe.runs import Predictions, Run, open_run, paired, write_run

CLASSES = ["cat", "dog"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def predictions(
    right: NDArray[np.bool_],
    ids: NDArray[np.str_] | None = None,
    groups: NDArray[np.str_] | None = None,
    labels: NDArray[np.int32] | None = None,
) -> Predictions:
    """Two classes; the row is predicted rightly where `right` says so."""
    labels = np.arange(len(right), dtype=np.int32) % 2 if labels is None else labels
    called = np.where(right, labels, 1 - labels)
    chances = np.eye(2, dtype=np.float32)[called]
    names = np.array([f"image{row:05}" for row in range(len(right))]) if ids is None else ids
    return Predictions(names, labels, chances, groups)


def kept(home: Home, label: str, found: Predictions, **result: Any) -> Run:
    return write_run(home, label, {"classes": CLASSES, **result}, found, lambda folder: None)


def test_a_run_keeps_the_groups_of_its_images(home: Home):
    groups = np.array(["a", "a", "", "b"])
    run = kept(home, "grouped", predictions(np.ones(4, bool), groups=groups))
    np.testing.assert_array_equal(open_run(run.path).predictions.groups, groups)
    plain = kept(home, "plain", predictions(np.ones(4, bool)))
    assert plain.predictions.groups is None
    with np.load(plain.path / "predictions.npz") as arrays:
        assert sorted(arrays) == ["ids", "labels", "predicted", "probabilities"]


def test_groups_follow_the_images_when_runs_are_paired(home: Home):
    groups = np.array(["a", "a", "b", "b"])
    first = predictions(np.ones(4, bool), groups=groups)
    order = np.array([3, 1, 0])
    second = predictions(np.ones(3, bool), first.ids[order], groups[order], first.labels[order])
    left, right = paired(kept(home, "first", first), kept(home, "second", second))
    for side in (left, right):
        assert side.groups is not None
        np.testing.assert_array_equal(side.groups, ["a", "a", "b"])
