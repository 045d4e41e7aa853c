"""Results on disk."""

from probe.runs.pairing import align, pair_predictions, paired
from probe.runs.run import (
    Predictions,
    Run,
    RunError,
    find_run,
    list_runs,
    open_run,
    remove_run,
    write_run,
)
from probe.runs.scoring import scores

__all__ = [
    "Predictions",
    "Run",
    "RunError",
    "align",
    "find_run",
    "list_runs",
    "open_run",
    "pair_predictions",
    "paired",
    "remove_run",
    "scores",
    "write_run",
]
