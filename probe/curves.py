"""How trainings went, epoch by epoch, and their curves: loss and accuracy, several runs overlaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.errors import UsageError

CURVES = "curves.png"


@dataclass(frozen=True)
class Course:
    """The figures of a training.

    Attributes
    ----------
    history : figure -> value of every epoch, None where there is none.
    kept : the epoch whose weights were kept, counted from 1; 0 is the start, None is not known or several.
    start : validation figures of epoch 0, before any step; None where that was not scored.
    """

    history: Mapping[str, Sequence[float | None]]
    kept: int | None = None
    start: Mapping[str, float] | None = None


Figures = Mapping[str, Sequence[float | None]]
Courses = Mapping[str, Course | Figures]
"""Run -> how it went, or its figures alone: ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``."""

SMOOTHING = 0.8
SMOOTH_FROM = 25
"""Epochs from which on a moving average is drawn: it looks back over 1 / (1 − 0.8) = 5 of them."""

PANELS = ("loss", "accuracy")
WIDTH, HEIGHT = 6.0, 4.2
"""Of one panel, inches."""


def smooth(values: Sequence[float | None], weight: float = SMOOTHING) -> list[float]:
    """Exponential moving average: a value counts `weight` times as much as the one after it.

    The weights are divided by their sum, so that the first values are not counted for those before them, of
    which there are none. Where a value is missing the average stays as it was.
    """
    if not 0 <= weight < 1:
        raise UsageError(f"a smoothing of {weight} averages nothing", expected="0 for none, below 1")
    smoothed: list[float] = []
    total = weights = 0.0
    for value in values:
        if value is not None and not math.isnan(value):
            total, weights = weight * total + value, weight * weights + 1
        smoothed.append(total / weights if weights else math.nan)
    return smoothed


def plot_curves(courses: Courses, path: Path, *, title: str = "", smoothing: float = SMOOTHING) -> Path:
    """Draw runs over one another and write a picture; the suffix of `path` decides its format.

    As `draw_curves`. Returns `path`.
    """
    figure = draw_curves(courses, title=title, smoothing=smoothing)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def draw_curves(courses: Courses, *, title: str = "", smoothing: float = SMOOTHING) -> Any:
    """The figure (``matplotlib.figure.Figure``) of runs over one another: a panel for loss, one for accuracy.

    Training is dashed, validation solid; the lines are the values as they were measured. From `SMOOTH_FROM`
    epochs on they are faint, and their moving average (`smooth`) is drawn over them and named in the legend
    with its factor; `smoothing` 0 leaves it out. The kept epoch is marked and named. A start that was scored
    is epoch 0 of the validation line.
    """
    from matplotlib.figure import Figure

    # Figure without pyplot: no window system, and nothing global to clean up.
    figure = Figure(figsize=(WIDTH * len(PANELS), HEIGHT), layout="constrained")
    runs = {run: course if isinstance(course, Course) else Course(course) for run, course in courses.items()}
    named: dict[str, Any] = {}
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for position, (run, course) in enumerate(runs.items()):
            _draw_run(axes, name, run, course, f"C{position % 10}", smoothing)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        _tick_whole_epochs(axes, runs.values())
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize="small"
        )
    figure.suptitle(title)
    return figure


def _draw_run(axes: Any, name: str, run: str, course: Course, colour: str, smoothing: float) -> None:
    validation = f"val_{name}"
    lines = (
        ("training", _points(course, name), {"color": colour, "linestyle": "--"}),
        ("validation", _points(course, validation), {"color": colour, "linestyle": "-"}),
    )
    for part, (epochs, values), style in lines:
        if not values:
            continue
        averaged = smoothing > 0 and len(values) >= SMOOTH_FROM
        axes.plot(
            epochs,
            values,
            label=f"{run}, {part}",
            alpha=0.4 if averaged else 1.0,
            linewidth=1.0 if averaged else 1.6,
            # A line of few points shows where they are; a single one would not be seen at all.
            marker="" if averaged else ".",
            **style,
        )
        if averaged:
            label = f"{run}, {part}, moving average (factor {smoothing:g})"
            axes.plot(epochs, smooth(values, smoothing), label=label, linewidth=1.8, **style)
    _mark_kept(axes, run, course, (validation, name), colour)


def _points(course: Course, figure: str) -> tuple[list[int], list[float]]:
    """(epochs, values) of a figure, epoch 0 first where it was scored."""
    values = list(course.history.get(figure, ()))
    epochs = list(range(1, len(values) + 1))
    if course.start is not None and figure in course.start:
        epochs, values = [0, *epochs], [course.start[figure], *values]
    return epochs, [math.nan if value is None else value for value in values]


def _mark_kept(axes: Any, run: str, course: Course, figures: Sequence[str], colour: str) -> None:
    """A ring around the kept epoch, on the first of `figures` that has a value there."""
    for figure in figures:
        found = dict(zip(*_points(course, figure), strict=True))
        if course.kept is not None and course.kept in found:
            what = f"epoch {course.kept}" if course.kept else "epoch 0, before training"
            axes.plot(
                [course.kept],
                [found[course.kept]],
                linestyle="",
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgewidth=2,
                color=colour,
                label=f"{run}, kept: {what}",
            )
            return


def _tick_whole_epochs(axes: Any, courses: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    lengths = [len(values) for course in courses for values in course.history.values()]
    first = 0 if any(course.start for course in courses) else 1
    last = max(lengths, default=first)
    room = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - room, max(last, first) + room)
    # Half an epoch at either end keeps a training of one epoch from being ticked in fractions.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
