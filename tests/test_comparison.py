"""Is a difference between classifiers on the same rows real? Test, interval and sentence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, norm

from probe.errors import DataError
from probe.stats.paired import (
    Comparison,
    compare_predictions,
    compare_several,
    difference_interval,
    holm,
    holm_levels,
    score_test,
)

Z = float(norm.ppf(0.975))


def rows(only_a: int, only_b: int, both: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two classifiers that are right on so many rows."""
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def compared(only_a: int, only_b: int, n: int) -> Comparison:
    return compare_predictions(*rows(only_a, only_b, n - only_a - only_b, 0))


@pytest.mark.parametrize(
    ("table", "interval", "p_value"),
    [
        # Fagerland, Lydersen and Laake (2014), tables II and V: airway hyper-responsiveness, 21 children.
        ((1, 7, 1, 12), (-0.517, -0.026), None),
        # The same authors' book (2017), complete response in 161 patients, and package contingencytables.
        ((6, 16, 59, 80), (-0.1240, -0.0054), 0.033006),
    ],
)
def test_published_score_intervals_come_out(
    table: tuple[int, int, int, int], interval: tuple[float, float], p_value: float | None
):
    found = compare_predictions(*rows(*table))
    places = 3 if interval[0] == -0.517 else 4
    assert (found.low, found.high) == pytest.approx(interval, abs=0.5 * 10**-places)
    if p_value is not None:
        assert found.p_value == pytest.approx(p_value, abs=5e-7)


def _independent_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """From the likelihood itself: its maximum under each difference by search, and the ends as roots."""

    def statistic(difference: float) -> float:
        def surprise(share: float) -> float:
            chances = (share + difference, share, 1 - 2 * share - difference)
            counts = (only_a, only_b, n - only_a - only_b)
            return -sum(k * math.log(p) for k, p in zip(counts, chances, strict=True) if k)

        bounds = max(0.0, -difference), (1 - difference) / 2
        share = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        variance = 2 * share + difference - difference**2
        return float((only_a - only_b - n * difference) / math.sqrt(n * variance))

    observed = (only_a - only_b) / n
    return (
        brentq(lambda difference: statistic(difference) - Z, -0.9, observed),
        brentq(lambda difference: statistic(difference) + Z, observed, 0.9),
    )


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(5, 0, 200), (12, 4, 90), (3, 9, 50), (40, 20, 160)])
def test_the_interval_is_that_of_the_likelihood(only_a: int, only_b: int, n: int):
    assert difference_interval(only_a, only_b, n) == pytest.approx(
        _independent_interval(only_a, only_b, n), abs=1e-6
    )


def test_five_to_none_of_two_hundred_is_shown_by_sentence_and_interval():
    # Five of five: z = √5, p = 2 (1 − Φ(√5)).
    found = compared(5, 0, 200)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(5 / 2)))
    assert found.p_value == pytest.approx(0.02535, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((0.00568, 0.05718), abs=5e-6)
    assert found.shown
    assert found.verdict == (
        "A is better than B by 2.5 points (95 % interval 0.6 to 5.7), 1.0000 against 0.9750, p = 0.025"
    )


@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_sentence_interval_and_p_value_never_contradict_each_other(n: int, level: float):
    for only_a, only_b in itertools.product(range(n + 1), repeat=2):
        if only_a + only_b > n:
            continue
        found = compare_predictions(*rows(only_a, only_b, n - only_a - only_b, 0), level=level)
        excluded = found.low > 0 or found.high < 0
        assert excluded == found.shown == (found.p_value < 1 - level) == ("is better" in found.verdict)
        assert -1 <= found.low < found.high <= 1
        assert found.low <= found.difference <= found.high
        back = compare_predictions(*rows(only_b, only_a, n - only_a - only_b, 0), level=level)
        assert (back.low, back.high, back.p_value) == (-found.high, -found.low, found.p_value)


def test_what_is_printed_stays_on_the_side_of_what_is_true():
    # 10,000 rows: the lower end is 0.004 points, and would be printed as zero.
    for only_a, only_b, n in [(60, 39, 10_000), (59, 40, 10_000), (4, 0, 100_000), (1077, 990, 5000)]:
        found = compared(only_a, only_b, n)
        ends = [float(end) for end in found.verdict.split(" interval ")[1].split(")")[0].split(" to ")]
        assert (min(ends) > 0) == found.shown
        printed = found.verdict.rsplit("p = ", 1)[1]
        assert (float(printed) < 0.05) == found.shown


@pytest.mark.parametrize("n", [50, 100, 200, 1000])
@pytest.mark.parametrize("discordant", [0.1, 0.15, 0.2, 0.25])
def test_the_interval_of_a_difference_covers_what_it_says(n: int, discordant: float):
    # Accuracies 0.85 and 0.80; how often they disagree varies. Exact: every table with its probability.
    difference = 0.05
    p_a, p_b = (discordant + difference) / 2, (discordant - difference) / 2
    a, b = np.meshgrid(np.arange(min(n, 300) + 1), np.arange(min(n, 300) + 1), indexing="ij")
    a, b = a[a + b <= n], b[a + b <= n]
    weight = binom.pmf(a, n, p_a) * binom.pmf(b, n - a, p_b / (1 - p_a))
    covered = 0.0
    for row in np.flatnonzero(weight > 1e-6):
        low, high = difference_interval(int(a[row]), int(b[row]), n)
        covered += weight[row] * (low <= difference <= high)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_a_clear_difference_is_shown_both_ways_round():
    a = np.r_[np.ones(90, bool), np.zeros(10, bool)]
    b = np.r_[np.ones(70, bool), np.zeros(30, bool)]
    forth, back = compare_predictions(a, b), compare_predictions(b, a)
    assert forth.difference == pytest.approx(0.2)
    assert 0.1 < forth.low < 0.2 < forth.high < 0.3
    assert (forth.only_a, forth.only_b, forth.n) == (20, 0, 100)
    assert forth.verdict.startswith("A is better than B by 20.0 points (95 % interval 1")
    assert back.verdict.startswith("B is better than A by 20.0 points (95 % interval 1")
    assert "0.9000 against 0.7000" in forth.verdict
    assert "0.9000 against 0.7000" in back.verdict
    assert forth.p_value == back.p_value == pytest.approx(math.erfc(math.sqrt(20 / 2)))


def test_an_even_difference_is_not_shown():
    a = np.arange(100) % 2 == 0
    found = compare_predictions(a, ~a, name_a="x", name_b="y")
    assert found.p_value == 1.0
    assert found.verdict.startswith("no difference shown between x and y: +0.0 points for x (95 % interval -")
    assert "0.5000 against 0.5000" in found.verdict


def test_the_test_without_disagreement_says_nothing():
    assert score_test(0, 0) == 1.0
    found = compared(0, 0, 50)
    # Wilson's upper end of 0 in 50, on both sides.
    assert (found.low, found.high) == pytest.approx((-0.0713476, 0.0713476), abs=5e-8)


def test_different_rows_are_refused():
    with pytest.raises(DataError, match="row by row"):
        compare_predictions(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(DataError, match="row by row"):
        compare_predictions(np.ones(3, bool), np.ones(3, bool), groups=np.array(["a"]))


def test_holm_by_hand():
    # 0.01·4, then 0.02·3, then the larger of 0.03·2 and what came before, then 0.9.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    # 0.01 is judged at 0.05 / 4; 0.02 at 0.05 / 3 is not shown, which is where the procedure stops.
    assert holm_levels([0.03, 0.01, 0.9, 0.02]) == pytest.approx([1 - 0.05 / m for m in (3, 4, 3, 3)])
    assert holm_levels([0.001, 0.04]) == pytest.approx([0.975, 0.95])
    assert holm_levels([0.03]) == pytest.approx([0.95])


def test_several_runs_are_compared_pair_by_pair():
    generator = np.random.default_rng(3)
    base = generator.random(400)
    found = compare_several({"good": base < 0.9, "same": base[::-1] < 0.9, "bad": base < 0.7})
    pairs = {(r.comparison.name_a, r.comparison.name_b): r for r in found}
    assert list(pairs) == [("good", "same"), ("good", "bad"), ("same", "bad")]
    assert pairs["good", "bad"].shown
    assert not pairs["good", "same"].shown
    assert all(r.p_adjusted >= r.p_uncorrected for r in found)
    assert "98.33 % interval" in pairs["good", "bad"].comparison.verdict
    assert "after correction for 3 pairs" in pairs["good", "bad"].comparison.verdict


def test_among_several_runs_all_that_is_said_is_said_after_the_correction():
    generator = np.random.default_rng(4)
    shown = 0
    for _ in range(150):
        runs, n = int(generator.integers(3, 6)), int(generator.integers(20, 120))
        skill = 0.8 + 0.15 * generator.standard_normal(runs)
        base = generator.random(n)
        right = {f"r{i}": (base + 0.2 * generator.random(n)) < level for i, level in enumerate(skill)}
        right["copy"] = right["r0"]  # ties: every pair with r0 has a twin
        groups = generator.integers(0, n // 3, n).astype(str) if generator.random() < 0.5 else None
        found = compare_several(right, groups=groups)
        assert holm([pair.p_uncorrected for pair in found]) == [pair.p_adjusted for pair in found]
        for pair in found:
            record = pair.to_json()
            excluded = record["low"] > 0 or record["high"] < 0
            assert excluded == record["shown"] == (record["p_value"] < 0.05)
            assert excluded == ("is better" in record["verdict"])
            assert record["p_value"] == record["p_adjusted"]
            assert record["low"] < record["high"]
            shown += excluded
    assert shown > 100
