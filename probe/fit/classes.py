"""Which classes of a store are fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.heads.class_rows import ClassRows, count_class_rows, expect_training_rows
from probe.store import Store


def choose_classes(store: Store, least: int) -> tuple[NDArray[np.intp], list[ClassRows]]:
    """The label numbers of the classes with at least `least` training rows, and the other classes.

    FitError that names them when a class has none and `least` is 0, or when `least` leaves fewer than two.
    """
    index = store.index
    readable = np.zeros(len(index.ids), bool)
    readable[store.rows()] = True
    classes = count_class_rows(index.labels, index.splits, readable, index.classes.tolist())
    everything = np.arange(len(classes))
    if not any(rows.train for rows in classes):
        return everything, []
    if not least:
        expect_training_rows(classes)
        return everything, []
    kept = np.array([place for place, rows in enumerate(classes) if rows.train >= least], dtype=np.intp)
    if len(kept) < 2:
        most = sorted(classes, key=lambda rows: -rows.train)[:6]
        raise FitError(
            f"--drop-small-classes {least} leaves {len(kept)} of {len(classes)} classes",
            expected="two classes or more",
            found="; ".join(rows.text for rows in most),
            hint="a smaller number",
        )
    return kept, [rows for rows in classes if rows.train < least]


def dropped_notes(dropped: Sequence[ClassRows], least: int) -> list[str]:
    """Which classes were left out, and that the test images of these were."""
    if not dropped:
        return []
    named = "; ".join(rows.text for rows in dropped[:6]) + ("; …" if len(dropped) > 6 else "")
    number = "1 class" if len(dropped) == 1 else f"{len(dropped)} classes"
    test = sum(rows.test for rows in dropped)
    return [
        f"left out: {number} of fewer than {least} training images ({named})",
        *([f"nothing is said of the {test:,} test images of these classes"] if test else []),
    ]
