"""Runs and stores as one page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.durable import replacing
from probe.progress import Progress
from probe.runs import Run
from probe.workspace.context import Context

if TYPE_CHECKING:
    from probe.store import Store

REPORT = Path("report.html")


def report(
    context: Context, names: Sequence[Run | Store | str], output: Path, *, map: str, title: str
) -> Path:
    """Write the page of some runs and stores, of the newest run where none is named; where it lies.

    UsageError for a page that cannot be written there, UnknownNameError for what is neither run nor store.
    What a run no longer has (its store, its data set) is left out, and the page says so.
    """
    from probe.report.gather import gather
    from probe.report.maps import check_method
    from probe.report.render import check_page, page_bytes
    from probe.report.sources import find_sources

    check_page(output)
    check_method(map)
    runs, stores = find_sources(context.home, names)
    if not names:
        context.say(f"run {runs[0].name} (the newest)")
    with Progress(f"report on {(runs or stores)[0].name}", shown=context.progress):
        page = gather(context.home, runs, stores, map_method=map, title=title)
    for note in page.notes:
        context.say(f"note: {note}")
    content = page_bytes(page)
    with replacing(output) as partial:
        partial.write_bytes(content)
    return output
