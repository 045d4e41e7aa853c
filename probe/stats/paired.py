"""Two classifiers on the same rows: how large the difference is, and whether it is shown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.stats.intervals import LEVEL

RESAMPLES = 20_000


@dataclass(frozen=True)
class Comparison:
    """Accuracy of A minus accuracy of B on the same `n` rows, as fractions.

    Attributes
    ----------
    low, high : paired bootstrap interval of `difference` at `level`.
    p_value : exact two-sided McNemar test on the rows where only one of the two is right.
    only_a, only_b : rows that only A, only B has right.
    verdict : one sentence for people.
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
    verdict: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_predictions(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    name_a: str = "A",
    name_b: str = "B",
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Compare two classifiers by which of the same (N,) rows each has right.

    The difference is called shown when the exact McNemar test (McNemar 1947) rejects at 1 - `level`.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(
            f"{name_a} and {name_b} cannot be compared row by row",
            expected="the same rows, at least one",
            found=f"{a.size} and {b.size} rows",
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    low, high = _difference_interval(only_a, only_b, len(a), level, seed)
    difference = (only_a - only_b) / len(a)
    p_value = mcnemar(only_a, only_b)
    return Comparison(
        name_a=name_a,
        name_b=name_b,
        n=len(a),
        accuracy_a=float(a.mean()),
        accuracy_b=float(b.mean()),
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        only_a=only_a,
        only_b=only_b,
        level=level,
        verdict=_verdict(name_a, name_b, difference, low, high, p_value, level),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value: is a disagreement as likely to favour A as B? 1.0 without any."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _difference_interval(only_a: int, only_b: int, n: int, level: float, seed: int) -> tuple[float, float]:
    """Paired percentile bootstrap of (only A − only B) / n.

    A resample of rows enters the difference only through how many fall in each of the three groups, so
    drawing the group counts is the same bootstrap at a cost that does not grow with `n`.
    """
    generator = np.random.default_rng(seed)
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    counts = generator.multinomial(n, shares, size=RESAMPLES)
    differences = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _verdict(
    name_a: str, name_b: str, difference: float, low: float, high: float, p_value: float, level: float
) -> str:
    percent = f"{100 * level:g} %"
    p_text = "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"
    if p_value >= 1 - level:
        return (
            f"no difference shown between {name_a} and {name_b}: {100 * difference:+.1f} points "
            f"({percent} interval {100 * low:+.1f} to {100 * high:+.1f}), {p_text}"
        )
    better, worse = (name_a, name_b) if difference > 0 else (name_b, name_a)
    ends = (low, high) if difference > 0 else (-high, -low)
    return (
        f"{better} is better than {worse} by {100 * abs(difference):.1f} points "
        f"({percent} interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f}), {p_text}"
    )


@dataclass(frozen=True)
class PairResult:
    """One pair out of several runs; `shown` after Holm's correction over all pairs."""

    comparison: Comparison
    p_adjusted: float
    shown: bool

    def to_json(self) -> dict[str, Any]:
        return {**self.comparison.to_json(), "p_adjusted": self.p_adjusted, "shown": self.shown}


def compare_several(
    correct: Mapping[str, NDArray[np.bool_]], *, level: float = LEVEL, seed: int = 0
) -> list[PairResult]:
    """Every pair of two or more classifiers on the same (N,) rows, p-values corrected after Holm (1979)."""
    pairs = list(itertools.combinations(correct, 2))
    found = [
        compare_predictions(correct[a], correct[b], name_a=a, name_b=b, level=level, seed=seed)
        for a, b in pairs
    ]
    adjusted = holm([comparison.p_value for comparison in found])
    return [PairResult(c, p, p < 1 - level) for c, p in zip(found, adjusted, strict=True)]


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times (m − i + 1), never falling, at most 1."""
    m = len(p_values)
    adjusted = [1.0] * m
    running = 0.0
    for place, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        running = max(running, min(1.0, (m - place) * p_values[index]))
        adjusted[index] = running
    return adjusted
