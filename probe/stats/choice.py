"""Whether the best of several trained settings is shown to be the best, or only came out on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.stats.intervals import LEVEL
from probe.stats.paired import compare_predictions
from probe.units import group_codes


@dataclass(frozen=True)
class Choice:
    """What may be said of the best setting.

    Attributes
    ----------
    best : of the highest mean accuracy, the first of several.
    winner : it is shown to be better than every other one.
    rivals : the others that it is not shown to be better than, in the order given.
    sentence : for people.
    """

    best: str
    winner: bool
    rivals: tuple[str, ...]
    sentence: str


def choose_best(
    correct: Mapping[str, NDArray[np.bool_]],
    groups: NDArray[np.str_] | None = None,
    level: float = LEVEL,
) -> Choice:
    """Judge settings by the same N images, each of S trainings (seeds) a setting.

    The best is called the winner when it is shown to be better than every other setting, each at 1 - `level`:
    to be best of all, all of this has to hold, which needs no correction for their number.

    Parameters
    ----------
    correct : setting, one at least -> (S, N) which image each training has right.
    groups : (N,) names where the images come in groups, which are then what is compared.
    """
    means = {name: float(rows.mean()) for name, rows in correct.items()}
    best = max(means, key=lambda name: means[name])
    rivals = tuple(
        name
        for name, rows in correct.items()
        if name != best and not _shown(correct[best], rows, groups, level)
    )
    return Choice(best, not rivals, rivals, _sentence(best, rivals, means))


def _shown(
    best: NDArray[np.bool_], other: NDArray[np.bool_], groups: NDArray[np.str_] | None, level: float
) -> bool:
    """Whether the mean of `best` is shown to be higher, over the images and, with several, over the seeds."""
    if best.shape != other.shape or best.mean() <= other.mean():
        return False
    if len(best) == 1:
        return compare_predictions(best[0], other[0], groups=groups, level=level).p_value < 1 - level
    from scipy.stats import ttest_1samp

    differences = best.astype(np.float64) - other
    over_images, over_seeds = differences.mean(axis=0), differences.mean(axis=1)
    if groups is not None:
        over_images = np.bincount(group_codes(groups), over_images)
    return all(
        # Where all values are the same there is no spread that could speak against the difference.
        (len(values) > 1 and np.ptp(values) == 0) or float(ttest_1samp(values, 0.0).pvalue) < 1 - level
        for values in (over_images, over_seeds)
    )


def _sentence(best: str, rivals: tuple[str, ...], means: Mapping[str, float]) -> str:
    if not rivals:
        return f"best on validation: {best}" + (", shown against every other" if len(means) > 1 else "")
    equal = [name for name in rivals if means[name] == means[best]]
    if equal:
        others = [name for name in rivals if name not in equal]
        tail = f"; {_listed(others)} not shown to be worse" if others else ""
        return f"no winner: {_listed([best, *equal])} are equal on validation, {means[best]:.4f}{tail}"
    return f"no winner: {best} is highest on validation, but not shown to be better than {_listed(rivals)}"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    shown = list(names) if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
