"""Accuracy against cost: a point with its interval for every row of a survey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.drawing import check_format, save, styled
from probe.drawing import colours as colours_of
from probe.survey.result import BEST, FAILED, Survey, SurveyRow

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT = 7.0, 4.5
"""Inches."""
SPREAD = 1.035
"""Rows of one pass cost the same: each is drawn a little to the right of the one before."""


def write_figure(survey: Survey, path: Path) -> int:
    """Draw a survey, `draw_survey`, into a .png, .svg or .pdf file; the number of rows that are drawn."""
    check_format(path)
    rows = drawable(survey)
    save(draw_survey(survey), path)
    return len(rows)


def drawable(survey: Survey) -> list[SurveyRow]:
    """The rows that have a figure and a known cost."""
    return [row for row in survey.rows if row.standing != FAILED and row.images_per_s]


@styled
def draw_survey(survey: Survey) -> Any:
    """The figure (``matplotlib.figure.Figure``): accuracy with its 95 % interval over milliseconds an image.

    A colour a backbone, a marker a head; the output stands beside its point. Rows whose cost is not known are
    left out.
    """
    from matplotlib.figure import Figure

    rows = drawable(survey)
    backbones, heads = (list(dict.fromkeys(names)) for names in _names(rows))
    colours = colours_of(len(backbones))
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    passes: dict[float, int] = {}
    for row in rows:
        cost = 1e3 / (row.images_per_s or 1)
        place = passes[cost] = passes.get(cost, -1) + 1
        colour = colours[backbones.index(row.backbone) % len(colours)]
        _draw_row(axes, row, cost * SPREAD**place, colour, MARKERS[heads.index(row.head) % len(MARKERS)])
    axes.set(
        xscale="log",
        xlabel="cost of the features, ms an image (extraction on this machine)",
        ylabel="test accuracy, % (95 % interval)",
        title=f"Survey of {survey.dataset}",
    )
    if rows:
        _tick_plain_numbers(axes, list(passes))
        _add_legend(figure, backbones, heads, colours)
    return figure


def _names(rows: Sequence[SurveyRow]) -> tuple[list[str], list[str]]:
    return [row.backbone for row in rows], [row.head for row in rows]


def _draw_row(axes: Any, row: SurveyRow, cost: float, colour: Any, marker: str) -> None:
    value, low, high = (100 * (x or 0.0) for x in (row.accuracy, row.accuracy_low, row.accuracy_high))
    axes.errorbar(
        [cost],
        [value],
        yerr=[[max(value - low, 0)], [max(high - value, 0)]],
        fmt=marker,
        color=colour,
        capsize=3,
        markersize=9 if row.standing == BEST else 6,
        markeredgecolor="black" if row.standing == BEST else colour,
    )
    axes.annotate(row.output, (cost, value), xytext=(6, 4), textcoords="offset points", fontsize=7)


def _tick_plain_numbers(axes: Any, costs: Sequence[float]) -> None:
    """Room beside the points, and 1, 2, 5, 10 in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xlim(min(costs) / 2, max(costs) * 2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _add_legend(figure: Any, backbones: Sequence[str], heads: Sequence[str], colours: Any) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=colours[number % len(colours)], linewidth=4, label=name)
        for number, name in enumerate(backbones)
    ]
    entries += [
        Line2D([], [], marker=MARKERS[number % len(MARKERS)], color="0.35", linestyle="", label=name)
        for number, name in enumerate(heads)
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
