"""Two classifiers judged again and again on ever more rows: is one of them better, at any look?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.stats.clusters import design_effect
from probe.units import group_codes


def least_share(wins: float, losses: float, alpha: float) -> float:
    """Lower end of the exact one-sided interval of the share of wins at 1 - `alpha` (Clopper, Pearson 1934).

    0 without a win. Counts need not be whole.
    """
    from scipy.special import betaincinv

    return float(betaincinv(wins, losses + 1, alpha)) if wins > 0 else 0.0


def disagreements(
    correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], groups: NDArray[np.str_] | None = None
) -> tuple[float, float]:
    """How many of the same (N,) rows only A, and only B has right.

    Where rows come in `groups`, (N,) names and "" for a row that stands alone, counts are divided by the
    design effect of the differences.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    if groups is None or not len(groups):
        return only_a, only_b
    codes = group_codes(groups)
    if int(codes.max()) + 1 == len(codes):
        return only_a, only_b
    effect = design_effect(correct_a.astype(np.float64) - correct_b, codes)
    return only_a / effect, only_b / effect
