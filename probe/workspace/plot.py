"""Single figures of runs and stores, for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.drawing import check_format, save
from probe.errors import unknown_name
from probe.runs import Run
from probe.workspace.context import Context
from probe.workspace.keywords import one_of

if TYPE_CHECKING:
    from probe.store import Store


def plot(
    context: Context,
    what: str,
    names: Sequence[Run | Store | str],
    output: Path,
    *,
    title: str = "",
    map: str = "pca",
    colour: str = "class",
) -> Path:
    """Draw a figure of `probe.report.plots.PLOTS` and write it as the suffix of `output` says; where it lies.

    UsageError for a file that cannot be written or for runs that have no such figure, UnknownNameError for
    what is no run, store or figure.
    """
    from probe.report.maps import check_method
    from probe.report.plots import COLOURS, PLOTS, draw

    if what not in PLOTS:
        raise unknown_name("figure", what, PLOTS)
    check_format(output)
    check_method(map)
    one_of(COLOURS, colour=colour)
    return save(draw(what, context.home, names, title=title, map=map, colour=colour), output)
