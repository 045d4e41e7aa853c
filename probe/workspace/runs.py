"""Which run is meant, and who hears which was taken."""

from __future__ import annotations

from probe.runs import Run, find_run
from probe.workspace.context import Context


def take_run(context: Context, named: Run | str | None) -> Run:
    """The run itself, or the one that a name means, which is then said; raises as `probe.runs.find_run`."""
    if isinstance(named, Run):
        return named
    found = find_run(context.home, named)
    context.say(f"run {found.name}")
    return found
