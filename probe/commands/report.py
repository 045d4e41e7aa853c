"""``probe report``: runs and stores as one page to look at."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import runs_and_stores
from probe.commands.options import emit, json_option, map_option, quiet_option
from probe.config import Home
from probe.workspace.context import Context
from probe.workspace.report import REPORT, report


@click.command(name="report")
@click.argument("names", nargs=-1, metavar="[RUN|STORE]...", shell_complete=runs_and_stores)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=REPORT,
    show_default=True,
    help="File to write: .html.",
)
@map_option
@click.option(
    "--title", default="", show_default=False, help="Above the page.  [default: data set, head and backbone]"
)
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home, names: tuple[str, ...], output: Path, map: str, title: str, as_json: bool, quiet: bool
) -> None:
    """Write one page to look at: figures with intervals, classes, mistakes, and a map of the embeddings.

    A RUN (by default the newest) is shown with its store, a STORE without any run; of several runs every pair
    is compared, and the first two are shown image by image. The file needs nothing beside it and no network.
    What a run no longer has, such as the pictures of its data set, is left out, and the page says so.
    """
    written = report(Context(home, quiet), names, output, map=map, title=title)
    emit({"file": str(written), "bytes": written.stat().st_size}, as_json, lambda: [f"report    {written}"])
