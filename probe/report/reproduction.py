"""Published against measured, as Markdown and as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from probe.config import Home
from probe.curves import picture_of
from probe.durable import replacing
from probe.errors import UsageError
from probe.report.render import policy_of, render
from probe.runs import course_of, find_run
from probe.studies.baselines import COMPARISONS
from probe.studies.recipe import Ran
from probe.studies.reproduce import ABOVE, BELOW, INSIDE, NO_FIGURE, NOT_RUN, Verdict

HEADINGS = (
    "experiment",
    "published",
    "measured, 95 % interval",
    "verdict",
    "epochs, best val. accuracy there",
    "the same here",
    "remarks",
)
ORDER = (INSIDE, ABOVE, BELOW, NO_FIGURE, NOT_RUN)
READING = (
    "The interval is of the test images (Wilson; over folds, Student's t).",
    "It leaves out the chance of one training against another, which moved a study's figure by 2.7 points.",
    "A verdict in brackets is of other data or a scaled-down training: it says nothing about the study.",
)


@dataclass(frozen=True)
class Picture:
    """A figure of a page: what it shows, its PNG, and what more is said of it."""

    title: str
    png: bytes
    summary: str = ""

    @property
    def uri(self) -> str:
        """The PNG as a part of a page."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def write_report(verdicts: Sequence[Verdict], path: Path, title: str, home: Home) -> None:
    """Write ``.html`` (with the curves) or ``.md`` as the suffix says; UsageError for another one."""
    check_suffix(path)
    if path.suffix == ".html":
        text = html(verdicts, title, draw_comparisons(verdicts, home))
    else:
        text = markdown(verdicts, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_suffix(path: Path) -> None:
    """UsageError unless a report can be written to `path`."""
    if path.suffix not in (".html", ".md"):
        raise UsageError(f"a report cannot be written to {path}", expected="a name that ends in .html or .md")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def counts(verdicts: Sequence[Verdict]) -> str:
    """``14 rows: 3 inside, 2 below, 9 not run``; every row is in one of them."""
    found = [(name, sum(verdict.verdict == name for verdict in verdicts)) for name in ORDER]
    return f"{len(verdicts)} rows: " + ", ".join(f"{count} {name}" for name, count in found if count)


def ran_text(ran: Ran | None) -> str:
    """``43, 0.6135 at 38``: epochs, the best validation accuracy, and the first epoch of it."""
    if ran is None:
        return "–"
    best = "" if ran.val_accuracy is None else f", {ran.val_accuracy:.4f}"
    return f"{ran.epochs}{best}" + ("" if ran.best_epoch is None else f" at {ran.best_epoch}")


def cells(verdict: Verdict) -> tuple[str, ...]:
    """A verdict as the text of `HEADINGS`."""
    name = verdict.experiment + (f" ({verdict.label})" if verdict.label else "")
    published = "–"
    if verdict.published is not None:
        high = "" if verdict.published_high is None else f" – {verdict.published_high:.4f}"
        published = f"{verdict.published:.4f}{high}" + (" val" if verdict.part == "validation" else "")
    measured = "–"
    if verdict.measured is not None and verdict.low is not None and verdict.high is not None:
        measured = f"{verdict.measured:.4f} ({verdict.low:.4f} – {verdict.high:.4f})"
    judged = verdict.verdict in (INSIDE, ABOVE, BELOW)
    said = f"({verdict.verdict})" if judged and not verdict.comparable else verdict.verdict
    return name, published, measured, said, ran_text(verdict.there), ran_text(verdict.here), verdict.why


def filled(verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table, without columns that say nothing of any verdict."""
    rows = [cells(verdict) for verdict in verdicts]
    said = [any(row[place] not in ("", "–") for row in rows) for place in range(len(HEADINGS))]
    return _chosen(HEADINGS, said), [_chosen(row, said) for row in rows]


def _chosen(row: Sequence[str], said: Sequence[bool]) -> tuple[str, ...]:
    return tuple(text for text, has in zip(row, said, strict=True) if has)


def markdown(verdicts: Sequence[Verdict], title: str) -> str:
    """A table, the commands that each experiment is, and how to read it."""
    lines = [f"# {_md(title)}", "", f"{counts(verdicts)}. {_now()}", ""]
    headings, rows = filled(verdicts)
    lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(map(_md, row)) + " |" for row in rows]
    commands = _commands(verdicts)
    if commands:
        lines += ["", "## Commands", ""]
        for name, run in commands:
            lines += [f"{_md(name)}:", "", *(f"    {line}" for line in run), ""]
    return "\n".join([*lines, "", *READING, ""])


def draw_comparisons(verdicts: Sequence[Verdict], home: Home) -> list[Picture]:
    """What the studies draw over one another, as far as two or more of the runs are among the verdicts."""
    runs = {verdict.experiment: verdict.run for verdict in verdicts if verdict.run is not None}
    pictures = []
    for comparison in COMPARISONS:
        found = {row: course_of(find_run(home, runs[row])) for row in comparison.rows if row in runs}
        courses = {row.partition("/")[2]: course for row, course in found.items() if course is not None}
        if len(courses) > 1:
            study = comparison.rows[0].partition("/")[0]
            pictures.append(Picture(f"{study}: {comparison.title}", picture_of(courses)))
    return pictures


def html(verdicts: Sequence[Verdict], title: str, comparisons: Sequence[Picture] = ()) -> str:
    """A page that reads on a telephone too; pictures are part of it."""
    headings, texts = filled(verdicts)
    return render(
        "reproduction.html.j2",
        title=title,
        policy=policy_of(()),
        counts=counts(verdicts),
        now=_now(),
        headings=headings,
        rows=[
            {"kind": _kind(verdict), "summary": verdict.summary, "cells": row}
            for verdict, row in zip(verdicts, texts, strict=True)
        ],
        commands=_commands(verdicts),
        comparisons=comparisons,
        curves=_pictures(verdicts),
        reading=READING,
    )


def _kind(verdict: Verdict) -> str:
    """How its row is marked: a verdict on other data is none on the study."""
    return verdict.verdict.split()[0] if verdict.comparable or verdict.measured is None else "other"


def _pictures(verdicts: Sequence[Verdict]) -> list[Picture]:
    """The curves of every experiment; those of a sweep have all of its settings."""
    shown = {verdict.curves: verdict for verdict in verdicts if verdict.curves is not None}
    return [
        Picture(verdict.experiment, path.read_bytes(), verdict.summary)
        for path, verdict in shown.items()
        if path.is_file()
    ]


def _commands(verdicts: Sequence[Verdict]) -> list[tuple[str, tuple[str, ...]]]:
    """Experiment -> the command lines that it is."""
    return list({verdict.experiment: verdict.commands for verdict in verdicts if verdict.commands}.items())


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _md(text: str) -> str:
    """Text that cannot leave its cell nor become markup."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
