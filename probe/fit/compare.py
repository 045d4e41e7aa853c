"""Runs on the same test images: is the difference real?"""

from __future__ import annotations

from collections.abc import Sequence

from probe.runs import Run, paired, pairing_notes
from probe.stats.paired import Comparison, PairResult, compare_predictions, compare_several


def compare(a: Run, b: Run) -> Comparison:
    """Paired comparison of two runs' accuracy; FitError when they cannot be paired."""
    left, right = paired([a, b])
    return compare_predictions(left.correct, right.correct, groups=left.groups, name_a=a.name, name_b=b.name)


def compare_all(runs: Sequence[Run]) -> list[PairResult]:
    """Every pair of several runs on the test images that all of them share, with Holm's correction."""
    sides = paired(runs)
    correct = {run.name: side.correct for run, side in zip(runs, sides, strict=True)}
    return compare_several(correct, groups=sides[0].groups)


def compared_on(runs: Sequence[Run]) -> list[str]:
    """Which images and groups a comparison of these runs rests on, one note each."""
    return pairing_notes([run.predictions for run in runs], [run.name for run in runs])
