"""Intervals and comparisons of rows that come in groups."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.stats.clusters import accuracy_interval
from probe.stats.intervals import wilson
from probe.stats.paired import compare_predictions


def _grouped(
    generator: np.random.Generator, accuracy: float, correlation: float, groups: int, rows: int = 10
) -> NDArray[np.bool_]:
    """(groups · rows,) beta-binomial: rows of a group are right together."""
    scale = (1 - correlation) / correlation
    chance = generator.beta(accuracy * scale, (1 - accuracy) * scale, groups)
    right: NDArray[np.bool_] = generator.random((groups, rows)) < chance[:, None]
    return right.ravel()


@pytest.mark.parametrize(
    ("accuracy", "correlation", "groups"),
    [(0.6, 0.3, 20), (0.8, 0.5, 20), (0.9, 0.5, 50), (0.9, 0.6, 100), (0.95, 0.9, 150)],
)
def test_the_interval_of_grouped_rows_covers_what_it_says(accuracy: float, correlation: float, groups: int):
    generator = np.random.default_rng(1)
    names = np.repeat(np.arange(groups), 10).astype(str)
    clustered, rowwise, draws = 0, 0, 2000
    for _ in range(draws):
        right = _grouped(generator, accuracy, correlation, groups)
        low, high = accuracy_interval(right, names)
        clustered += low <= accuracy <= high
        low, high = wilson(int(right.sum()), len(right))
        rowwise += low <= accuracy <= high
    assert clustered / draws == pytest.approx(0.95, abs=0.015)
    assert rowwise / draws < 0.8


def test_one_row_a_group_is_wilsons_interval():
    right = np.arange(40) % 5 > 0
    assert accuracy_interval(right, np.arange(40).astype(str)) == pytest.approx(wilson(32, 40))
    # Rows without a group are not one large group.
    assert accuracy_interval(right, np.full(40, "")) == pytest.approx(wilson(32, 40))
    assert accuracy_interval(right[:0], np.empty(0, "<U1")) == (0.0, 1.0)


def test_copies_count_once():
    right = np.arange(30) % 5 > 0
    names = np.repeat(np.arange(30), 10).astype(str)
    assert accuracy_interval(np.repeat(right, 10), names) == pytest.approx(wilson(24, 30))


@pytest.mark.parametrize("value", [0, 1])
def test_all_right_and_all_wrong_leave_an_interval_as_wide_as_the_groups_allow(value: int):
    found = accuracy_interval(np.full(200, float(value)), np.repeat(np.arange(20), 10).astype(str))
    assert found == pytest.approx(wilson(20 * value, 20))


def test_groups_of_unequal_size_and_shares_stay_inside():
    generator = np.random.default_rng(2)
    for size in (1, 2, 5, 60):
        groups = generator.integers(0, max(1, size // 3), size).astype(str)
        groups[generator.random(size) < 0.3] = ""
        shares = generator.integers(0, 4, size) / 3
        low, high = accuracy_interval(shares, groups)
        assert 0 <= low <= shares.mean() <= high <= 1
        assert high - low > 0.01
    # One group says as much as one row.
    assert accuracy_interval(np.arange(50) % 2 == 0, np.full(50, "one")) == pytest.approx(wilson(0.5, 1))


def _grouped_pair(
    generator: np.random.Generator, correlation: float, groups: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Accuracies 0.85 and 0.80 that disagree on 15 % of the rows, Dirichlet by group."""
    shares = np.array([0.75, 0.10, 0.05, 0.10]) * (1 - correlation) / correlation
    chances = generator.dirichlet(shares, groups)
    kinds = (generator.random((groups, 10, 1)) > chances.cumsum(axis=1)[:, None, :-1]).sum(axis=2).ravel()
    return kinds <= 1, (kinds == 0) | (kinds == 2)


@pytest.mark.parametrize(("correlation", "groups"), [(0.3, 20), (0.2, 50), (0.5, 100), (0.8, 150)])
def test_a_comparison_of_grouped_rows_covers_what_it_says(correlation: float, groups: int):
    generator = np.random.default_rng(5)
    names = np.repeat(np.arange(groups), 10).astype(str)
    clustered, rowwise, draws = 0, 0, 1500
    for _ in range(draws):
        a, b = _grouped_pair(generator, correlation, groups)
        found = compare_predictions(a, b, groups=names)
        clustered += found.low <= 0.05 <= found.high
        assert (found.low > 0 or found.high < 0) == found.shown
        found = compare_predictions(a, b)
        rowwise += found.low <= 0.05 <= found.high
    assert clustered / draws == pytest.approx(0.95, abs=0.015)
    assert rowwise / draws < 0.85


def test_a_comparison_of_copies_is_that_of_the_groups():
    a, b = np.arange(30) % 5 > 0, np.arange(30) % 3 > 0
    single = compare_predictions(a, b)
    names = np.repeat(np.arange(30), 10).astype(str)
    copied = compare_predictions(np.repeat(a, 10), np.repeat(b, 10), groups=names)
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    assert copied.p_value == pytest.approx(single.p_value)
    assert copied.verdict.endswith(", in 30 groups")
    alone = compare_predictions(a, b, groups=np.arange(30).astype(str))
    assert (alone.low, alone.groups, alone.verdict) == (single.low, None, single.verdict)


@pytest.mark.parametrize("right", [0, 20])
def test_grouped_rows_that_agree_or_always_disagree_leave_a_wide_interval(right: int):
    a = np.ones(200, bool)
    b = np.zeros(200, bool) if right else a
    found = compare_predictions(a, b, groups=np.repeat(np.arange(20), 10).astype(str))
    expected = compare_predictions(a[:20], b[:20])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    one = compare_predictions(a, b, groups=np.full(200, "one"))
    assert one.high - one.low > 0.9
    assert not one.shown
