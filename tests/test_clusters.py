"""Intervals and comparisons of rows that come in groups."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.stats.clusters import accuracy_interval
from probe.stats.intervals import wilson


def _grouped(
    generator: np.random.Generator, accuracy: float, correlation: float, groups: int, rows: int = 10
) -> NDArray[np.bool_]:
    """(groups · rows,) beta-binomial: rows of a group are right together."""
    scale = (1 - correlation) / correlation
    chance = generator.beta(accuracy * scale, (1 - accuracy) * scale, groups)
    right: NDArray[np.bool_] = generator.random((groups, rows)) < chance[:, None]
    return right.ravel()


@pytest.mark.parametrize(
    ("accuracy", "correlation", "groups"), [(0.6, 0.3, 20), (0.8, 0.5, 50), (0.9, 0.6, 100), (0.95, 0.9, 150)]
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
    # 30 groups of 10 copies are 30 rows, with Student's t at 29 degrees of freedom for the normal quantile.
    right = np.repeat(np.arange(30) % 5 > 0, 10)
    low, high = accuracy_interval(right, np.repeat(np.arange(30), 10).astype(str))
    t, n, p = 2.045229642, 30, 0.8
    half = t * np.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    assert (low, high) == pytest.approx(
        ((p + t * t / (2 * n) - half) / (1 + t * t / n), (p + t * t / (2 * n) + half) / (1 + t * t / n))
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_and_all_wrong_leave_an_interval_as_wide_as_the_groups_allow(value: float):
    low, high = accuracy_interval(np.full(200, value), np.repeat(np.arange(20), 10).astype(str))
    bound = 2.093024**2 / (20 + 2.093024**2)
    assert (low, high) == pytest.approx((0.0, bound) if value == 0 else (1 - bound, 1.0))


def test_groups_of_unequal_size_and_shares_stay_inside():
    generator = np.random.default_rng(2)
    for size in (1, 2, 5, 60):
        groups = generator.integers(0, max(1, size // 3), size).astype(str)
        groups[generator.random(size) < 0.3] = ""
        shares = generator.integers(0, 4, size) / 3
        low, high = accuracy_interval(shares, groups)
        assert 0 <= low <= shares.mean() <= high <= 1
        assert high - low > 0.01
    low, high = accuracy_interval(np.arange(50) % 2 == 0, np.full(50, "one"))
    assert high - low > 0.9, "one group says next to nothing"
