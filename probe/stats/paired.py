"""Two classifiers on the same rows: how large the difference is, and whether it is shown.

Interval and test are one method, so that they cannot contradict each other: Tango's score interval (1998) is
every difference that the score test does not reject, and at a difference of zero that test is McNemar's
(1947) without continuity correction. Five disagreements expected are enough for it to cover 94 to 96 %; with
fewer it covers more. The exact conditional interval, which belongs to the exact test, takes the number of
disagreements for known and was measured to cover anything from 66 to 100 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.stats.clusters import design_effect
from probe.stats.intervals import LEVEL
from probe.units import group_codes

HALVINGS = 80


@dataclass(frozen=True)
class Comparison:
    """Accuracy of A minus accuracy of B on the same `n` rows, as fractions.

    Attributes
    ----------
    low, high : score interval of `difference` at `level`; it leaves out zero exactly where `shown`.
    p_value : two-sided score test of no difference, corrected where `pairs` were looked at.
    only_a, only_b : rows that only A, only B has right.
    alpha : the difference is shown where `p_value` is below.
    groups : how many groups the rows come in, None where every row stands alone.
    """

    name_a: str
    name_b: str
    n: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p_value: float
    only_a: int
    only_b: int
    level: float
    alpha: float
    pairs: int
    groups: int | None

    @property
    def shown(self) -> bool:
        """Whether one of the two is called better."""
        return self.p_value < self.alpha

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        return _verdict(self)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shown": self.shown, "verdict": self.verdict}


def compare_predictions(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    groups: NDArray[np.str_] | None = None,
    name_a: str = "A",
    name_b: str = "B",
    level: float = LEVEL,
) -> Comparison:
    """Compare two classifiers by which of the same (N,) rows each has right.

    The difference is called shown when the score test rejects at 1 - `level`.

    Parameters
    ----------
    groups : (N,) names, equal where rows belong together, "" for a row that stands alone. Counts are divided
        by the design effect of the differences before test and interval are made of them.
    """
    table = _table(correct_a, correct_b, groups, name_a, name_b)
    return _comparison(table, table.p_value, level, level, 1)


@dataclass(frozen=True)
class _Table:
    """Disagreements of one pair; `effect` rows count as one where rows of a group go together."""

    name_a: str
    name_b: str
    n: int
    right_a: int
    right_b: int
    only_a: int
    only_b: int
    groups: int | None
    effect: float

    @property
    def p_value(self) -> float:
        return score_test(self.only_a / self.effect, self.only_b / self.effect)


def _table(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    groups: NDArray[np.str_] | None,
    name_a: str,
    name_b: str,
) -> _Table:
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0 or (groups is not None and groups.shape != a.shape):
        raise DataError(
            f"{name_a} and {name_b} cannot be compared row by row",
            expected="the same rows, at least one",
            found=f"{a.size} and {b.size} rows" + (f", {groups.size} groups" if groups is not None else ""),
        )
    count, effect = _clustering(a.astype(np.float64) - b, groups)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return _Table(name_a, name_b, len(a), int(a.sum()), int(b.sum()), only_a, only_b, count, effect)


def _clustering(gaps: NDArray[np.floating], groups: NDArray[np.str_] | None) -> tuple[int | None, float]:
    """Number of groups and design effect of (N,) values; None and 1 where no two rows share a group."""
    if groups is None:
        return None, 1.0
    codes = group_codes(groups)
    count = int(codes.max()) + 1
    return (None, 1.0) if count == len(codes) else (count, design_effect(gaps, codes))


def _comparison(table: _Table, p_value: float, level: float, family: float, pairs: int) -> Comparison:
    """`level` of the interval, and of the whole `family` of `pairs`, for which `p_value` is corrected."""
    only_a, only_b, n = (value / table.effect for value in (table.only_a, table.only_b, table.n))
    low, high = difference_interval(only_a, only_b, n, level)
    return Comparison(
        name_a=table.name_a,
        name_b=table.name_b,
        n=table.n,
        accuracy_a=table.right_a / table.n,
        accuracy_b=table.right_b / table.n,
        difference=(table.only_a - table.only_b) / table.n,
        low=low,
        high=high,
        p_value=p_value,
        only_a=table.only_a,
        only_b=table.only_b,
        level=level,
        alpha=round(1 - family, 12),
        pairs=pairs,
        groups=table.groups,
    )


def score_test(only_a: float, only_b: float) -> float:
    """Two-sided p-value of no difference: McNemar's test without continuity correction.

    1.0 without any disagreement. Counts need not be whole.
    """
    if only_a + only_b == 0:
        return 1.0
    return math.erfc(abs(only_a - only_b) / math.sqrt(2 * (only_a + only_b)))


def difference_interval(only_a: float, only_b: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Every difference in [-1, 1] that the score test does not reject at 1 - `level` (Tango 1998).

    Counts need not be whole.
    """
    from scipy.special import ndtri

    critical = float(-ndtri((1 - level) / 2))
    # The upper end is the lower end of the difference taken the other way round.
    return _lower_end(only_a, only_b, n, critical), 0.0 - _lower_end(only_b, only_a, n, critical)


def _lower_end(a: float, b: float, n: float, critical: float) -> float:
    """By bisection: the statistic falls from -1 to the difference observed, where it is zero."""
    outside, inside = -1.0, (a - b) / n
    for _ in range(HALVINGS):
        middle = (outside + inside) / 2
        if _statistic(a, b, n, middle) > critical:
            outside = middle
        else:
            inside = middle
    return inside


def _statistic(a: float, b: float, n: float, difference: float) -> float:
    """(observed - `difference`) over its standard deviation, were `difference` the true one."""
    # The most likely share of rows that only B has right, under that difference: root of a quadratic.
    linear = -a - b + (2 * n - a + b) * difference
    constant = -b * difference * (1 - difference)
    share = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    gap = a - b - n * difference
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)


def _verdict(found: Comparison) -> str:
    percent = f"{100 * found.level:.4g} % interval"
    p_text = _p_text(found.p_value, found.alpha)
    if found.pairs > 1:
        p_text += f" after correction for {found.pairs} pairs"
    if found.groups is not None:
        p_text += f", in {found.groups:,} group{'s' if found.groups > 1 else ''}"
    if not found.shown:
        return (
            f"no difference shown between {found.name_a} and {found.name_b}: "
            f"{_points(found.difference, '+')} points for {found.name_a} "
            f"({percent} {_points(found.low, '+')} to {_points(found.high, '+')}), "
            f"{found.accuracy_a:.4f} against {found.accuracy_b:.4f}, {p_text}"
        )
    better, worse = (found.name_a, found.name_b), (found.accuracy_a, found.accuracy_b)
    ends = (found.low, found.high)
    if found.difference < 0:
        better, worse, ends = better[::-1], worse[::-1], (-found.high, -found.low)
    return (
        f"{better[0]} is better than {better[1]} by {_points(abs(found.difference))} points "
        f"({percent} {_points(ends[0])} to {_points(ends[1])}), "
        f"{worse[0]:.4f} against {worse[1]:.4f}, {p_text}"
    )


def _points(fraction: float, sign: str = "") -> str:
    """Percentage points with one place, more where they would read as zero and are not."""
    places = 1
    while fraction and places < 8 and not float(f"{100 * fraction:.{places}f}"):
        places += 1
    return f"{100 * fraction + 0.0:{sign}.{places}f}"


def _p_text(p_value: float, alpha: float) -> str:
    """Two digits, more where rounding would put it on the other side of `alpha`."""
    if p_value < min(1e-4, alpha):
        return "p < 0.0001"
    digits = 2
    while digits < 15 and (float(f"{p_value:.{digits}g}") < alpha) != (p_value < alpha):
        digits += 1
    return f"p = {p_value:.{digits}g}"


@dataclass(frozen=True)
class PairResult:
    """One pair out of several runs, `comparison` after Holm's correction over all pairs.

    Attributes
    ----------
    p_uncorrected : what the pair would have had as the only one.
    p_adjusted, shown : `p_value` and `shown` of the comparison.
    """

    comparison: Comparison
    p_uncorrected: float

    @property
    def p_adjusted(self) -> float:
        return self.comparison.p_value

    @property
    def shown(self) -> bool:
        return self.comparison.shown

    def to_json(self) -> dict[str, Any]:
        more = {"p_adjusted": self.p_adjusted, "p_uncorrected": self.p_uncorrected}
        return {**self.comparison.to_json(), **more}


def compare_several(
    correct: Mapping[str, NDArray[np.bool_]],
    *,
    groups: NDArray[np.str_] | None = None,
    level: float = LEVEL,
) -> list[PairResult]:
    """Every pair of two or more classifiers on the same (N,) rows, corrected after Holm (1979).

    Each interval has the level of the step at which Holm's procedure judged its pair, so that it leaves out
    zero exactly where the difference is shown; the pairs after the first that is not shown have the level of
    that one.
    """
    tables = [_table(correct[a], correct[b], groups, a, b) for a, b in itertools.combinations(correct, 2)]
    p_values = [table.p_value for table in tables]
    adjusted = holm(p_values)
    levels = holm_levels(p_values, level)
    return [
        PairResult(_comparison(table, after, at, level, len(tables)), before)
        for table, before, after, at in zip(tables, p_values, adjusted, levels, strict=True)
    ]


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times (m − i + 1), never falling, at most 1."""
    m = len(p_values)
    adjusted = [1.0] * m
    running = 0.0
    for place, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        running = max(running, min(1.0, (m - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_levels(p_values: list[float], level: float = LEVEL) -> list[float]:
    """Level of the interval that belongs to each p-value: that of its step, or of the step that stopped."""
    m, alpha = len(p_values), 1 - level
    levels = [level] * m
    step, stopped = m, False
    for place, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        step = step if stopped else m - place
        stopped = stopped or step * p_values[index] >= alpha
        levels[index] = 1 - alpha / step
    return levels
