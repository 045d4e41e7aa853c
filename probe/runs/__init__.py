"""Results on disk."""

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

__all__ = [
    "Predictions",
    "Run",
    "RunError",
    "find_run",
    "list_runs",
    "open_run",
    "remove_run",
    "write_run",
]
