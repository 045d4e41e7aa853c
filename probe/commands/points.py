"""``probe points``: images as points for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import runs_and_stores
from probe.commands.options import emit, json_option, map_option, quiet_option
from probe.config import Home
from probe.workspace.context import Context
from probe.workspace.points import POINTS, points


@click.command(name="points")
@click.argument("name", required=False, metavar="[RUN|STORE]", shell_complete=runs_and_stores)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=POINTS,
    show_default=True,
    help="File to write: .parquet, or a folder for TensorBoard's projector.",
)
@map_option
@click.option("--images/--no-images", default=True, show_default=True, help="Small pictures go into it.")
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home, name: str | None, output: Path, map: str, images: bool, as_json: bool, quiet: bool
) -> None:
    """Write images as points for other programs, and say what opens them.

    Every image of a RUN's store (by default of the newest run) or of a STORE: id, label, split, what the run
    said of it where it was scored, its vector, its place on a map, and a small picture. Parquet (extra
    `parquet`) is read by embedding-atlas, DuckDB and pandas, and by way of pandas FiftyOne; the folder by
    TensorBoard.
    """
    written = points(Context(home, quiet), name, output, map=map, images=images)
    emit(written.to_json(), as_json, written.lines)
