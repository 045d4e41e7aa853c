"""``probe runs``: the results that have been kept."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import runs as run_names
from probe.commands.options import (
    confirmed,
    emit,
    emit_table,
    folder_facts,
    json_option,
    note,
    nothing_in,
    table_options,
)
from probe.config import Home
from probe.errors import EXIT_DONE, EXIT_FAILED
from probe.report.runs import result_lines
from probe.runs import RunError, find_run, list_runs, name_run, open_run, remove_run, run_folder
from probe.table import Table
from probe.text import rows_table
from probe.workspace.context import Context
from probe.workspace.rows import run_facts, run_row, select
from probe.workspace.tracking import log_run


@click.group(name="runs")
def command() -> None:
    """List, show, name and remove results."""


@command.command()
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only runs of which this holds, such as head=logreg; several all hold.  [default: all]",
)
@click.option(
    "--sort",
    metavar="FIELD",
    help="Order by a field of --json, numbers from the largest.  [default: the one finished last first]",
)
@table_options
@json_option
@click.pass_obj
def ls(home: Home, where: tuple[str, ...], sort: str | None, form: str | None, as_json: bool) -> None:
    """List the runs, the one finished last first: ``latest``, ``latest:2`` and so on."""
    runs, problems = list_runs(home)
    rows = select([run_facts(run) for run in runs], where, sort)
    if form is not None:
        emit_table(Table(rows if form == "csv" else map(run_row, rows)), form)
    else:
        emit(rows, as_json, lambda: rows_table(map(run_row, rows)) or [nothing_in("run", home.runs)])
    for path, error in problems:
        note(f"{path.name}: {error.problem}")


@command.command()
@click.argument("run", required=False, shell_complete=run_names)
@json_option
@click.pass_obj
def show(home: Home, run: str | None, as_json: bool) -> None:
    """Show a RUN (by default the newest).

    RUN is a name from `probe runs ls` or a part of it, a path, or ``latest`` or ``latest:2``.
    """
    found = find_run(home, run)
    emit(dict(found.result), as_json, lambda: result_lines(found))


@command.command(name="note")
@click.argument("run", shell_complete=run_names)
@click.argument("text")
@click.pass_obj
def note_command(home: Home, run: str, text: str) -> None:
    """Say TEXT of a RUN; an empty TEXT takes the note away."""
    note(f"noted: {name_run(home, find_run(home, run), note=text).name}")


@command.command()
@click.argument("run", shell_complete=run_names)
@click.argument("name")
@click.pass_obj
def name(home: Home, run: str, name: str) -> None:
    """Call a RUN by a NAME, by which commands find it from then on; an empty NAME takes it away."""
    note(f"named: {name_run(home, find_run(home, run), name=name).name}")


@command.command(name="log")
@click.argument("run", shell_complete=run_names)
@click.argument("trackers", nargs=-1, required=True, metavar="TRACKER...")
@click.pass_obj
def log_command(home: Home, run: str, trackers: tuple[str, ...]) -> None:
    """Log a RUN to mlflow[:URI] or tensorboard:DIR (extra `tracking`)."""
    log_run(Context(home), find_run(home, run), trackers)


@command.command()
@click.argument("run", shell_complete=run_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(home: Home, run: str, yes: bool) -> int:
    """Delete a RUN; its full folder name is required, or ``latest``."""
    path = run_folder(home, run)
    if not yes and not confirmed(_told(path)):
        return EXIT_FAILED
    note(f"removed {remove_run(home, path.name)}")
    return EXIT_DONE


def _told(path: Path) -> str:
    """What would be deleted."""
    try:
        row = run_facts(open_run(path))
    except RunError as error:
        return f"run {path.name}: {error.problem}; {folder_facts(path)}"
    scored = "" if row["accuracy"] is None else f", test accuracy {row['accuracy']:.4f}"
    return f"run {path.name}: {row['head']} on {row['dataset']}{scored}; {folder_facts(path)}"
