"""How trainings went, epoch by epoch, and their curves: loss and accuracy, several runs overlaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.drawing import colours as colours_of
from probe.drawing import png_of, save, styled
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
UNITS = {"loss": "loss (nats)", "accuracy": "accuracy (%)"}
WIDTH, HEIGHT = 6.0, 4.0
NARROW, NARROW_HEIGHT = 5.0, 2.6
"""Of one panel, inches: side by side, and one on the other."""
LEGEND_ROW = 0.21
"""Inches that a row of the legend takes."""
LETTERS = 170
"""Of the legend in a row over both panels."""


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


def plot_curves(
    courses: Courses,
    path: Path,
    *,
    title: str = "",
    smoothing: float = SMOOTHING,
    smooth_from: int = SMOOTH_FROM,
) -> Path:
    """Draw runs over one another and write a picture; the suffix of `path` decides its format.

    As `draw_curves`. Returns `path`.
    """
    figure = draw_curves(courses, title=title, smoothing=smoothing, smooth_from=smooth_from)
    return save(figure, path)


def picture_of(courses: Courses, *, title: str = "") -> bytes:
    """The PNG of `draw_curves`, for a page that holds its pictures itself."""
    return png_of(draw_curves(courses, title=title))


@styled
def draw_curves(
    courses: Courses,
    *,
    title: str = "",
    smoothing: float = SMOOTHING,
    smooth_from: int = SMOOTH_FROM,
    stacked: bool = False,
) -> Any:
    """The figure (``matplotlib.figure.Figure``) of runs over one another: a panel for loss, one for accuracy.

    A run is a colour. Training is dashed, validation solid; the lines are the values as they were measured.
    From `smooth_from` epochs on they are faint, and their moving average (`smooth`) is drawn over them; the
    legend names its factor. `smoothing` 0 leaves it out. The kept epoch is marked and named. A start that was
    scored is epoch 0 of the validation line. The panels lie side by side, or `stacked` one on the other.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    runs = {run: course if isinstance(course, Course) else Course(course) for run, course in courses.items()}
    colours = colours_of(len(runs))
    # Figure without pyplot: no window system, and nothing global to clean up.
    figure = Figure(layout="constrained")
    columns = 1 if stacked else len(PANELS)
    for axes, name in zip(figure.subplots(len(PANELS) // columns, columns), PANELS, strict=True):
        for (run, course), colour in zip(runs.items(), colours, strict=True):
            _draw_run(axes, name, run, course, colour, smoothing, smooth_from)
        axes.set(xlabel="epoch", ylabel=UNITS[name])
        _tick_whole_epochs(axes, runs.values())
    figure.axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    rows = _add_legend(figure, runs, colours, title, smoothing, LETTERS * columns // len(PANELS))
    panels = len(PANELS) // columns
    width, height = (NARROW, NARROW_HEIGHT) if stacked else (WIDTH, HEIGHT)
    figure.set_size_inches(width * columns, height * panels + LEGEND_ROW * rows)
    return figure


def _draw_run(
    axes: Any, name: str, run: str, course: Course, colour: Any, smoothing: float, smooth_from: int
) -> None:
    validation = f"val_{name}"
    lines = (
        ("training", _points(course, name), {"color": colour, "linestyle": "--"}),
        ("validation", _points(course, validation), {"color": colour, "linestyle": "-"}),
    )
    for part, (epochs, values), style in lines:
        if not values:
            continue
        averaged = smoothing > 0 and len(values) >= smooth_from
        axes.plot(
            epochs,
            values,
            label=f"{run}, {part}",
            alpha=0.35 if averaged else 1.0,
            linewidth=1.0 if averaged else 1.6,
            # A line of few points shows where they are; a single one would not be seen at all.
            marker="." if len(values) < SMOOTH_FROM and not averaged else "",
            **style,
        )
        if averaged:
            label = f"{run}, {part}, {_average_text(smoothing)}"
            axes.plot(epochs, smooth(values, smoothing), label=label, linewidth=1.8, **style)
    _mark_kept(axes, run, course, (validation, name), colour)


def _average_text(smoothing: float) -> str:
    return f"moving average (factor {smoothing:g})"


def _points(course: Course, figure: str) -> tuple[list[int], list[float]]:
    """(epochs, values) of a figure, epoch 0 first where it was scored."""
    values = list(course.history.get(figure, ()))
    epochs = list(range(1, len(values) + 1))
    if course.start is not None and figure in course.start:
        epochs, values = [0, *epochs], [course.start[figure], *values]
    return epochs, [math.nan if value is None else value for value in values]


def _mark_kept(axes: Any, run: str, course: Course, figures: Sequence[str], colour: Any) -> None:
    """A ring around the kept epoch, on the first of `figures` that has a value there."""
    for figure in figures:
        found = dict(zip(*_points(course, figure), strict=True))
        if course.kept is not None and course.kept in found:
            axes.plot([course.kept], [found[course.kept]], color=colour, label=f"{run}, kept", **_RING)
            return


_RING: Mapping[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgewidth": 2,
}


def _add_legend(
    figure: Any,
    runs: Mapping[str, Course],
    colours: Sequence[Any],
    title: str,
    smoothing: float,
    letters: int,
) -> int:
    """Below the runs, above the title and how lines are to be read; the number of rows that it takes."""
    from matplotlib.lines import Line2D

    drawn = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    entries = [
        Line2D([], [], color=colour, linewidth=2.5, label=run + _kept_text(course.kept))
        for (run, course), colour in zip(runs.items(), colours, strict=True)
        if f"{run}, training" in drawn or f"{run}, validation" in drawn
    ]
    average = _average_text(smoothing)
    ways: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        (", training", "training", {"linestyle": "--"}),
        (", validation", "validation", {"linestyle": "-"}),
        (f", {average}", "as measured", {"linewidth": 1.0, "alpha": 0.35}),
        (f", {average}", average, {"linewidth": 1.8}),
        (", kept", "kept epoch", _RING),
    )
    reading = [
        Line2D([], [], color="0.35", label=label, **style)
        for ending, label, style in ways
        if any(str(line).endswith(ending) for line in drawn)
    ]
    if not entries:
        return 0
    longest = max(len(str(entry.get_label())) for entry in entries)
    columns = max(1, min(len(entries), letters // (longest + 8)))
    plain = {"fontsize": "small", "frameon": False}
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, **plain)
    # A title of the figure would be written over the legend; this one is part of it.
    beside = max(1, letters // 30)
    above = {"loc": "outside upper center", "ncols": min(len(reading), beside), "title": title or None}
    figure.legend(handles=reading, title_fontsize="large", **above, **plain)
    return math.ceil(len(entries) / columns) + math.ceil(len(reading) / beside) + bool(title)


def _kept_text(kept: int | None) -> str:
    if kept is None:
        return ""
    return f" (kept: epoch {kept})" if kept else " (kept: epoch 0, before training)"


def _tick_whole_epochs(axes: Any, courses: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    lengths = [len(values) for course in courses for values in course.history.values()]
    first = 0 if any(course.start for course in courses) else 1
    last = max(lengths, default=first)
    room = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - room, max(last, first) + room)
    # Half an epoch at either end keeps a training of one epoch from being ticked in fractions.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
