"""What a run's test predictions say beyond one number, told to a person: classes, confusions, mistakes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from probe.runs import Record, Run, RunError
from probe.runs.record import ClassScores, Confused, FitFacts, MistakenImage
from probe.text import clipped, count_of

SHOWN = 5
"""Lines of each kind; ``--json`` has all that was kept."""

WIDEST, USUAL, NARROWEST, TAB = 110, 80, 60, 10
"""Columns of the widest line that is made, of one where there is no terminal, of the narrowest, and of what
stands before a line."""


def finding_lines(run: Run) -> list[str]:
    """Worst classes, confusions, calibration and mistakes of a run that has test predictions, else nothing.

    Of runs that do not record them (older ones, `probe finetune`, `probe baseline run`) they are worked out
    from the predictions.
    """
    try:
        found = run.analysis
    except RunError as error:
        return [f"classes   not known: {error.problem}"]
    if found is None:
        return []
    names = _name_width()
    facts = run.record.facts
    origin = facts.origin if isinstance(facts, FitFacts) else None
    return [
        *_class_lines(found.per_class, names),
        *_confusion_lines(found.most_confused, names),
        *_calibration_lines(run.record),
        *_mistake_lines(found.confident_mistakes, names, origin),
    ]


def columns() -> int:
    """Columns of the lines that are made here: those of the terminal, within bounds."""
    return min(max(shutil.get_terminal_size((USUAL, 24)).columns, NARROWEST), WIDEST)


def _name_width() -> int:
    """Columns for a class name, so that two of them and the figures beside them fit on a line."""
    return (columns() - TAB - 30) // 2


def _aligned(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under each other, the last one as long as it is; the title stands before the first line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{title if number == 0 else '':<{TAB}}"
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for number, row in enumerate(rows)
    ]


def _class_lines(classes: Sequence[ClassScores], names: int) -> list[str]:
    """The classes with the smallest share of their images right."""
    known = [(row.recall, row) for row in classes if row.recall is not None]
    scored = sorted(known, key=lambda pair: (pair[0], -pair[1].n))
    if not scored:
        return []
    rows = [
        (
            clipped(row.name, names),
            f"{recall:.4f}",
            f"{row.recall_low:.4f} – {row.recall_high:.4f}",
            f"({round(recall * row.n):,} of {count_of(row.n, 'image')})",
        )
        for recall, row in scored[:SHOWN]
    ]
    return _aligned("worst" if len(scored) > SHOWN else "classes", rows)


def _confusion_lines(pairs: Sequence[Confused], names: int) -> list[str]:
    rows = [
        (
            clipped(pair.true, names),
            "called " + clipped(pair.called, names),
            f"{pair.count:,} ({100 * pair.share:.0f} %)",
        )
        for pair in pairs[:SHOWN]
    ]
    return _aligned("confused", rows) if rows else []


def _calibration_lines(record: Record) -> list[str]:
    """What the temperature that fits validation does to the test figures."""
    found = record.facts.calibration if isinstance(record.facts, FitFacts) else None
    test = record.test
    if found is None or test is None:
        return []
    on = f", fitted on {count_of(found.fitted_on, 'validation image')}" if found.fitted_on is not None else ""
    return [
        f"calibrate by temperature {found.temperature:.4g}{on}:",
        (
            f"          calibration error {test.ece:.4f} → {found.test_ece:.4f},"
            f" log-loss {test.log_loss:.4f} → {found.test_log_loss:.4f}"
        ),
    ]


def _mistake_lines(mistakes: Sequence[MistakenImage], names: int, origin: str | None) -> list[str]:
    """The wrong images of the highest probability; the file comes last and is never shortened."""
    if not mistakes:
        return []
    rows = [
        (
            f"{mistake.probability:.4f}",
            clipped(mistake.true, names),
            "called " + clipped(mistake.called, names),
        )
        for mistake in mistakes[:SHOWN]
    ]
    where = f"in {origin}:" if origin is not None and Path(origin).is_dir() else ""
    told = _aligned("" if where else "mistakes", rows)
    lines = [f"mistakes  {where}"] if where else []
    files = [mistake.id for mistake in mistakes[:SHOWN]]
    table = max(map(len, told))
    if table + 2 + max(map(len, files)) <= columns():
        return lines + [f"{line:<{table}}  {file}" for line, file in zip(told, files, strict=True)]
    # One under the other where they do not fit beside each other: the ids are paths.
    return lines + [
        part for line, file in zip(told, files, strict=True) for part in (line, f"{'':<18}{file}")
    ]
