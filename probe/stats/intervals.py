"""Intervals: Wilson for a proportion, Student's t for the mean of a few draws."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


def wilson(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) when there is no trial.

    It stays inside [0, 1] and does not collapse at 0 or `n` successes, as the normal interval does. An
    effective number of trials need not be whole.
    """
    if n == 0:
        return 0.0, 1.0
    from scipy.special import ndtri

    share, square = successes / n, float(ndtri((1 + level) / 2)) ** 2 / n
    centre = share + square / 2
    half = math.sqrt(square * (share * (1 - share) + square / 4))
    # The ends are exact at 0 and 1, where rounding would leave a trace.
    low = 0.0 if share <= 0 else max(0.0, (centre - half) / (1 + square))
    high = 1.0 if share >= 1 else min(1.0, (centre + half) / (1 + square))
    return low, high


def mean_interval(values: NDArray[np.floating] | list[float], level: float = LEVEL) -> tuple[float, float]:
    """Student-t interval of the mean of a few independent draws (seeds, folds, few-shot draws).

    This is run-to-run spread, not sampling error of the test set. (mean, mean) for a single draw would
    claim certainty, so one draw gives (-inf, inf).
    """
    draws = np.asarray(values, dtype=np.float64)
    if len(draws) < 2:
        return float("-inf"), float("inf")
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(draws) - 1) * draws.std(ddof=1) / np.sqrt(len(draws)))
    mean = float(draws.mean())
    return mean - half, mean + half


def mean_share_interval(
    shares: NDArray[np.floating] | list[float], level: float = LEVEL
) -> tuple[float, float]:
    """`mean_interval` of draws of a share, such as an accuracy, inside [0, 1]; (0, 1) for a single draw."""
    low, high = mean_interval(shares, level)
    return max(low, 0.0), min(high, 1.0)
