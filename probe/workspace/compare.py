"""Runs on the test images they share: is the difference real?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probe.errors import UsageError
from probe.notebook import lines_html
from probe.runs import Run, compare_all, compared_on, find_run
from probe.runs import compare as compare_two
from probe.stats.paired import Comparison, PairResult
from probe.workspace.context import Context


@dataclass(frozen=True, repr=False)
class Compared:
    """What can be said of two or more runs.

    Attributes
    ----------
    runs : their names, in the order given.
    comparisons : one of every pair; of three runs and more with Holm's correction.
    notes : which images and groups it rests on.
    """

    runs: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    pairs: tuple[PairResult, ...] = ()

    @property
    def verdict(self) -> str:
        """A sentence a pair."""
        return "\n".join(comparison.verdict for comparison in self.comparisons)

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second run, as a fraction."""
        return self.comparisons[0].difference

    @property
    def interval(self) -> tuple[float, float]:
        """The score interval of `difference`."""
        return self.comparisons[0].low, self.comparisons[0].high

    @property
    def shown(self) -> bool:
        """Whether the first and the second run differ by more than chance explains."""
        return self.comparisons[0].shown

    def lines(self) -> list[str]:
        """The result for people."""
        return [*(c.verdict for c in self.comparisons), *(f"({note})" for note in self.notes)]

    def to_json(self) -> dict[str, Any]:
        if self.pairs:
            several = {"runs": list(self.runs), "pairs": [pair.to_json() for pair in self.pairs]}
            return {**several, "notes": list(self.notes)}
        first, second = self.runs
        return {"a": first, "b": second, **self.comparisons[0].to_json(), "notes": list(self.notes)}

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return lines_html("Comparison", self.lines())


def compare(context: Context, runs: Sequence[Run | str]) -> Compared:
    """Compare two or more runs, or what names them, pair by pair.

    UsageError for less than two or one named twice, FitError for runs that cannot be paired.
    """
    if len(runs) < 2:
        raise UsageError("there is nothing to compare", expected="two runs or more", hint="probe runs ls")
    found = [run if isinstance(run, Run) else find_run(context.home, run) for run in runs]
    names = tuple(run.name for run in found)
    if len(set(names)) < len(names):
        raise UsageError("a run is named twice", found=", ".join(names))
    if len(found) > 2:
        pairs, notes = compare_all(found), tuple(compared_on(found))
        return Compared(names, tuple(pair.comparison for pair in pairs), notes, tuple(pairs))
    comparison, notes = compare_two(*found), tuple(compared_on(found))
    return Compared(names, (comparison,), notes)
