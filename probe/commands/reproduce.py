"""``probe reproduce``: a study, published against measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands.options import (
    emit,
    json_option,
    limit_option,
    log_option,
    note,
    quiet_option,
    wants_progress,
)
from probe.commands.training import epochs_option, precision_option, say_precision
from probe.config import Home
from probe.errors import UsageError
from probe.text import table
from probe.workspace.context import Context
from probe.workspace.tracking import check_trackers, log_run, log_sweep

if TYPE_CHECKING:
    from probe.studies.recipe import Recipe
    from probe.studies.reproduce import Verdict


@click.command(name="reproduce")
@click.argument("study", required=False)
@click.option("--quick", is_flag=True, help="Scaled down: few epochs and images, to see everything work.")
@click.option(
    "--data-map",
    "mapped",
    multiple=True,
    metavar="NAME=DATASET",
    help="Use another data set in place of a study's, such as cifar10=fashion-mnist; repeatable."
    "  [default: none]",
)
@epochs_option
@limit_option
@precision_option
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Experiments at a time, each in a process of its own.",
)
@click.option(
    "--dask", metavar="ADDRESS", help="Run on a Dask cluster, tcp://host:port.  [default: on this machine]"
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report: .html or .md.  [default: none]",
)
@log_option
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    study: str | None,
    quick: bool,
    mapped: Sequence[str],
    epochs: int | None,
    limit: int | None,
    precision: str,
    jobs: int,
    dask: str | None,
    output: Path | None,
    trackers: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Run every experiment of a STUDY (by default of all) and print published against measured.

    STUDY is a name from `probe baseline list` before the slash, or one experiment. Every experiment is
    accounted for; what cannot be run here is said with the reason. What has been trained or fitted before
    with the same recipe and data is not repeated, so an interrupted reproduction goes on where it was.

    An experiment on a pretrained network is a few lines of `probe extract`, `probe fit` and `probe finetune`
    (`probe baseline show NAME`), run one after the other. Every experiment has a process of its own, so that
    memory does not grow with their number; the table is the same whatever --jobs.
    """
    from probe.report.reproduction import cells, check_suffix, counts, filled, write_report
    from probe.studies.reproduce import QUICK_EPOCHS, QUICK_LIMIT, Plan, recipes_of
    from probe.studies.rows import Rows, reproduce_in_processes

    if jobs > 1 and dask is not None:
        raise UsageError("--jobs and --dask exclude each other")
    if output is not None:
        check_suffix(output)
    check_trackers(trackers)
    recipes = recipes_of(study)
    plan = Plan(
        data=data_map(mapped),
        epochs=epochs or (QUICK_EPOCHS if quick else None),
        limit=limit or (QUICK_LIMIT if quick else None),
        precision=say_precision(precision, quiet),
    )
    if plan.scaled_down:
        note(f"scaled down: {plan.scaled_down}; the figures say nothing about the study", quiet)
    verdicts = []
    extra = {"program": _program(), "precision": precision, "quiet": quiet}
    rows = Rows("probe.commands.reproduce_row", extra, jobs, dask)

    def say(recipe: Recipe, line: str) -> None:
        note(line if jobs == 1 else f"{recipe.name}: {line}", quiet)

    progress = wants_progress(quiet)
    # Closed in any case: an interruption in this very loop ends the processes too.
    with closing(reproduce_in_processes(recipes, plan, home, rows, say=say, progress=progress)) as reached:
        for verdict in reached:
            name, _, measured, said, *_ = cells(verdict)
            note(
                f"{name}: {measured if verdict.measured is not None else ''} {said}".replace("  ", " "), quiet
            )
            verdicts.append(verdict)
    if output is not None:
        title = f"probe reproduce {study or '(every study)'}"
        write_report(
            verdicts,
            output,
            title + (f", scaled down: {plan.scaled_down}" if plan.scaled_down else ""),
            home,
        )
    records = [verdict.to_json() for verdict in verdicts]
    emit(
        {"study": study, "scaled_down": plan.scaled_down or None, "rows": records},
        as_json,
        lambda: [
            *table(*filled(verdicts)),
            counts(verdicts),
            *([f"report    {output}"] if output else []),
        ],
    )
    _log(Context(home, quiet), verdicts, trackers)


def _log(context: Context, verdicts: Sequence[Verdict], trackers: Sequence[str]) -> None:
    """Log every run and every sweep that the verdicts rest on, once."""
    from probe.runs import open_run

    for name in dict.fromkeys(verdict.run for verdict in verdicts if trackers and verdict.run):
        run = context.home.runs / name
        if run.is_dir():
            log_run(context, open_run(run), trackers)
        else:
            log_sweep(context, context.home.sweeps / name, trackers)


def data_map(pairs: Sequence[str]) -> dict[str, str]:
    """``["cifar10=fashion-mnist"]`` -> {"cifar10": "fashion-mnist"}."""
    found = {}
    for pair in pairs:
        name, equals, dataset = pair.partition("=")
        if not (name and equals and dataset):
            raise UsageError("--data-map is not a pair", expected="NAME=DATASET", found=pair)
        found[name] = dataset
    return found


def _program() -> str:
    """Where the program lies that a process runs the lines of experiments with."""
    program = click.get_current_context().find_root().command
    assert program.callback is not None
    return f"{program.callback.__module__}:{program.callback.__name__}"
