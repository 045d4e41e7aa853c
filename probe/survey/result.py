"""What a survey found: a row for every backbone, output and head, and what cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from probe.runs import Run, compare_all, compared_on
from probe.stats.intervals import wilson
from probe.stats.paired import PairResult
from probe.store import Store
from probe.survey.race import Candidate, Outcome
from probe.table import Table
from probe.text import clipped, count_of, table, wrapped

BEST, ALIKE, WORSE, FAILED = "best", "alike", "worse", "failed"
"""How a row stands: most images right; not told from that one; worse; without a figure."""

DROPPED, LEFT = "dropped", "left"
"""How a row of a race stands that has not seen all looks: shown to be worse, or not paid for any longer."""

MARKS = {BEST: "*", ALIKE: "=", WORSE: "", DROPPED: "x", LEFT: "-", FAILED: ""}
WIDTH = 80
NARROWEST_NAME = 8


@dataclass(frozen=True)
class SurveyRow:
    """One backbone, output and head.

    Attributes
    ----------
    run, store : names, where there is a figure.
    n, accuracy, accuracy_low, accuracy_high : on the test images, with the 95 % interval.
    standing : one of `BEST`, `ALIKE`, `WORSE`, `FAILED`, `DROPPED`, `LEFT`.
    difference, difference_low, difference_high, p_value : accuracy minus that of the best, with the interval
        and the p-value after correction for all pairs.
    images : how many of the data set's images it was judged by; None for all.
    expected : accuracy that a race expects of it on all its images; None without a race.
    images_per_s : of the pass that made the features, as it was measured then; None where that is not known.
    width, megabytes : D, and the size of this output of all images on disk.
    problem : why there is no figure.
    """

    backbone: str
    output: str
    head: str
    run: str | None = None
    store: str | None = None
    n: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    standing: str = FAILED
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    images: int | None = None
    expected: float | None = None
    images_per_s: float | None = None
    width: int | None = None
    megabytes: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Entry:
    """What was tried: the run and its store, or the problem."""

    backbone: str
    output: str
    head: str
    run: Run | None = None
    store: Store | None = None
    problem: str | None = None


@dataclass(frozen=True, repr=False)
class Survey:
    """The table of a survey, best first.

    Attributes
    ----------
    dataset : its name.
    rows : by accuracy, those without a figure last.
    pairs : how many pairs of rows Holm's correction is for.
    notes : what was passed over, and which images the comparison rests on.
    unreadable : backbone -> images that could not be read although nobody said so before.
    race : how a race went; None for a survey of all images.
    """

    dataset: str
    rows: tuple[SurveyRow, ...]
    pairs: int = 0
    notes: tuple[str, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)
    race: Outcome | None = None

    @property
    def best(self) -> SurveyRow | None:
        """The row with most test images right; None without any figure."""
        return next((row for row in self.rows if row.standing == BEST), None)

    @property
    def alike(self) -> tuple[SurveyRow, ...]:
        """Rows that cannot be told from the best after the correction."""
        return tuple(row for row in self.rows if row.standing == ALIKE)

    @property
    def failed(self) -> tuple[SurveyRow, ...]:
        """Rows without a figure; each has a `problem`."""
        return tuple(row for row in self.rows if row.standing == FAILED)

    @cached_property
    def table(self) -> Table:
        """Every field of every row."""
        return Table(map(asdict, self.rows))

    def shown(self) -> Table:
        """The rows with a figure, in columns for a reader."""
        return Table(_cells(row) for row in self.rows if row.standing != FAILED)

    def figure(self, path: str | Path) -> int:
        """Draw accuracy with its interval over the cost of the features into a .png, .svg or .pdf file.

        Returns how many rows are drawn: those whose cost is known. UsageError for another name.
        """
        from probe.survey.figure import write_figure

        return write_figure(self, Path(path))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "dataset": self.dataset,
            "best": None if self.best is None else self.best.run,
            "rows": [asdict(row) for row in self.rows],
            "pairs": self.pairs,
            "failed": len(self.failed),
            "unreadable": dict(self.unreadable),
            "notes": list(self.notes),
            **({} if self.race is None else {"race": _race_record(self.race)}),
        }

    def lines(self, width: int = WIDTH) -> list[str]:
        """The table for people, in lines of at most `width` columns."""
        scored = [row for row in self.rows if row.standing != FAILED]
        lines = _table_lines(scored, width) if scored else []
        for text in (*self._legend(), *self.notes):
            lines += wrapped(text, width)
        for told in self._failures():
            lines += wrapped(told, width)
        return lines

    def _failures(self) -> list[str]:
        """A line for every reason, with the rows that it is the reason of."""
        rows: dict[tuple[str, str], list[str]] = {}
        for row in self.failed:
            rows.setdefault((row.backbone, str(row.problem)), []).append(f"{row.output} {row.head}")
        return [f"failed: {name}, {', '.join(of)}: {problem}" for (name, problem), of in rows.items()]

    def _legend(self) -> list[str]:
        if self.best is None:
            return ["no row has a figure"]
        if self.race is not None:
            return _race_legend(self.race)
        said = ["* best on the test images"]
        if self.pairs:
            said.append(f"= not told from it, by paired tests corrected for {count_of(self.pairs, 'pair')}")
        return ["; ".join(said) + "; intervals of 95 %"]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        from probe.notebook import table_html

        return table_html(f"Survey of {self.dataset}", self.shown())


def make_survey(
    dataset: str,
    entries: Sequence[Entry],
    notes: Sequence[str] = (),
    unreadable: Mapping[str, int] | None = None,
) -> Survey:
    """Compare the runs of `entries`, every pair with Holm's correction, and put them in order.

    All pairs are corrected for, since which one is the best is known from the same images. FitError where the
    runs cannot be paired.
    """
    runs = list({entry.run.name: entry.run for entry in entries if entry.run is not None}.values())
    runs.sort(key=_accuracy, reverse=True)
    pairs = compare_all(runs) if len(runs) > 1 else []
    rows = [_row(entry, runs[0].name if runs else "", pairs) for entry in entries]
    order = sorted(rows, key=lambda row: (row.standing == FAILED, row.standing != BEST, -(row.accuracy or 0)))
    on = compared_on(runs) if len(runs) > 1 else []
    return Survey(dataset, tuple(order), len(pairs), (*notes, *on), dict(unreadable or {}))


def make_race(
    dataset: str,
    outcome: Outcome,
    runs: Mapping[Candidate, Run],
    stores: Mapping[str, Store],
    notes: Sequence[str] = (),
    unreadable: Mapping[str, int] | None = None,
) -> Survey:
    """The table of a race: the kept one, those not told from it, and those dropped, the last first."""
    standings = dict.fromkeys(outcome.survivors, ALIKE) | dict.fromkeys(outcome.dropped, DROPPED)
    standings |= dict.fromkeys(outcome.left, LEFT)
    standings |= {} if outcome.kept is None else {outcome.kept: BEST}
    seen = {**dict.fromkeys(outcome.survivors, len(outcome.looks) + 1), **outcome.dropped, **outcome.left}
    order = sorted(standings, key=lambda one: (one != outcome.kept, -seen[one], -outcome.expected[one]))
    rows = [_raced(one, standings[one], outcome, runs[one], stores[one.backbone]) for one in order]
    rows += [SurveyRow(*one, problem=why) for one, why in outcome.failed.items()]
    return Survey(dataset, tuple(rows), 0, tuple(notes), dict(unreadable or {}), outcome)


def _raced(candidate: Candidate, standing: str, outcome: Outcome, run: Run, store: Store) -> SurveyRow:
    right, judged = outcome.right[candidate], outcome.judged[candidate]
    low, high = wilson(right, judged)
    row = SurveyRow(*candidate, run=run.name, store=store.name, n=judged, standing=standing)
    row = replace(row, accuracy=right / judged, accuracy_low=low, accuracy_high=high)
    row = replace(row, expected=outcome.expected[candidate])
    return replace(row, images=store.manifest.layout.rows, **_costs(store, candidate.output))


def _race_record(race: Outcome) -> dict[str, Any]:
    return {
        "passes": race.passes,
        "passes_of_all": race.full,
        "share": race.share,
        "looks": [
            {
                "fitted_on": look.fitted_on,
                "judged": look.judged,
                "candidates": look.candidates,
                "dropped": [list(candidate) for candidate in look.dropped],
                "left": [list(candidate) for candidate in look.left],
            }
            for look in race.looks
        ],
    }


def _race_legend(race: Outcome) -> list[str]:
    said = [
        "* kept; = not told from it; x shown to be worse; - left behind, no longer paid for",
        "accuracy on the images judged, none of the test part; expected: in %, once all images are fitted on",
    ]
    said += [
        f"look {number}: fitted on {look.fitted_on:,}, judged on {look.judged:,}: "
        f"{count_of(look.candidates, 'candidate')}, {len(look.dropped)} worse, {len(look.left)} left behind"
        for number, look in enumerate(race.looks, start=1)
    ]
    return [*said, f"{100 * race.share:.1f} % of the image passes of a survey of all images"]


def _accuracy(run: Run) -> float:
    return run.test.accuracy if run.test is not None else 0.0


def _row(entry: Entry, best: str, pairs: Sequence[PairResult]) -> SurveyRow:
    row = SurveyRow(entry.backbone, entry.output, entry.head, problem=entry.problem)
    if entry.run is None or entry.store is None or entry.run.test is None:
        return row
    test = entry.run.test
    row = replace(
        row,
        run=entry.run.name,
        store=entry.store.name,
        n=test.n,
        accuracy=test.accuracy,
        accuracy_low=test.accuracy_low,
        accuracy_high=test.accuracy_high,
        standing=BEST if entry.run.name == best else ALIKE,
        **_costs(entry.store, entry.output),
    )
    return replace(row, **_against_best(entry.run.name, best, pairs))


def _costs(store: Store, output: str) -> dict[str, Any]:
    """Speed, width and megabytes of an output."""
    layout = store.manifest.layout
    return {
        "images_per_s": _speed(store.manifest.facts),
        "width": math.prod(store.output_shapes[output]),
        "megabytes": round(layout.rows * layout.row_bytes(output) / 1e6, 3),
    }


def _speed(facts: Mapping[str, Any]) -> float | None:
    """Images/s of the call that finished a store; stores from before it was recorded do not tell."""
    computed, seconds = facts.get("rows_computed"), facts.get("seconds")
    return round(computed / seconds, 2) if computed and seconds else None


def _against_best(run: str, best: str, pairs: Sequence[PairResult]) -> dict[str, Any]:
    """The difference to the best of one run, from the comparisons of all pairs."""
    for pair in pairs:
        found = pair.comparison
        if {found.name_a, found.name_b} == {run, best} and run != best:
            ends = (found.low, found.high) if found.name_a == run else (-found.high, -found.low)
            return {
                "standing": WORSE if found.shown else ALIKE,
                "difference": found.difference if found.name_a == run else -found.difference,
                "difference_low": ends[0],
                "difference_high": ends[1],
                "p_value": found.p_value,
            }
    return {}


def _cells(row: SurveyRow) -> dict[str, Any]:
    """A row in columns; percent, and a blank where nothing is known."""
    return {
        " ": MARKS[row.standing],
        "backbone": row.backbone,
        "output": row.output,
        "head": row.head,
        "accuracy, %": f"{100 * (row.accuracy or 0):.1f} ({_percent_interval(row)})",
        **({} if row.expected is None else {"expected": f"{100 * row.expected:.1f}"}),
        "img/s": "–" if row.images_per_s is None else _three_digits(row.images_per_s),
        "width": row.width,
        "MB": _three_digits(row.megabytes or 0),
    }


def _percent_interval(row: SurveyRow) -> str:
    return f"{100 * (row.accuracy_low or 0):.1f}–{100 * (row.accuracy_high or 0):.1f}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table_lines(rows: Sequence[SurveyRow], width: int) -> list[str]:
    """The columns under each other; names are shortened in their middle where a line would be too long."""
    cells = [_cells(row) for row in rows]
    header = list(cells[0])
    room = {
        name: max(len(str(cell[name])) for cell in [dict(zip(header, header, strict=True)), *cells])
        for name in header
    }
    names = ("backbone", "output", "head")
    over = sum(room.values()) + 2 * (len(header) - 1) - width
    while over > 0:
        longest = max(names, key=room.__getitem__)
        if room[longest] <= NARROWEST_NAME:
            break
        room[longest] -= 1
        over -= 1
    shown = [[_aligned(name, cell[name], room[name]) for name in header] for cell in cells]
    return [line.rstrip() for line in table(header, shown)]


def _aligned(column: str, value: Any, room: int) -> str:
    text = clipped(str(value), room)
    return text.rjust(room) if column in ("expected", "img/s", "width", "MB") else text
