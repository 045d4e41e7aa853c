"""Two runs on the same test images: is the difference real?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from probe.runs import Run, align, paired
from probe.stats.paired import Comparison, PairResult, compare_predictions, compare_several


def compare(a: Run, b: Run) -> Comparison:
    """Paired comparison of two runs' accuracy; FitError when they cannot be paired."""
    left, right = paired(a, b)
    return compare_predictions(left.correct, right.correct, name_a=a.name, name_b=b.name)


def compare_all(runs: Sequence[Run]) -> list[PairResult]:
    """Every pair of several runs on the test images that all of them share, with Holm's correction."""
    ids = reduce(np.intersect1d, [run.predictions.ids for run in runs])
    aligned = {run.name: align(run, runs[0], ids) for run in runs}
    return compare_several({name: predictions.correct for name, predictions in aligned.items()})
