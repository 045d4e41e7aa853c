"""``probe sweep``: a recipe over a grid of its fields."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from probe.commands.options import (
    dataset_options,
    emit,
    json_option,
    log_option,
    note,
    quiet_option,
    wants_progress,
)
from probe.commands.training import (
    data_option,
    epochs_option,
    precision_option,
    say_precision,
    seeds_option,
)
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.errors import UsageError
from probe.studies.baselines import BASELINES
from probe.studies.recipe import FIELDS
from probe.text import table
from probe.workspace.context import Context
from probe.workspace.tracking import check_trackers, log_sweep

if TYPE_CHECKING:
    from probe.studies.sweep_job import Sweep


@click.command(name="sweep")
@click.argument("name")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=A,B,…",
    help="Values of a recipe field, repeatable for a grid: "
    + ", ".join(FIELDS)
    + ".  [default: the grid of the experiment]",
)
@click.option(
    "--cv",
    "folds",
    type=click.IntRange(min=2),
    help="Cross-validate with K folds, test left alone.  [default: as the experiment says]",
)
@data_option
@epochs_option
@seeds_option
@precision_option
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Local processes.")
@click.option(
    "--dask", metavar="ADDRESS", help="Train on a Dask cluster, tcp://host:port.  [default: on this machine]"
)
@log_option
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    name: str,
    options: DatasetOptions,
    assignments: tuple[str, ...],
    folds: int | None,
    data: str | None,
    epochs: int | None,
    seeds: int,
    precision: str,
    jobs: int,
    dask: str | None,
    trackers: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the baseline NAME over a grid of its fields and print a table.

    It has the mean ± spread over seeds and folds, and the 95 % interval over the images. The best setting on
    validation is named only where it is shown to be better than every other on the same images.

    Without --set the grid (and the folds) of the experiment itself: `probe sweep cifar100-b/optimiser` is the
    choice of an optimiser by cross-validation. An interrupted sweep goes on with the cells that are missing.
    Table, figure and figures of every cell are kept in PROBE_HOME/sweeps.
    """
    from probe.studies.experiment import source_of
    from probe.studies.sweep import CellResult, parse_grid
    from probe.studies.sweep_job import SweepJob, sweep

    if jobs > 1 and dask is not None:
        raise UsageError("--jobs and --dask exclude each other")
    recipe = BASELINES[name]
    check_trackers(trackers)
    grid = parse_grid(assignments) if assignments else dict(recipe.sweep)
    job = SweepJob(
        recipe=recipe,
        source=source_of(recipe, Home(home.root.resolve()), data, options),
        grid=grid,
        seeds=seeds,
        folds=recipe.folds if folds is None else folds,
        epochs=epochs,
        precision=say_precision(precision, quiet),
        jobs=jobs,
        dask=dask,
    )
    total, seen = len(job.cells()), 0

    def on_cell(result: CellResult, was_there: bool) -> None:
        nonlocal seen
        seen += 1
        fold = "" if result.fold is None else f" fold {result.fold}"
        how = "had been trained" if was_there else f"{result.epochs} epochs in {result.seconds:.1f} s"
        note(f"cell {seen}/{total}  {result.setting} seed {result.seed}{fold}: {how}", quiet)

    done = sweep(job, home, on_cell, progress=wants_progress(quiet))
    for line in done.notes:
        note(line, quiet)
    record = {
        "sweep": done.folder.name,
        "folder": str(done.folder),
        "cells": len(done.results),
        "reused": done.reused,
        "rows": [asdict(row) for row in done.rows],
        "choice": None if done.choice is None else asdict(done.choice),
    }
    header = ("setting", "cells", "val accuracy", "test accuracy", "epochs", "s", "params")
    cells = [
        (
            row.setting,
            row.cells,
            mean_text(row.val_accuracy, row.val_spread, row.val_low, row.val_high),
            mean_text(row.test_accuracy, row.test_spread, row.test_low, row.test_high),
            f"{row.epochs:.3g}",
            f"{row.seconds:.1f}",
            f"{row.params:,}",
        )
        for row in done.rows
    ]
    said = [] if len(done.rows) < 2 else [_choice_text(done)]
    emit(record, as_json, lambda: [*table(header, cells), *said, f"kept in {done.folder}"])
    log_sweep(Context(home, quiet), done.folder, trackers)


def _choice_text(done: Sweep) -> str:
    if done.choice is not None:
        return done.choice.sentence
    if all(row.val_accuracy is None for row in done.rows):
        return "no winner: there is no validation part to choose on"
    return "no winner: these cells were trained by a version that did not keep which images were right"


def mean_text(
    mean: float | None, spread: float | None, low: float | None = None, high: float | None = None
) -> str:
    """``0.8123 ± 0.0041 (0.7912 – 0.8318)``: mean, spread over cells, 95 % interval over the images."""
    if mean is None:
        return "–"
    text = f"{mean:.4f}" + (f" ± {spread:.4f}" if spread is not None else "")
    return text + (f" ({low:.4f} – {high:.4f})" if low is not None and high is not None else "")
