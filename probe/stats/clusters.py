"""Intervals of rows that are not independent: several pictures of one patient, one animal, one scene.

Rows of a group tend to be right or wrong together, so that N of them say less than N independent ones would.
How much less is the design effect (Kish 1965): the variance of the mean that the spread of the group totals
shows, over the variance that independent rows would have. N / design effect rows then take the place of N in
a score interval, as in Korn and Graubard (1998). Simulated with groups of 10 rows and correlations from 0.2
to 0.7 the interval covers 93.5 to 96.5 % at accuracies from 0.7 to 0.9 and 20 groups or more; nearer to 1 it
takes 100 groups, and with fewer it covers up to 98 %. The percentile bootstrap of groups covers 92 % with 50
groups and 87 % with 20 (0.9, correlation 0.5), Wilson's interval by rows 50 to 90 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.stats.intervals import LEVEL, wilson
from probe.units import group_codes

UNSEEN = 0.8
"""So many independent rows of the rarer outcome speak for groups of copies, beside those that were seen.

A handful of mistakes in as many groups would pass for independent rows, and no mistake at all leaves 0/0:
little evidence means whole groups, and much evidence is not moved. Chosen by coverage.
"""


def joined_groups(known: Sequence[NDArray[np.str_]]) -> NDArray[np.str_] | None:
    """Groups (N,) in which rows are together that any of `known` (N,) puts together; None without any."""
    if not known:
        return None
    if all(np.array_equal(known[0], other) for other in known[1:]):
        return known[0]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Rows and groups are nodes, and that a row is in a group is an edge.
    rows = len(known[0])
    codes = [group_codes(groups) for groups in known]
    starts = rows + np.cumsum([0, *(int(code.max()) + 1 for code in codes)])
    ends = np.concatenate([code + start for code, start in zip(codes, starts[:-1], strict=True)])
    edges = (np.ones(len(ends)), (np.tile(np.arange(rows), len(codes)), ends))
    graph = coo_array(edges, shape=(starts[-1], starts[-1]))
    return connected_components(graph, directed=False)[1][:rows].astype(np.str_)


def same_groups(one: NDArray[np.str_], other: NDArray[np.str_]) -> bool:
    """Whether both (N,) put the same rows together, whatever the names."""
    both = (one, other, joined_groups([one, other]))
    return len({int(group_codes(groups).max()) for groups in both if groups is not None}) == 1


def design_effect(values: NDArray[np.floating], codes: NDArray[np.intp]) -> float:
    """How many times larger the variance of the mean of (N,) values is than without groups, at least 1.

    At most what it would be if the rows of a group were copies. That is also the answer where the values do
    not differ or there is one group, which show nothing.

    Parameters
    ----------
    codes : (N,) as of `probe.units.group_codes`.
    """
    groups, largest = int(codes.max()) + 1, _effect_of_copies(codes)
    residuals = values - values.mean()
    independent = float((residuals**2).sum())
    if groups < 2 or independent == 0:
        return largest
    clustered = float((np.bincount(codes, residuals) ** 2).sum()) * groups / (groups - 1)
    return min(max(clustered / independent, 1.0), largest)


def _effect_of_copies(codes: NDArray[np.intp]) -> float:
    """The mean, over rows, of the size of their group."""
    sizes = np.bincount(codes)
    return float((sizes**2).sum() / sizes.sum())


def share_interval(
    correct: NDArray[np.bool_], groups: NDArray[np.str_] | None, level: float = LEVEL
) -> tuple[float, float]:
    """As `accuracy_interval` where rows (N,) have groups, else Wilson's."""
    if groups is None:
        return wilson(int(correct.sum()), len(correct), level)
    return accuracy_interval(correct, groups, level)


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
    accuracy, effect = float(values.mean()), design_effect(values, codes)
    rarer = min(accuracy, 1 - accuracy) * len(values) / effect
    effect += (_effect_of_copies(codes) - effect) * UNSEEN / (UNSEEN + rarer)
    effective = len(values) / effect
    return wilson(accuracy * effective, effective, level)
