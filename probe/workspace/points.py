"""The images of a run or a store as points for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probe.progress import Progress
from probe.runs import Run
from probe.workspace.context import Context

if TYPE_CHECKING:
    from probe.report.points import Points
    from probe.store import Store

POINTS = Path("points.parquet")


def points(
    context: Context, name: Run | Store | str | None, output: Path, *, map: str, images: bool
) -> Points:
    """Write the points of a run, with what it said, or of a store; of the newest run where none is named.

    UsageError for a file that cannot be written, UnknownNameError for what is neither run nor store,
    StoreError where the store of a run is gone.
    """
    from probe.report.maps import check_method
    from probe.report.points import check_points, write_points
    from probe.report.sources import find_sources, source_of_run, source_of_store

    check_points(output)
    check_method(map)
    runs, stores = find_sources(context.home, [] if name is None else [name])
    run = runs[0] if runs else None
    if name is None and run is not None:
        context.say(f"run {run.name} (the newest)")
    source = source_of_run(run, context.home) if run is not None else source_of_store(stores[0], context.home)
    if images and source.no_pictures:
        context.say(f"note: without pictures: {source.no_pictures}")
    with Progress(f"points of {source.store.name}", shown=context.progress):
        return write_points(source, run, output, method=map, pictures=images)
