"""A sweep from its data set to a table and a figure; finished cells are shared between sweeps."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from probe.config import Home, canonical_json, own_place
from probe.curves import CURVES, Course, plot_curves
from probe.datasets import Dataset
from probe.durable import replacing
from probe.errors import DataError, UsageError
from probe.hashing import is_intact, sealed
from probe.images.path import pixel_path
from probe.records import read_record
from probe.stats.choice import Choice
from probe.store import slug
from probe.studies.recipe import Recipe
from probe.studies.sweep import (
    Cell,
    CellResult,
    SweepRow,
    judge_settings,
    mean_histories,
    plan,
    run_sweep,
    summarise,
)
from probe.train.pixels import DataSource, decoding_identity, labels_identity
from probe.units import are_single, kept_together
from probe.versions import versions
from probe.whole import RECORD, read_json, refuse_link

SWEEP, TABLE = "sweep.json", "table.csv"
SCHEMA = 1


@dataclass(frozen=True)
class SweepJob:
    """What is to be trained.

    Attributes
    ----------
    grid : recipe field -> values as text.
    seeds : trainings of every setting, seeds 0 … n−1.
    folds : cross-validation folds over training and validation part; 0 for none.
    epochs : at most so many, None for the recipe's.
    jobs : processes on this machine.
    dask : address of a Dask scheduler whose workers train the cells instead.
    """

    recipe: Recipe
    source: DataSource
    grid: Mapping[str, Sequence[str]]
    seeds: int = 1
    folds: int = 0
    epochs: int | None = None
    precision: str = "fp32"
    jobs: int = 1
    dask: str | None = None

    def cells(self) -> list[Cell]:
        """Every training, checked; UsageError when there is nothing to compare."""
        if self.recipe.kind == "transfer":
            raise UsageError(f"{self.recipe.name} is not trained from scratch", hint=self.recipe.commands[-1])
        if not self.grid and not self.folds and self.seeds < 2:
            raise UsageError(
                "there is nothing to sweep over", hint="--set batch_size=8,16,32, --cv 5 or --seeds 3"
            )
        return plan(self.recipe, self.grid, seeds=range(self.seeds), folds=self.folds, epochs=self.epochs)


@dataclass(frozen=True)
class Sweep:
    """What came out.

    Attributes
    ----------
    folder : holds ``sweep.json``, ``table.csv`` and ``curves.png``.
    reused : cells that had been trained before.
    notes : of the data set.
    choice : which setting is the best on validation, as far as that is shown; None where nothing can be said.
    """

    folder: Path
    rows: list[SweepRow]
    results: list[CellResult]
    reused: int
    notes: tuple[str, ...]
    choice: Choice | None = None


def sweep(
    job: SweepJob,
    home: Home,
    on_cell: Callable[[CellResult, bool], None] | None = None,
    *,
    progress: bool = False,
) -> Sweep:
    """Train the cells that are missing below ``PROBE_HOME/sweeps/cells`` and write table and figure.

    A cell is known by everything that decides its result, so a killed sweep goes on where it was and a wider
    grid trains only what it adds.
    """
    cells = job.cells()
    dataset = job.source.open()
    data = labels_identity(dataset)
    reused = 0

    def identity(size: int) -> str:
        decoded = decoding_identity(pixel_path(dataset.jpeg_sides, size))
        return canonical_json([data, job.source.keep_colour, *_folding(job, dataset), *decoded])

    def told(result: CellResult, was_there: bool) -> None:
        nonlocal reused
        reused += was_there
        if on_cell is not None:
            on_cell(result, was_there)

    results = run_sweep(
        cells,
        job.source.training_data,
        home.sweeps,
        data_identity=identity,
        jobs=job.jobs,
        precision=job.precision,
        on_cell=told,
        dask=job.dask,
        progress=progress,
    )
    choice = judge_settings(results)
    rows = summarise(results)
    keys = [cell.key(data, job.precision) for cell in cells]
    key = hashlib.sha256(canonical_json(keys).encode()).hexdigest()
    folder = own_place(home.sweeps, f"{slug(job.recipe.name)}-{slug(dataset.name)}-{key[:12]}")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CURVES) as picture:
        plot_curves(_courses(results), picture)
    with replacing(folder / TABLE) as table:
        table.write_text(_csv(rows), encoding="utf-8")
    record = {
        "schema": SCHEMA,
        "key": key,
        "recipe": job.recipe.name,
        "dataset": dataset.name,
        "index": data,
        "limit": job.source.options.limit,
        "grid": {field: list(values) for field, values in job.grid.items()},
        "seeds": job.seeds,
        "folds": job.folds,
        "precision": job.precision,
        "rows": [asdict(row) for row in rows],
        "choice": None if choice is None else asdict(choice),
        "cells": [asdict(result) for result in results],
        "versions": versions(),
    }
    with replacing(folder / SWEEP) as file:
        file.write_text(json.dumps(sealed(record), indent=1, allow_nan=False), encoding="utf-8")
    return Sweep(folder, rows, results, reused, dataset.notes, choice)


def find_sweep(home: Home, name: str) -> Path | None:
    """The folder of a finished sweep by its name or a unique part of it; None for none and for several."""
    folders = {path.parent.name: path.parent for path in sorted(home.sweeps.glob(f"*/{SWEEP}"))}
    if name in folders:
        return folders[name]
    found = [path for folder, path in folders.items() if name and name in folder]
    return found[0] if len(found) == 1 else None


def sweep_cells(folder: Path) -> tuple[str, list[CellResult]]:
    """The data set and the cells of a finished sweep; DataError for a damaged file."""
    try:
        refuse_link(folder)
        record = read_json(folder / SWEEP, RECORD)
        cells = [read_record(CellResult, cell) for cell in record["cells"]]
        if not is_intact(record):
            raise ValueError("it was changed")
        if not folder.name.endswith(str(record.get("key", ""))[:12]):
            raise ValueError("it is that of another sweep")
        return str(record["dataset"]), cells
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / SWEEP} cannot be read", found=str(error)) from error


def sweep_courses(folder: Path) -> dict[str, Course]:
    """Setting -> how its cells went, their mean where there are several; DataError for a damaged file."""
    return _courses(sweep_cells(folder)[1])


def _courses(results: Sequence[CellResult]) -> dict[str, Course]:
    """Setting -> the mean over its cells; an epoch was kept where there is but one."""
    kept: dict[str, int | None] = {}
    for result in results:
        kept[result.setting] = None if result.setting in kept else result.kept_epoch
    return {setting: Course(history, kept[setting]) for setting, history in mean_histories(results).items()}


def _folding(job: SweepJob, dataset: Dataset) -> list[str]:
    """What tells cells of folds that part no unit from those of before, where that makes a difference."""
    whole = are_single(kept_together(dataset.hashes, dataset.groups))
    return ["folds of whole units"] if job.folds and not whole else []


def _csv(rows: Sequence[SweepRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(SweepRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
