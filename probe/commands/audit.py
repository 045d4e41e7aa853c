"""``probe audit``: what is wrong with the data, and what it does to the number."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import stores
from probe.commands.fit import CommaList
from probe.commands.options import emit, json_option, quiet_option
from probe.config import Home
from probe.workspace.audit import REMOVABLE, AuditKeywords, audit
from probe.workspace.context import Context
from probe.workspace.stores import take_store


@click.command(name="audit")
@click.argument("store", required=False, shell_complete=stores)
@click.option("--output", help="Which stored output.  [default: the store's first]")
@click.option(
    "--fix",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="Write a label file with the suspects marked, for people to decide.  [default: none]",
)
@click.option(
    "--remove",
    metavar="KINDS",
    type=CommaList(str),
    default=(),
    help=f"Of these kinds of suspects no label in that file: {','.join(REMOVABLE)}.  [default: only mark]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Seed of the folds in which labels are judged."
)
@click.option(
    "--memory",
    default="2GB",
    help="Features that take more than this, with what is held beside them, are read from disk in blocks.",
)
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    store: str | None,
    output: str | None,
    fix: Path | None,
    remove: tuple[str, ...],
    seed: int,
    memory: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Look through the data of a STORE (as `probe stores show` takes it; by default the newest).

    Finds exact and near copies within and across parts, pictures under several labels, likely wrong labels,
    outliers, classes that cannot be told apart and unreadable pictures, and says the test accuracy of
    logistic regression with and without each. The record is kept beside the store. Nothing is deleted.
    """
    from probe.audit import NotKeptError

    context = Context(home, quiet)
    wanted = AuditKeywords(output, memory, seed, fix, remove)
    try:
        found = audit(context, take_store(context, store), wanted)
    except NotKeptError as error:
        lost = error.audit
        emit(lost.to_json(), as_json, lost.lines)
        raise
    emit(found.to_json(), as_json, found.lines)
