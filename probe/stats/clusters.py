"""Intervals of rows that are not independent: several pictures of one patient, one animal, one scene.

Rows of a group tend to be right or wrong together, so that N of them say less than N independent ones would.
How much less is the design effect (Kish 1965): the variance of the mean that the spread of the group totals
shows, over the variance that independent rows would have. A score interval on N / design effect rows, with
Student's t at one degree of freedom less than there are groups, is Korn and Graubard's construction (1998)
around Wilson's interval. The percentile bootstrap of groups was measured too: with 20 groups of 10
rows it covers 87 % at an accuracy of 0.9 (correlation 0.5), with 50 groups 92 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.stats.intervals import LEVEL, score_interval, wilson

PRIOR_PAIRS = 0.1
"""Weight of a pair of groups, one all right and one all wrong, in the estimate of the design effect.

A handful of mistakes in as many groups would pass for independent rows, and no mistake at all would leave
0/0; with the pair, little evidence means whole groups, and much evidence is not moved.
"""


def group_codes(groups: NDArray[np.str_]) -> NDArray[np.intp]:
    """(N,) numbers from 0, equal where the group is; every row without a group ("") is one of its own."""
    names, codes = np.unique(groups, return_inverse=True)
    alone = groups == ""
    codes = codes.astype(np.intp)
    codes[alone] = len(names) + np.arange(alone.sum())
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def design_effect(values: NDArray[np.floating], codes: NDArray[np.intp], half_range: float) -> float:
    """How many times larger the variance of the mean of (N,) values is than without groups, at least 1.

    At most what it would be if the rows of a group were copies: the mean size of the group of a row.

    Parameters
    ----------
    codes : (N,) as of `group_codes`.
    half_range : half the distance between the largest and the smallest possible value.
    """
    sizes = np.bincount(codes)
    count = len(sizes)
    largest = float((sizes**2).sum() / sizes.sum())
    if count < 2:
        return largest
    residuals = values - values.mean()
    clustered = (np.bincount(codes, residuals) ** 2).sum() * count / (count - 1)
    prior = PRIOR_PAIRS * 2 * half_range**2 * largest
    return float(np.clip((clustered + prior * largest) / ((residuals**2).sum() + prior), 1.0, largest))


def critical_value(codes: NDArray[np.intp], level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t, one degree of freedom less than groups (at least one)."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, max(1, int(codes.max()))))


def accuracy_interval(
    correct: NDArray[np.bool_] | NDArray[np.floating], groups: NDArray[np.str_], level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the accuracy of (N,) rows that come in groups; (0, 1) without a row.

    Inside [0, 1] and never of width zero. Wilson's interval where no two rows share a group.

    Parameters
    ----------
    correct : (N,) whether a row is right, or a share in [0, 1] (right in how many of several fits).
    groups : (N,) names; rows without one ("") stand alone.
    """
    values = np.asarray(correct, dtype=np.float64)
    if not len(values):
        return 0.0, 1.0
    codes = group_codes(np.asarray(groups))
    accuracy = float(values.mean())
    if int(codes.max()) + 1 == len(codes):
        return wilson(accuracy * len(values), len(values), level)
    effective = len(values) / design_effect(values, codes, 0.5)
    return score_interval(accuracy, effective, critical_value(codes, level))
