"""What was asked for that the data set cannot give in full: folds, shots, neighbours, draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Samples
from probe.heads.knn import GRID
from probe.text import count_of, named

Counts = NDArray[np.intp]


def fold_notes(folds: int, parts: Sequence[Samples], classes: Sequence[str]) -> Iterator[str]:
    """Of `folds` over the rows of `parts`: of a class not more can be held out apart than it has units."""
    labels = np.concatenate([part.labels for part in parts])
    counts = np.bincount(labels, minlength=len(classes))
    units = counts
    if all(part.units is not None for part in parts):
        of = np.concatenate([part.units for part in parts if part.units is not None])
        units = np.bincount(np.unique(np.stack([labels, of]), axis=1)[0], minlength=len(classes))
    rare = np.flatnonzero(units < folds).tolist()
    if not (folds and rare):
        return
    some = f"some of the {folds} folds hold out none of a class"
    alone = ", or all there is of it" if int(units[rare].min()) == 1 else ""
    few = [
        f"{classes[c]} has {count_of(int(counts[c]), 'image')}"
        + ("" if units[c] == counts[c] else f" in {units[c]:,} groups")
        for c in rare
    ]
    yield f"{some}{alone}: {named(few)}"


def neighbour_notes(options: Any, rows: int) -> Iterator[str]:
    """Of numbers of neighbours that a user asks for beyond the `rows` there are."""
    given = getattr(options, "k", GRID)
    if given == GRID:
        return  # nobody asked for just these
    if too_many := [k for k in given if k > rows]:
        asked = ", ".join(map(str, too_many))
        yield f"k = {asked} is more than the {rows:,} training rows: all {rows:,} were taken"


def curve_notes(
    shots: Sequence[str],
    fractions: Sequence[float],
    repeats: int,
    counts: Counts,
    classes: Sequence[str],
    *,
    has_test: bool,
) -> Iterator[str]:
    """Of a learning curve over a training part with `counts` (C,) rows a class."""
    if not has_test:
        yield "no learning curve: it is scored on the test part, which has no labelled image"
        return
    for text in shots:
        if not text.isdecimal():
            continue
        fewer = np.flatnonzero(counts < int(text)).tolist()
        if len(fewer) == len(counts):
            yield f"shots {text}: no class has so many, so this is all {counts.sum():,} training rows"
        elif fewer:
            few = [f"{classes[number]} has {count_of(int(counts[number]), 'image')}" for number in fewer]
            yield f"shots {text}: {len(fewer)} of {len(counts)} classes have fewer and give all: {named(few)}"
    for share in fractions:
        raised = np.flatnonzero(np.round(share * counts) < 1)
        if len(raised):
            yield (
                f"fraction {share:g}: less than one row of {len(raised)} of {len(counts)} classes,"
                " which give one each"
            )
    if repeats < 3 and (fractions or any(text.isdecimal() for text in shots)):
        drawn = "1 draw" if repeats == 1 else f"{repeats} draws"
        yield f"the curve has {drawn} of each size: how far draws differ is not known from so few"
