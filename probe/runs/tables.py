"""The tables of a run: classes, confusions, mistakes, what was tried, the learning curve, the epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from probe.errors import RunError
from probe.records import FieldError, plain, read_value, without_nan
from probe.runs.record import TrainFacts, TuneFacts, damaged
from probe.table import Table
from probe.whole import RECORD, read_text

if TYPE_CHECKING:
    from probe.runs.run import Run

HISTORY = "history.json"
SeedHistories = tuple[tuple[Mapping[str, float | None], ...], ...]
"""Of every seed, of every epoch, figure -> value; None where it is no number."""


def write_history(seeds: Sequence[Sequence[Mapping[str, float]]], folder: Path) -> None:
    """Keep what `SeedHistories` says of a head that was trained by epochs."""
    text = json.dumps(without_nan(seeds), allow_nan=False)
    (folder / HISTORY).write_text(text, encoding="utf-8")


def read_history(run: Run) -> SeedHistories:
    """What `write_history` kept, empty where nothing was; RunError when the file is damaged or another's."""
    path = run.path / HISTORY
    try:
        # Older versions wrote NaN and infinities, for which JSON has no word.
        recorded = json.loads(read_text(path, RECORD), parse_constant=lambda word: None)
        found: SeedHistories = read_value(SeedHistories, recorded)
        run.expect_own(HISTORY)
    except FileNotFoundError:
        return ()
    except FieldError as error:
        raise damaged(path, error) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read", found=str(error)) from error
    return found


def _of_analysis(part: str, run: Run) -> Table:
    return Table(plain(getattr(run.analysis, part)) if run.analysis is not None else [])


def _of_fit(part: str, run: Run) -> Table:
    return Table(plain(getattr(run.record.facts, part, None)) or [])


def _history(run: Run) -> Table:
    """One row an epoch; of a head trained with several seeds the seeds one after the other."""
    facts = run.record.facts
    if isinstance(facts, TuneFacts | TrainFacts):
        epochs = range(1, 1 + max(map(len, facts.history.values()), default=0))
        return Table(
            {"epoch": epoch, **{name: values[epoch - 1] for name, values in facts.history.items()}}
            for epoch in epochs
        )
    return Table(
        {"seed": seed, "epoch": epoch, **figures}
        for seed, epochs in enumerate(read_history(run))
        for epoch, figures in enumerate(epochs, 1)
    )


TABLES: Mapping[str, Callable[[Run], Table]] = {
    "per_class": partial(_of_analysis, "per_class"),
    "most_confused": partial(_of_analysis, "most_confused"),
    "confident_mistakes": partial(_of_analysis, "confident_mistakes"),
    "reliability": partial(_of_analysis, "reliability"),
    "path": partial(_of_fit, "path"),
    "curve": partial(_of_fit, "curve"),
    "dropped_classes": partial(_of_fit, "dropped_classes"),
    "history": _history,
}
"""Name -> how the table of a run is made."""
