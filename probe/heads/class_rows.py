"""How many rows of each class there are to fit on, and what is said where there are too few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import SPLITS, TEST, TRAIN, VAL
from probe.errors import FitError


@dataclass(frozen=True)
class ClassRows:
    """The rows of one class that can be used in each split, and those that cannot be read, in any split."""

    name: str
    train: int
    val: int
    test: int
    unreadable: int

    @property
    def text(self) -> str:
        """``owl: train 0, val 1, test 3, unreadable 2``."""
        counts = asdict(self)
        name = counts.pop("name")
        return f"{name}: " + ", ".join(f"{part} {count:,}" for part, count in counts.items())


def count_class_rows(
    labels: NDArray[np.integer], splits: NDArray[np.str_], readable: NDArray[np.bool_], names: Sequence[str]
) -> list[ClassRows]:
    """Rows of every class; labels (N,), -1 without one, splits (N,) and whether a row can be read (N,)."""
    number = len(names)

    def count(rows: NDArray[np.bool_]) -> list[int]:
        return np.bincount(labels[rows & (labels >= 0)], minlength=number).tolist()

    parts = {split: count(readable & (splits == split)) for split in SPLITS}
    unread = count(~readable)
    return [
        ClassRows(name, parts[TRAIN][place], parts[VAL][place], parts[TEST][place], unread[place])
        for place, name in enumerate(names)
    ]


def expect_training_rows(classes: Sequence[ClassRows]) -> None:
    """FitError that names the classes without a training row; none where there are no two with one."""
    without = [rows for rows in classes if not rows.train]
    if not without or len(classes) - len(without) < 2:
        return
    named = "; ".join(rows.text for rows in without[:6]) + ("; …" if len(without) > 6 else "")
    raise FitError(
        f"{len(without)} of {len(classes)} classes have no row in the {TRAIN} part that can be used",
        expected="at least one row of each class",
        found=named,
        hint="probe fit --drop-small-classes 1 goes on without, or use another split",
    )
