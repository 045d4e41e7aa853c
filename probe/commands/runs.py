"""``probe runs``: the results that have been kept."""

from __future__ import annotations

from typing import Any

import click

from probe.commands.options import emit, json_option, note, table
from probe.commands.results import result_lines
from probe.config import Home
from probe.runs import Run, find_run, list_runs, remove_run


@click.group(name="runs")
def command() -> None:
    """List, show and remove results."""


@command.command()
@json_option
@click.pass_obj
def ls(home: Home, as_json: bool) -> None:
    """List the runs, newest first."""
    runs, problems = list_runs(home)
    rows = [_row(run) for run in runs]
    emit(rows, as_json, lambda: _table(rows) if rows else [f"no run in {home.runs}"])
    for path, error in problems:
        note(f"{path.name}: {error.problem}")


def _row(run: Run) -> dict[str, Any]:
    result = run.result
    test = result.get("test") or {}
    return {
        "run": run.name,
        "head": result.get("head"),
        "dataset": result.get("dataset"),
        "backbone": (result.get("backbone") or {}).get("name"),
        "accuracy": test.get("accuracy"),
        "accuracy_low": test.get("accuracy_low"),
        "accuracy_high": test.get("accuracy_high"),
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [
        (
            row["run"],
            row["head"],
            row["dataset"],
            row["backbone"] or "–",
            "–"
            if row["accuracy"] is None
            else f"{row['accuracy']:.4f} ({row['accuracy_low']:.4f} – {row['accuracy_high']:.4f})",
        )
        for row in rows
    ]
    return table(("run", "head", "data set", "backbone", "test accuracy (95 %)"), cells)


@command.command()
@click.argument("run", required=False)
@json_option
@click.pass_obj
def show(home: Home, run: str | None, as_json: bool) -> None:
    """Show a RUN (by default the newest)."""
    found = find_run(home, run)
    emit(dict(found.result), as_json, lambda: result_lines(found))


@command.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(home: Home, run: str, yes: bool) -> None:
    """Delete a RUN; its full folder name is required."""
    if not yes:
        click.confirm(f"delete the run {run}?", abort=True, err=True)
    note(f"removed {remove_run(home, run)}")
