"""Training curves: loss and accuracy, training and validation, several runs overlaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.errors import UsageError

Histories = Mapping[str, Mapping[str, Sequence[float | None]]]

SMOOTHING = 0.8
PANELS = (("loss", "loss"), ("accuracy", "accuracy"))
WIDTH, HEIGHT = 6.0, 4.2
"""Of one panel, inches."""


def smooth(values: Sequence[float | None], weight: float = SMOOTHING) -> list[float]:
    """Exponential moving average: every point is `weight` of the last one and the rest of the new value.

    It starts at the first value. Where a value is missing the average stays as it was.
    """
    if not 0 <= weight < 1:
        raise UsageError(f"a smoothing of {weight} averages nothing", expected="0 for none, below 1")
    smoothed: list[float] = []
    last = math.nan
    for value in values:
        if value is not None and not math.isnan(value):
            last = value if math.isnan(last) else weight * last + (1 - weight) * value
        smoothed.append(last)
    return smoothed


def plot_curves(histories: Histories, path: Path, *, title: str = "", smoothing: float = SMOOTHING) -> Path:
    """Draw runs over one another and write a picture; the suffix of `path` decides its format.

    Parameters
    ----------
    histories : run -> figure (``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``) -> value an epoch.
    smoothing : of the strong lines; the values themselves are drawn faintly behind them.

    Training is dashed, validation solid. Returns `path`.
    """
    from matplotlib.figure import Figure

    # Figure without pyplot: no window system, and nothing global to clean up.
    figure = Figure(figsize=(WIDTH * len(PANELS), HEIGHT), layout="constrained")
    for axes, (label, name) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for position, (run, history) in enumerate(histories.items()):
            colour = f"C{position % 10}"
            _draw(axes, history.get(name, ()), smoothing, f"{run}, training", color=colour, linestyle="--")
            _draw(axes, history.get(f"val_{name}", ()), smoothing, f"{run}, validation", color=colour)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _draw(axes: Any, values: Sequence[float | None], smoothing: float, label: str, **style: Any) -> None:
    if not values:
        return
    epochs = range(1, len(values) + 1)
    raw = [math.nan if value is None else value for value in values]
    axes.plot(epochs, raw, alpha=0.25, linewidth=1, marker="." if len(raw) == 1 else "", **style)
    axes.plot(epochs, smooth(values, smoothing), linewidth=1.8, label=label, **style)
