"""Which figures cannot carry their weight, as sentences: too few images, classes that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.text import count_of, named

FEW = 30
"""Images below which a figure of a part is told with what a single one of them moves."""


def part_notes(
    test: NDArray[np.integer], val: NDArray[np.integer], classes: Sequence[str], chosen_on_val: bool
) -> list[str]:
    """What to know of figures on test and validation parts with labels (n,); nothing of a part that is empty.

    `chosen_on_val` : whether a choice (C, an epoch, a temperature) rests on the validation images.
    """
    parts = (("test", test, False), ("validation", val, chosen_on_val))
    return [
        note
        for part, labels, chosen_on in parts
        if len(labels)
        for note in _part_notes(part, labels, classes, chosen_on)
    ]


def _part_notes(
    part: str, labels: NDArray[np.integer], classes: Sequence[str], chosen_on: bool
) -> Iterator[str]:
    if len(labels) < FEW:
        what = f"the {part} part has {count_of(len(labels), 'image')}"
        moved = f"a single one moves accuracy by {100 / len(labels):.0f} points"
        yield f"{what}: {moved}" + (", and what is chosen on them is half chosen by chance" * chosen_on)
    absent = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0).tolist()
    if absent:
        yield f"{len(absent)} of {len(classes)} classes have no image in the {part} part: " + named(
            [classes[number] for number in absent]
        )
