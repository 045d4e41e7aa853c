"""``probe compare``: is the difference between runs real?"""

from __future__ import annotations

import click

from probe.commands.completion import runs as run_names
from probe.commands.options import emit, json_option
from probe.config import Home
from probe.workspace.compare import compare
from probe.workspace.context import Context


@click.command(name="compare")
@click.argument("runs", metavar="RUN RUN [RUN…]", nargs=-1, shell_complete=run_names)
@json_option
@click.pass_obj
def command(home: Home, runs: tuple[str, ...], as_json: bool) -> None:
    """Compare runs on the test images they share: score test and the interval that belongs to it.

    Of three or more runs every pair is compared, with Holm's correction for looking so often in test and
    interval. Images of one group count as the group they are. ``latest`` and ``latest:2`` name the newest run
    and the one before it.
    """
    done = compare(Context(home), runs)
    emit(done.to_json(), as_json, done.lines)
