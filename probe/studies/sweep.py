"""A grid over the fields of a recipe, with seeds and folds, cell by cell.

Every finished cell is a small JSON file of its own, so that a sweep which was interrupted goes on with the
cells that are missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cluster import joblib_on
from probe.config import canonical_json, own_place
from probe.durable import discard, replacing
from probe.errors import DataError, UsageError, is_passing
from probe.failpoints import reach
from probe.hashing import is_intact, sealed
from probe.progress import Progress
from probe.records import read_record
from probe.stats.choice import Choice, choose_best
from probe.stats.clusters import accuracy_interval
from probe.stats.intervals import wilson
from probe.studies.recipe import Recipe, override
from probe.train.inputs import Part, Rows, TrainingData
from probe.units import are_single, deal_folds
from probe.whole import RECORD, read_json
from probe.workers import joblib_workers

CELL_VERSION = 1

Figures = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Cell:
    """One training of a sweep: a setting, a seed, and a fold where the sweep cross-validates.

    `setting` is the text of what was changed, ``batch_size=8 lr=0.01``; `fold` counts from 0, None without
    folds.
    """

    setting: str
    recipe: Recipe
    seed: int = 0
    fold: int | None = None
    folds: int = 0

    def key(self, data_identity: str, precision: str) -> str:
        """What names the cell's file: the sha256 of all that decides its result."""
        identity = [self.recipe.settings(), self.seed, self.fold, self.folds, data_identity, precision]
        return hashlib.sha256(canonical_json([CELL_VERSION, *identity]).encode()).hexdigest()


@dataclass(frozen=True)
class CellResult:
    """What a cell gave. Accuracies are fractions at the kept epoch; `test_accuracy` is None in a fold.

    `val_correct` is a letter an image of the validation part, "1" where it was right; `tested` the number of
    test images. Both are None in cells of a version that did not keep them. `val_groups` and `test_groups`
    number the group of each image, and `test_correct` belongs to them; None where images come in no groups.
    """

    setting: str
    seed: int
    fold: int | None
    val_accuracy: float | None
    test_accuracy: float | None
    kept_epoch: int
    epochs: int
    stopped: str | None
    params: int
    seconds: float
    history: Figures
    val_correct: str | None = None
    tested: int | None = None
    val_groups: list[int] | None = None
    test_correct: str | None = None
    test_groups: list[int] | None = None


@dataclass(frozen=True)
class SweepRow:
    """One line of the table: mean and sample standard deviation over the cells of a setting.

    A spread is None with fewer than two cells, a mean is None where no cell has the figure. ``low`` and
    ``high`` are the 95 % interval of a mean over its images (Wilson, or by group where they come in groups),
    None where their number is not known.
    """

    setting: str
    cells: int
    val_accuracy: float | None
    val_spread: float | None
    test_accuracy: float | None
    test_spread: float | None
    epochs: float
    seconds: float
    params: int
    val_low: float | None = None
    val_high: float | None = None
    test_low: float | None = None
    test_high: float | None = None


def parse_grid(assignments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read ``["batch_size=8,16", "augment=flip,flip+zoom=0.2"]``; values are separated by commas.

    Raises UsageError for an assignment without a value and for a field said twice. What the fields and values
    mean is checked by `plan`.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for assignment in assignments:
        name, _, values = assignment.partition("=")
        found = tuple(value.strip() for value in values.split(",") if value.strip())
        if not found or name in grid:
            raise UsageError(
                f"cannot read --set {assignment!r}", expected="FIELD=VALUE,VALUE,… once for each field"
            )
        grid[name] = found
    return grid


def plan(
    recipe: Recipe,
    grid: Mapping[str, Sequence[str]],
    *,
    seeds: Sequence[int] = (0,),
    folds: int = 0,
    epochs: int | None = None,
) -> list[Cell]:
    """Every combination of the grid's values, for every seed and fold.

    Raises UsageError for a field or a value that `override` does not take, before anything is trained.
    """
    if folds == 1 or folds < 0:
        raise UsageError(f"there is no cross-validation with {folds} folds", expected="2 folds or more")
    cells = []
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        changed = override(recipe, changes)
        changed = replace(changed, epochs=epochs or changed.epochs)
        setting = " ".join(f"{name}={value}" for name, value in changes.items()) or recipe.name
        for seed, fold in itertools.product(seeds, range(folds) if folds else (None,)):
            cells.append(Cell(setting, changed, seed, fold, folds))
    return cells


def run_sweep(
    cells: Sequence[Cell],
    load: Callable[[int], TrainingData],
    folder: Path,
    *,
    data_identity: Callable[[int], str],
    jobs: int = 1,
    precision: str = "fp32",
    on_cell: Callable[[CellResult, bool], None] | None = None,
    dask: str | None = None,
    progress: bool = False,
) -> list[CellResult]:
    """Train the cells that have no result in `folder` yet, and return the results of all, in order.

    Parameters
    ----------
    load : gives the images at a side in pixels; called where the cell runs, so it must be picklable when
        `jobs` is above 1.
    data_identity : gives at a side in pixels what tells this data from other data, so that a finished cell is
        known without loading it.
    jobs : processes on this machine.
    dask : address of a Dask scheduler; its workers train the cells and must see `folder` and the images under
        the same absolute paths.
    on_cell : called with every result and whether it had been computed before.
    progress : say how many cells are done.
    """
    keys = [cell.key(data_identity(cell.recipe.size), precision) for cell in cells]
    place = own_place(folder, "cells")
    paths = [place / f"{key[:32]}.json" for key in keys]
    results = {path: read_cell(path) for path in paths}
    for found in results.values():
        if found is not None and on_cell is not None:
            on_cell(found, True)
    todo = {path: cell for path, cell in zip(paths, cells, strict=True) if results[path] is None}
    loader = _Loader(load)
    tasks = [(cell, path, loader, precision) for path, cell in todo.items()]
    with Progress("sweep", len(cells), "cells", initial=len(cells) - len(tasks), shown=progress) as bar:
        for path, trained in _on_cluster(dask, tasks) if dask and tasks else _in_processes(jobs, tasks):
            results[path] = trained
            if on_cell is not None:
                on_cell(trained, False)
            bar.update()
    return [result for path in paths if (result := results[path]) is not None]


def _in_processes(jobs: int, tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Path, CellResult]]:
    from joblib import Parallel, delayed

    with joblib_workers(jobs):
        finished = Parallel(n_jobs=jobs, return_as="generator_unordered")
        yield from finished(delayed(_run_cell)(*task) for task in tasks)


def _on_cluster(address: str, tasks: Sequence[tuple[Any, ...]]) -> list[tuple[Path, CellResult]]:
    from joblib import Parallel, delayed

    with joblib_on(address):
        # joblib's Dask backend gives results once all are there; the workers write each when it is finished.
        found: list[tuple[Path, CellResult]] = Parallel(n_jobs=-1)(delayed(_run_cell)(*t) for t in tasks)
    return found


def summarise(results: Sequence[CellResult]) -> list[SweepRow]:
    """The table of a sweep, a row a setting, in the order of the results."""
    rows = []
    for setting, group in _by_setting(results).items():
        val, val_spread = _mean_spread([result.val_accuracy for result in group])
        test, test_spread = _mean_spread([result.test_accuracy for result in group])
        answers = val_answers(group)
        val_low, val_high = _interval(
            val, None if answers is None else answers.shape[1], answers, val_groups(group)
        )
        test_low, test_high = _interval(test, group[0].tested, *_tested(group))
        rows.append(
            SweepRow(
                setting=setting,
                cells=len(group),
                val_accuracy=val,
                val_spread=val_spread,
                test_accuracy=test,
                test_spread=test_spread,
                epochs=float(np.mean([result.epochs for result in group])),
                seconds=float(np.mean([result.seconds for result in group])),
                params=group[0].params,
                val_low=val_low,
                val_high=val_high,
                test_low=test_low,
                test_high=test_high,
            )
        )
    return rows


def judge_settings(results: Sequence[CellResult]) -> Choice | None:
    """Which setting is the best on validation, as far as that is shown; None where that is not known.

    Every setting is judged on the same images: those of the validation part, or with folds every image once,
    when it was held out.
    """
    answers = {setting: val_answers(group) for setting, group in _by_setting(results).items()}
    known = {setting: rows for setting, rows in answers.items() if rows is not None}
    groups = val_groups(next(iter(_by_setting(results).values()), []))
    return choose_best(known, groups) if len(known) == len(answers) else None


def val_answers(group: Sequence[CellResult]) -> NDArray[np.bool_] | None:
    """(S, N) which of N images each of S seeds has right, fold after fold; None where a cell does not say."""
    seeds: dict[int, list[str]] = {}
    for result in sorted(group, key=lambda result: (result.seed, result.fold or 0)):
        if result.val_correct is None:
            return None
        seeds.setdefault(result.seed, []).append(result.val_correct)
    rows = ["".join(parts) for parts in seeds.values()]
    if len({len(row) for row in rows}) != 1:
        return None
    return _letters(rows)


def val_groups(group: Sequence[CellResult]) -> NDArray[np.str_] | None:
    """(N,) groups of the images of `val_answers`, in the same order; None where they come in none."""
    seed = min((result.seed for result in group), default=0)
    first = sorted((r for r in group if r.seed == seed), key=lambda result: result.fold or 0)
    known = [result.val_groups for result in first if result.val_groups is not None]
    if not known or len(known) != len(first):
        return None
    return np.array([number for part in known for number in part]).astype(np.str_)


def _tested(group: Sequence[CellResult]) -> tuple[NDArray[np.bool_] | None, NDArray[np.str_] | None]:
    """(S, N) which of N test images each of S cells has right, and their groups (N,); None without groups."""
    numbers = group[0].test_groups
    answers = [result.test_correct for result in group if result.test_correct is not None]
    if numbers is None or len(answers) != len(group):
        return None, None
    return _letters(answers), np.array(numbers).astype(np.str_)


def _letters(rows: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[letter == "1" for letter in row] for row in rows])


def _interval(
    mean: float | None,
    images: int | None,
    answers: NDArray[np.bool_] | None,
    groups: NDArray[np.str_] | None,
) -> tuple[float | None, float | None]:
    if mean is None or not images:
        return None, None
    if answers is None or groups is None:
        return wilson(round(mean * images), images)
    return accuracy_interval(answers.mean(axis=0), groups)


def mean_histories(results: Sequence[CellResult]) -> dict[str, dict[str, list[float]]]:
    """Setting -> figure -> mean over its cells, epoch by epoch over those that got so far; for the curves."""
    return {
        setting: {name: _mean_curve([result.history[name] for result in group]) for name in group[0].history}
        for setting, group in _by_setting(results).items()
    }


def fold_data(data: TrainingData, fold: int, folds: int) -> TrainingData:
    """Fold `fold` of `folds`, stratified, over training and validation part together; no test part.

    No unit of the parts (copies of one picture, pictures of one group) lies in several folds.

    The folds are the same for every setting and seed, so that settings are compared on the same images. They
    are views: no image is copied.
    """
    parts = [data.train] + ([data.val] if data.val is not None else [])
    images = tuple(part.inputs for part in parts)
    labels = np.concatenate([part.labels for part in parts])
    units = _units(parts)
    counted = np.unique(np.stack([labels, units]), axis=1)[0]
    smallest = int(np.bincount(counted, minlength=data.classes).min())
    if smallest < folds:
        noun = "images" if are_single(units) else "images or groups that do not belong together"
        raise DataError(f"{folds} folds need {folds} {noun} of every class", found=f"a class with {smallest}")
    groups = _groups(parts)
    fold_of = _fold_numbers(labels, folds) if are_single(units) else deal_folds(labels, units, folds, 0)
    rest, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
    return TrainingData(
        train=Part(Rows(images, rest), labels[rest]),
        val=Part(
            Rows(images, held_out), labels[held_out], groups=None if groups is None else groups[held_out]
        ),
        test=None,
        classes=data.classes,
    )


def _units(parts: Sequence[Part]) -> NDArray[np.intp]:
    """(N,) of the rows of all parts, one after the other."""
    if any(part.units is None for part in parts):
        return np.arange(sum(len(part) for part in parts))
    return np.concatenate([part.units for part in parts if part.units is not None])


def _groups(parts: Sequence[Part]) -> NDArray[np.intp] | None:
    known = [part.groups for part in parts if part.groups is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _fold_numbers(labels: NDArray[np.int32], folds: int) -> NDArray[np.intp]:
    """(N,) fold of every row: each class is shuffled and dealt out in turn."""
    numbers = np.empty(len(labels), dtype=np.intp)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        # Starting each class at another fold keeps the folds equally large.
        numbers[rows] = (np.arange(len(rows)) + label) % folds
    return numbers


class _Loader:
    """Keeps the data of the last size: neighbouring cells of a grid mostly differ in something else."""

    def __init__(self, load: Callable[[int], TrainingData]) -> None:
        self.load = load
        self.last: tuple[int, TrainingData] | None = None

    def __call__(self, size: int) -> TrainingData:
        if self.last is None or self.last[0] != size:
            self.last = None
            self.last = (size, self.load(size))
        return self.last[1]

    def __getstate__(self) -> dict[str, Any]:
        # The images stay where they are: a worker loads its own.
        return {"load": self.load, "last": None}


def _run_cell(cell: Cell, path: Path, loader: _Loader, precision: str) -> tuple[Path, CellResult]:
    from probe.studies.trainer import train

    data = loader(cell.recipe.size)
    if cell.fold is not None:
        data = fold_data(data, cell.fold, cell.folds)
    outcome = train(cell.recipe, data, seed=cell.seed, precision=precision)
    result = CellResult(
        setting=cell.setting,
        seed=cell.seed,
        fold=cell.fold,
        val_accuracy=_accuracy(outcome.probabilities.get("val"), data.val),
        test_accuracy=_accuracy(outcome.probabilities.get("test"), data.test),
        kept_epoch=outcome.kept_epoch,
        epochs=len(outcome.history["loss"]),
        stopped=outcome.stopped,
        params=outcome.params,
        seconds=outcome.seconds,
        history={name: [_finite(v) for v in values] for name, values in outcome.history.items()},
        val_correct=_answers(outcome.probabilities.get("val"), data.val),
        tested=None if data.test is None else len(data.test),
        val_groups=_numbers(data.val),
        test_correct=None
        if _numbers(data.test) is None
        else _answers(outcome.probabilities.get("test"), data.test),
        test_groups=_numbers(data.test),
    )
    reach("cell-trained")
    write_cell(path, result)
    reach("cell-written")
    return path, result


def _accuracy(found: NDArray[np.float32] | None, part: Part | None) -> float | None:
    if found is None or part is None:
        return None
    return float(np.mean(found.argmax(axis=1) == part.labels))


def _answers(found: NDArray[np.float32] | None, part: Part | None) -> str | None:
    if found is None or part is None:
        return None
    return "".join("1" if right else "0" for right in (found.argmax(axis=1) == part.labels).tolist())


def _numbers(part: Part | None) -> list[int] | None:
    return None if part is None or part.groups is None else part.groups.tolist()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_cell(path: Path, result: CellResult) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        discard(path)
    with replacing(path) as partial:
        record = {"version": CELL_VERSION, **asdict(result), "cell": path.stem}
        partial.write_text(json.dumps(sealed(record)), encoding="utf-8")


def read_cell(path: Path) -> CellResult | None:
    """The result in a cell's file; None where there is none, another cell's, or nothing that can be used.

    OSError where the disk does not give it now.
    """
    try:
        value = read_json(path, RECORD)
        result = read_record(CellResult, value)
        return result if is_intact(value) and value.get("cell", path.stem) == path.stem else None
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise
        # A cell that cannot be read is trained again: that costs time, believing it would cost trust.
        return None


def _by_setting(results: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    groups: dict[str, list[CellResult]] = {}
    for result in results:
        groups.setdefault(result.setting, []).append(result)
    return groups


def _mean_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    mean = float(np.mean(known)) if known else None
    return mean, float(np.std(known, ddof=1)) if len(known) > 1 else None


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> list[float]:
    longest = max(len(curve) for curve in curves)
    columns = [[c[e] for c in curves if e < len(c) and c[e] is not None] for e in range(longest)]
    return [
        float(np.mean([v for v in column if v is not None])) if column else math.nan for column in columns
    ]
