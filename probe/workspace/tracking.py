"""Runs in the trackers that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probe.runs import Run
from probe.workspace.context import Context


def check_trackers(targets: Sequence[str]) -> None:
    """UsageError for what is no tracker, before there is any work; looks at nothing where there are none."""
    if targets:
        from probe.report.tracking import check_tracker

        for target in targets:
            check_tracker(target)


def log_run(context: Context, run: Run, targets: Sequence[str]) -> None:
    """Log a finished run to ``mlflow[:URI]`` or ``tensorboard:FOLDER``.

    ProbeError where one cannot be reached; the run is kept, and `log_run` can be called again.
    """
    check_trackers(targets)
    for target in targets:
        from probe.report.tracking import track

        track(run, target)
        context.say(f"run {run.name} logged to {target}")


def log_sweep(context: Context, folder: Path, targets: Sequence[str]) -> None:
    """Log every cell of a finished sweep as `log_run` does a run; raises as it."""
    check_trackers(targets)
    for target in targets:
        from probe.report.tracking import track_sweep

        track_sweep(folder, target)
        context.say(f"sweep {folder.name} logged to {target}")
