"""Accuracy against the size of the training part: few-shot curves and fractions, several draws each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from probe.errors import ProbeError, UsageError
from probe.fit.needs import DrawRoom, Need, Room, draws_at_once
from probe.heads.draws import few_shot, fraction
from probe.heads.head import ChosenRows, FitSize, HeadRow, Samples, averaged
from probe.progress import Progress, counting
from probe.runs.record import CurvePoint
from probe.stats.intervals import mean_share_interval
from probe.workers import joblib_workers

ALL = "all"
Draw = Callable[[Samples, int], NDArray[np.intp]]


def parse_sizes(shots: Sequence[str], fractions: Sequence[float]) -> dict[str, Draw | None]:
    """``1,2,all`` shots per class and shares of train -> name -> how rows are drawn (None: all of them)."""
    sizes: dict[str, Draw | None] = {}
    for text in shots:
        if text == ALL:
            sizes[ALL] = None
        elif text.isdecimal() and int(text) > 0:
            sizes[f"shots {text}"] = partial(_few_shot, int(text))
        else:
            raise UsageError("--shots takes numbers per class", expected="such as 1,2,5,10,all", found=text)
    for share in fractions:
        if not 0 < share <= 1:
            raise UsageError("--train-fraction takes shares", expected="0 < share ≤ 1", found=f"{share:g}")
        sizes[f"fraction {share:g}"] = partial(_fraction, share)
    return sizes


def _few_shot(shots: int, train: Samples, seed: int) -> NDArray[np.intp]:
    return few_shot(train.labels, shots, seed, train.units)


def _fraction(share: float, train: Samples, seed: int) -> NDArray[np.intp]:
    return fraction(train.labels, share, seed, train.units)


def learning_curve(
    row: HeadRow,
    options: Any,
    parts: tuple[Samples, Samples | None, Samples],
    classes: int,
    sizes: dict[str, Draw | None],
    repeats: int,
    *,
    free: int | None = None,
    jobs: int | None = 1,
    progress: bool = False,
) -> list[CurvePoint]:
    """Fit on `repeats` draws of each size and score each on test; no choice rests on these scores.

    Every draw makes its own choices on the whole validation part and is not refitted on it, so that a curve
    shows the training part alone; folds (``cv``) are only made where there is no validation part. A draw that
    cannot be fitted is told in its point and costs no other. `parts` are train, val and test; `jobs` draws
    are fitted at the same time, None leaves that to the cluster that joblib has been given. With `free` bytes
    for them it may be fewer, and a draw that does not fit is streamed.
    """
    train, val, test = parts
    if val is not None and hasattr(options, "cv"):
        options = replace(options, cv=0)
    tasks = []
    for name, draw in sizes.items():
        for seed in range(repeats if draw is not None else 1):
            rows = np.arange(len(train)) if draw is None else draw(train, seed)
            tasks.append((name, rows))
            if len(rows) == len(train):
                break  # all of them: every other draw would be the same
    workers = None if jobs is None else min(jobs, len(tasks))
    rooms = [DrawRoom(in_memory=True, spare=True, at_once=1)] * len(tasks)
    if workers is not None and free is not None:
        need, size = Need(row, options), _size(parts, classes)
        rooms = [draws_at_once(need, size, len(rows), free=free, jobs=workers) for _, rows in tasks]
        workers = min(room.at_once for room in rooms)
    calls = (
        delayed(_score)(row, options, _rows(train, rows, room), val, test, classes)
        for (_, rows), room in zip(tasks, rooms, strict=True)
    )
    found: list[float | str] = []
    # The bar counts whole fits: what a fit says of itself, where it runs in this process, is not heard.
    here = nullcontext() if workers is None else joblib_workers(workers)
    with Progress("curve", len(tasks), "fits", shown=progress) as bar, counting(None), here:
        ahead = "2*n_jobs" if workers is None else workers + 1
        for outcome in Parallel(n_jobs=workers or -1, return_as="generator", pre_dispatch=ahead)(calls):
            found.append(outcome)
            bar.update()
    return [_point(name, tasks, found) for name in sizes]


def _size(parts: tuple[Samples, Samples | None, Samples], classes: int) -> FitSize:
    train, val, test = parts
    return FitSize(len(train), 0 if val is None else len(val), len(test), train.features.shape[1], classes)


def _rows(samples: Samples, rows: NDArray[np.intp], room: Room) -> Samples:
    units = None if samples.units is None else samples.units[rows]
    features = samples.features[rows] if room.in_memory else ChosenRows(samples.features, rows)
    labels = samples.labels[rows]
    return Samples(features, labels, samples.map_shape, units=units, spare=room.spare, folder=samples.folder)


def _score(
    row: HeadRow, options: Any, train: Samples, val: Samples | None, test: Samples, classes: int
) -> float | str:
    """Test accuracy of a draw, or why it could not be fitted."""
    try:
        head = row.fit(train, val, classes, options, refit=False).head
    except ProbeError as error:
        return error.problem + (f" ({error.found})" if error.found else "")
    except (ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return float((averaged(head, test).argmax(axis=1) == test.labels).mean())


def _point(name: str, tasks: list[tuple[str, NDArray[np.intp]]], found: list[float | str]) -> CurvePoint:
    mine = [number for number, (task, _) in enumerate(tasks) if task == name]
    outcomes = [found[number] for number in mine]
    accuracies = tuple(outcome for outcome in outcomes if isinstance(outcome, float))
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    low, high = mean_share_interval(list(accuracies)) if len(accuracies) > 1 else (None, None)
    mean = float(np.mean(accuracies)) if accuracies else None
    problem = f"{len(reasons)} of {len(mine)} draws could not be fitted: {reasons[0]}" if reasons else None
    rows = round(float(np.mean([len(tasks[number][1]) for number in mine])))
    return CurvePoint(name, rows, accuracies, mean, low, high, problem)
