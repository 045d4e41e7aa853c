"""Figures of stores and runs (``matplotlib.figure.Figure``), one style, a unit on every axis.

Every figure is drawn from plain values, so that the same ones are written for a paper and shown in a page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.drawing import INK, MUTED, STRONG, colours, styled
from probe.runs.record import ClassScores, CurvePoint
from probe.stats.calibration import ReliabilityBin

Floats = NDArray[np.floating]

WIDTH, HEIGHT = 5.0, 3.7
"""Of a plain figure, inches."""
NUMBERED, NAMED = 20, 60
"""Classes up to which a confusion matrix has its figures, and its names."""
LISTED = 20
"""Groups of a map up to which its legend names them."""
LETTERS = 24
"""Of a name on an axis; longer ones lose their middle."""
SCORED_ON = {
    "val": "validation",
    "cv": "all folds",
    "first_fold": "the first fold",
    "loo": "leaving one out",
}


@dataclass(frozen=True)
class Setting:
    """One setting that was tried: the value of what was varied, and its figures where it was scored."""

    value: float
    accuracy: float
    log_loss: float | None


@dataclass(frozen=True)
class Tried:
    """All settings that were tried: what was varied, on which images it was scored, and what was chosen."""

    name: str
    part: str
    settings: tuple[Setting, ...]
    chosen: float | None


def short(name: str, letters: int = LETTERS) -> str:
    """At most so many letters of a name, its two ends where it is longer: they tell names apart."""
    if len(name) <= letters:
        return name
    last = (letters - 1) // 2
    return name[: letters - 1 - last] + "…" + name[len(name) - last :]


def _figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, symbol=""))


@styled
def draw_confusion(matrix: NDArray[np.integer], classes: Sequence[str], title: str = "") -> Any:
    """(C, C) images by true class (rows) and predicted class (columns), shaded by the share of the row."""
    count = len(classes)
    side = min(max(3.6, 0.34 * count + 1.6), 12.0)
    figure, axes = _figure(side + 0.9, side)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="equal", interpolation="nearest")
    figure.colorbar(drawn, ax=axes, label="share of the true class (%)", shrink=0.8)
    axes.grid(visible=False)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if count <= NAMED:
        names = [short(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
    if count <= NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if share[row, column] > 0.5 else INK
            text = f"{matrix[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    return figure


@styled
def draw_map(
    points: Floats,
    groups: NDArray[np.integer],
    names: Sequence[str],
    axes_names: tuple[str, str],
    title: str = "",
) -> Any:
    """(N, 2) points by group (N,), places in `names`; points of no group (-1) are grey and lie below."""
    figure, axes = _figure(6.4, 5.0)
    size = min(max(36_000 / max(len(points), 1), 1.0), 22.0)
    shades = colours(len(names))
    for group in (-1, *range(len(names))):
        mine = points[groups == group]
        if len(mine):
            axes.scatter(
                *mine.T,
                s=size,
                color=MUTED if group < 0 else shades[group],
                alpha=0.35 if group < 0 else 0.75,
                linewidths=0,
                # A hundred thousand points are a picture within the drawing.
                rasterized=True,
            )
    axes.set(xlabel=axes_names[0], ylabel=axes_names[1], title=title)
    _add_groups(axes, names, shades)
    return figure


def _add_groups(axes: Any, names: Sequence[str], shades: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=shade, marker="o", linestyle="", markersize=5, label=short(name))
        for name, shade in zip(names, shades, strict=True)
    ]
    if 0 < len(marks) <= LISTED:
        axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.0, 1.0))


@styled
def draw_path(runs: Mapping[str, Tried], title: str = "") -> Any:
    """Accuracy over the setting that was varied, a line a run; what was chosen is ringed."""
    figure, axes = _figure()
    for (name, tried), colour in zip(runs.items(), colours(len(runs)), strict=True):
        settings = sorted(tried.settings, key=lambda setting: setting.value)
        values, accuracies = [s.value for s in settings], [s.accuracy for s in settings]
        axes.plot(values, accuracies, marker="o", markersize=3.5, color=colour, label=short(name, 48))
        kept = [(s.value, s.accuracy) for s in settings if s.value == tried.chosen]
        if kept:
            axes.plot(*kept[0], "o", markersize=10, markerfacecolor="none", color=colour, markeredgewidth=1.8)
    tried = next(iter(runs.values()))
    if all(setting.value > 0 for other in runs.values() for setting in other.settings):
        _scale_by_powers(axes.xaxis)
    axes.set(xlabel=axis_of(tried.name), ylabel=f"accuracy, {tried.part} (%)", title=title)
    _in_percent(axes.yaxis)
    if len(runs) > 1:
        axes.legend(loc="best")
    return figure


def axis_of(name: str) -> str:
    """What was varied, with its unit."""
    known = {
        "c": "C (inverse strength of the penalty)",
        "alpha": "α (strength of the penalty)",
        "k": "k (neighbours)",
    }
    return known.get(name, name)


@styled
def draw_few_shot(runs: Mapping[str, Sequence[CurvePoint]], title: str = "") -> Any:
    """Test accuracy over the number of training images: the mean of the draws, its interval, every draw."""
    figure, axes = _figure()
    for (name, points), colour in zip(runs.items(), colours(len(runs)), strict=True):
        known = sorted((p for p in points if p.mean is not None), key=lambda p: p.rows)
        rows, means = [p.rows for p in known], np.array([p.mean for p in known], float)
        lows = np.array([m if p.low is None else p.low for p, m in zip(known, means, strict=True)])
        highs = np.array([m if p.high is None else p.high for p, m in zip(known, means, strict=True)])
        axes.fill_between(rows, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.plot(rows, means, marker="o", markersize=4, color=colour, label=short(name, 48))
        for point in known:
            axes.plot(
                [point.rows] * len(point.accuracies), point.accuracies, ".", color=colour, alpha=0.35, ms=4
            )
    _scale_by_powers(axes.xaxis, subs=(1.0, 2.0, 5.0))
    axes.set(xlabel="training images", ylabel="test accuracy (%)", title=title)
    _in_percent(axes.yaxis)
    if len(runs) > 1:
        axes.legend(loc="lower right")
    return figure


def _scale_by_powers(axis: Any, subs: tuple[float, ...] = (1.0,)) -> None:
    """A logarithmic axis with its figures written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set_xscale("log")
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@styled
def draw_reliability(series: Mapping[str, Sequence[ReliabilityBin]], title: str = "") -> Any:
    """Accuracy over confidence, a line a series with 95 % intervals, and the line of those that agree."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="as confident as accurate")
    shades = (STRONG[1], STRONG[0]) if len(series) <= 2 else colours(len(series))
    for (name, bins), colour in zip(series.items(), shades, strict=False):
        confidence, accuracy = [b.confidence for b in bins], np.array([b.accuracy for b in bins])
        below = np.maximum(accuracy - [b.accuracy_low for b in bins], 0)
        above = np.maximum([b.accuracy_high for b in bins] - accuracy, 0)
        axes.errorbar(
            confidence,
            accuracy,
            yerr=np.stack([below, above]) if len(bins) else None,
            marker="o",
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            # Bins at the ends have whole marks.
            clip_on=False,
            color=colour,
            label=short(name, 40),
        )
    axes.set(xlabel="confidence (%)", ylabel="test accuracy (%)", xlim=(0, 1), ylim=(0, 1), title=title)
    _in_percent(axes.xaxis)
    _in_percent(axes.yaxis)
    # Lines and intervals may lie anywhere within.
    figure.legend(loc="outside upper left", ncols=1 + len(series))
    return figure


@styled
def draw_per_class(classes: Sequence[ClassScores], title: str = "") -> Any:
    """A bar a class, the worst on top: the share of its images that is right, with its 95 % interval."""
    known = sorted((row for row in classes if row.recall is not None), key=lambda row: -(row.recall or 0))
    figure, axes = _figure(WIDTH, min(max(1.1 + 0.24 * len(known), 2.0), 40.0))
    recalls = np.array([row.recall for row in known], float)
    lows, highs = (np.array([getattr(row, f"recall_{end}") for row in known]) for end in ("low", "high"))
    spread = np.stack([np.maximum(recalls - lows, 0), np.maximum(highs - recalls, 0)])
    axes.barh(range(len(known)), recalls, height=0.66, color=STRONG[0], alpha=0.85)
    axes.errorbar(
        recalls, range(len(known)), xerr=spread, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.5
    )
    axes.set_yticks(range(len(known)), [short(row.name) for row in known])
    axes.set(xlabel="right, of the test images of the class (%)", ylabel="class", xlim=(0, 1), title=title)
    axes.grid(visible=False, axis="y")
    _in_percent(axes.xaxis)
    return figure


@styled
def draw_samples(rows: Mapping[str, Sequence[NDArray[np.uint8]]], title: str = "") -> Any:
    """Pictures (H, W, 3) uint8, a row a class."""
    from matplotlib.figure import Figure

    columns = max(map(len, rows.values()), default=1)
    side = 0.72
    figure = Figure(figsize=(side * columns + 1.7, side * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, (name, pictures) in zip(grid, rows.items(), strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for axes, picture in zip(axes_row, pictures, strict=False):
            axes.imshow(picture, interpolation="nearest" if max(picture.shape) <= 32 else "antialiased")
        axes_row[0].text(
            -0.12, 0.5, short(name), ha="right", va="center", transform=axes_row[0].transAxes, fontsize=8
        )
    figure.suptitle(title, fontsize=10) if title else None
    return figure


def tried_of(rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> Tried | None:
    """The settings of a run's path, None where nothing was varied that has a number.

    A setting that only some folds have seen is left out where others were seen by all.
    """
    for part in SCORED_ON:
        scored = [row for row in rows if row.get(f"{part}_accuracy") is not None]
        if len(scored) > 1:
            break
    else:
        return None
    first = scored[0]
    for name in first:
        values = {row[name] for row in scored if isinstance(row.get(name), int | float)}
        if name in chosen and name != "seed" and len(values) > 1 and not name.endswith(("accuracy", "loss")):
            settings = tuple(
                Setting(float(row[name]), row[f"{part}_accuracy"], row.get(f"{part}_log_loss"))
                for row in scored
                if isinstance(row.get(name), int | float) and math.isfinite(row[name])
            )
            return Tried(name, SCORED_ON[part], settings, chosen.get(name))
    return None
