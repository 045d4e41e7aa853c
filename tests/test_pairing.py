"""Two results on the same images, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.config import Home
from probe.errors import FitError
from probe.runs import Predictions, Record, Run, compare, compared_on, open_run, paired, write_run
from probe.stats.paired import score_test
from probe.units import group_codes
from tests.shell import Shell

CLASSES = ["cat", "dog"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """That of `shell`."""
    return Home(tmp_path / "home")


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
    record = Record.from_json(
        {"kind": "fit", "head": "logreg", "output": ["x"], "classes": list(CLASSES), **result}
    )
    return write_run(home, label, record, found, lambda folder: None)


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
    left, right = paired([kept(home, "first", first), kept(home, "second", second)])
    for side in (left, right):
        assert side.groups is not None
        np.testing.assert_array_equal(side.groups, ["a", "a", "b"])


def rightness(n: int, wrong: int) -> NDArray[np.bool_]:
    return np.arange(n) >= wrong


def test_other_test_sets_are_said_and_refused_below_half(home: Home):
    whole = predictions(rightness(40, 10))

    def part(rows: slice) -> Predictions:
        return predictions(np.ones(40, bool)[rows], whole.ids[rows], labels=whole.labels[rows])

    first = kept(home, "first", whole)
    second = kept(home, "second", part(slice(0, 25)))
    assert compared_on([first, second]) == ["25 of 40 and 25 test images in common"]
    found = compare(first, second)
    assert (found.n, found.accuracy_a, found.accuracy_b) == (25, 0.6, 1.0)
    assert compared_on([first, first]) == ["40 test images in common"]
    third = kept(home, "third", part(slice(0, 19)))
    fourth = kept(home, "fourth", part(slice(25, 40)))
    for runs in ([first, third], [third, first], [first, second, third]):
        with pytest.raises(FitError, match="too few test images in common") as refused:
            paired(runs)
        assert f"19 images in common, out of {'40' if runs[0] is first else '19'} of" in str(refused.value)
        assert third.name in str(refused.value)
    with pytest.raises(FitError, match="no test image in common"):
        compare(second, fourth)


def test_classes_in_another_order_are_matched_by_name(home: Home):
    first = predictions(rightness(10, 3))
    turned = Predictions(first.ids, 1 - first.labels, first.probabilities[:, ::-1])
    left, right = paired([kept(home, "a", first), kept(home, "b", turned, classes=CLASSES[::-1])])
    np.testing.assert_array_equal(left.labels, right.labels)
    np.testing.assert_array_equal(left.probabilities, right.probabilities)
    with pytest.raises(FitError, match="different classes"):
        paired([kept(home, "c", first), kept(home, "d", first, classes=["cat", "horse"])])


def test_other_labels_of_the_same_image_are_refused(home: Home):
    first = predictions(rightness(10, 3))
    labels = first.labels.copy()
    labels[4] = 1 - labels[4]
    other = predictions(rightness(10, 3), labels=labels)
    with pytest.raises(FitError, match="disagree about the labels") as refused:
        paired([kept(home, "a", first), kept(home, "b", first), kept(home, "c", other)])
    assert "1 of 10 images" in str(refused.value)


def test_groups_that_one_run_knows_serve_both(home: Home):
    groups = np.repeat(np.arange(10), 4).astype(str)
    first = kept(home, "first", predictions(rightness(40, 12)))
    second = kept(home, "second", predictions(np.ones(40, bool), groups=groups))
    found = compare(first, second)
    assert found.groups == 10
    assert found.verdict.endswith("in 10 groups")
    assert compared_on([first, second])[1] == f"the groups are those of {second.name}"
    # 12 wrong rows are 3 groups of 4 copies: 3 to 0 of 10.
    assert found.p_value == pytest.approx(score_test(3, 0), rel=0.1)
    assert compare(second, first).low == -found.high


def test_runs_that_disagree_about_groups_are_compared_by_what_either_puts_together(home: Home):
    one = np.array(["a", "a", "b", "b", "c", "", "", "d"])
    renamed = np.array(["x", "x", "y", "y", "z", "", "", "w"])
    other = np.array(["a", "a", "a", "b", "c", "c", "", "d"])
    runs = [
        kept(home, name, predictions(rightness(8, 3), groups=groups))
        for name, groups in (("one", one), ("renamed", renamed), ("other", other))
    ]
    assert compared_on(runs[:2]) == ["8 test images in common"]
    said = compared_on([runs[0], runs[2]])
    assert "disagree about the groups" in said[1]
    left, right = paired([runs[0], runs[2]])
    assert left.groups is not None
    np.testing.assert_array_equal(left.groups, right.groups)
    # Together: the first four, c with the row without a name, and two that stand alone.
    codes = group_codes(left.groups)
    assert [len(set(codes[rows])) for rows in (slice(0, 4), slice(4, 6), slice(0, 8))] == [1, 1, 4]


def test_the_command_says_accuracies_common_images_and_groups(home: Home, shell: Shell):
    groups = np.repeat(np.arange(50), 2).astype(str)
    runs = [
        kept(home, name, predictions(rightness(100, wrong), groups=groups)).name
        for name, wrong in (("a", 0), ("b", 30), ("c", 2))
    ]
    said = shell("compare", *runs[:2])
    assert "1.0000 against 0.7000" in said
    assert "in 50 groups" in said
    assert "(100 test images in common)" in said
    record = shell.json("compare", *runs[:2])
    assert (record["groups"], record["n"], record["shown"]) == (50, 100, True)
    assert record["notes"] == ["100 test images in common"]
    several = shell.json("compare", *runs)
    for pair in several["pairs"]:
        assert (pair["low"] > 0 or pair["high"] < 0) == pair["shown"] == ("is better" in pair["verdict"])
        assert "after correction for 3 pairs" in pair["verdict"]
    assert "not shown" not in shell("compare", *runs)
