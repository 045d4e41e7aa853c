"""How a run's training went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.curves import Course
from probe.errors import RunError
from probe.runs.record import FitFacts, TrainFacts, TuneFacts
from probe.runs.run import Run
from probe.runs.tables import read_history


def course_of(run: Run) -> Course | None:
    """Of a network its figures and the epoch that is scored; of a head those of the seed that was chosen.

    None where nothing was trained epoch by epoch. RunError for a history that cannot be read.
    """
    facts, chosen = run.record.facts, run.record.chosen or {}
    if isinstance(facts, TuneFacts):
        return Course(facts.history, chosen.get("epoch"), _known(facts.start))
    if isinstance(facts, TrainFacts):
        return Course(facts.history, facts.epochs.scored)
    seeds = read_history(run) if isinstance(facts, FitFacts) else ()
    if not isinstance(facts, FitFacts) or not seeds:
        return None
    try:
        epochs = seeds[chosen["seed"] - facts.options["seed"]]
    except (LookupError, TypeError) as error:
        raise RunError(f"{run.name} does not say which of its seeds was chosen", found=str(error)) from error
    history = {name: [epoch.get(name) for epoch in epochs] for name in epochs[0]}
    return Course(history, _best(history.get("val_loss", ())))


def _best(losses: Sequence[float | None]) -> int | None:
    """The epoch, from 1, of the lowest loss, the first of several: whose weights such a head keeps."""
    known = {epoch: loss for epoch, loss in enumerate(losses, 1) if loss is not None}
    return min(known, key=lambda epoch: known[epoch], default=None)


def _known(figures: Mapping[str, float | None] | None) -> dict[str, float] | None:
    return None if figures is None else {name: v for name, v in figures.items() if v is not None}
