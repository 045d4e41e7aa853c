"""How a training went, epoch by epoch, as it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


Draw = Callable[[Mapping[str, Course], Path], Any]
"""Draws trainings over one another into a picture; `probe.report.curves.plot_curves`."""
