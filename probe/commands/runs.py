"""``probe runs``: the results that have been kept."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.options import (
    confirmed,
    emit,
    folder_facts,
    json_option,
    note,
    nothing_in,
)
from probe.config import Home
from probe.errors import EXIT_DONE, EXIT_FAILED
from probe.report.runs import result_lines
from probe.runs import RunError, find_run, list_runs, open_run, remove_run, run_folder
from probe.text import rows_table
from probe.workspace.rows import run_facts, run_row


@click.group(name="runs")
def command() -> None:
    """List, show and remove results."""


@command.command()
@json_option
@click.pass_obj
def ls(home: Home, as_json: bool) -> None:
    """List the runs, the one finished last first: ``latest``, ``latest:2`` and so on."""
    runs, problems = list_runs(home)
    rows = [run_facts(run) for run in runs]
    emit(rows, as_json, lambda: rows_table(map(run_row, rows)) or [nothing_in("run", home.runs)])
    for path, error in problems:
        note(f"{path.name}: {error.problem}")


@command.command()
@click.argument("run", required=False)
@json_option
@click.pass_obj
def show(home: Home, run: str | None, as_json: bool) -> None:
    """Show a RUN (by default the newest).

    RUN is a name from `probe runs ls` or a part of it, a path, or ``latest`` or ``latest:2``.
    """
    found = find_run(home, run)
    emit(dict(found.result), as_json, lambda: result_lines(found))


@command.command()
@click.argument("run")
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
