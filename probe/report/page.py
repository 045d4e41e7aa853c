"""What a report shows, as plain values: no file is read from here on, and nothing is formatted yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.runs.record import ClassScores, Scores
from probe.stats.paired import Comparison

UNKNOWN = 0xFFFF
"""Of a point's class, and of what a run called it, where there is none."""


@dataclass(frozen=True)
class Figure:
    """A drawing (an ``<svg>`` element), what it shows, and how it is read."""

    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Shown:
    """An image: its id, its picture as a data URI or None, and the lines below it."""

    id: str
    picture: str | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """A wrong image, and its nearest training images."""

    image: Shown
    true: str
    called: str
    probability: float
    neighbours: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Cell:
    """Images of a true class that were called one class, and their share of the true class."""

    count: int
    share: float


@dataclass(frozen=True)
class Confusions:
    """The whole matrix of few classes; of many the pairs that occur.

    Attributes
    ----------
    classes : in label order.
    rows : (C, C) cells by true and called class; empty where there are too many classes.
    row_sums, column_sums : of the matrix.
    right, n : images that were called what they are, and all of them.
    pairs : (true, called, images, share of the true class), most images first.
    more : images of pairs that are not listed.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    row_sums: tuple[int, ...]
    column_sums: tuple[int, ...]
    right: int
    n: int
    pairs: tuple[tuple[str, str, int, float], ...]
    more: int


@dataclass(frozen=True)
class RunPart:
    """One run.

    Attributes
    ----------
    key : its name in the addresses of the page.
    label : what it is called among the runs of the page.
    facts : name -> value, told in this order.
    classes : the worst first; `classes_left_out` are not listed.
    """

    key: str
    name: str
    label: str
    created: str | None
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    test: Scores | None
    val: Scores | None
    val_used_for: str
    classes: tuple[ClassScores, ...] = ()
    classes_left_out: int = 0
    confusions: Confusions | None = None
    figures: tuple[Figure, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class Difference:
    """An image that one of two runs has right, and what each called it."""

    image: Shown
    true: str
    first: str
    second: str


@dataclass(frozen=True)
class SideBySide:
    """Two runs on the images of which one has them right: pictures of some, ids of all."""

    first: str
    second: str
    n: int
    only_first: tuple[Difference, ...]
    only_second: tuple[Difference, ...]
    only_first_ids: tuple[str, ...]
    only_second_ids: tuple[str, ...]
    both_wrong: int
    only_first_count: int
    only_second_count: int


@dataclass(frozen=True)
class Called:
    """What a run called the points of a map: (N,) uint16, `UNKNOWN` where it was not asked."""

    run: str
    classes: NDArray[np.uint16]


@dataclass(frozen=True)
class MapPart:
    """The map of a store.

    Attributes
    ----------
    points : (N, 2) float32.
    ids : N.
    classes : (N,) uint16 places in `class_names`, `UNKNOWN` without a label.
    splits : (N,) uint8 places in `split_names`.
    tiles : (T,) uint32 the point that each tile of `sheets` shows.
    still : the same map as a drawing.
    """

    store: str
    points: NDArray[np.float32]
    axes: tuple[str, str]
    notes: tuple[str, ...]
    ids: tuple[str, ...]
    classes: NDArray[np.uint16]
    class_names: tuple[str, ...]
    splits: NDArray[np.uint8]
    split_names: tuple[str, ...]
    called: tuple[Called, ...]
    tiles: NDArray[np.uint32]
    sheets: tuple[str, ...]
    tile_side: int
    sheet_tiles: int
    still: Figure


@dataclass(frozen=True)
class Card:
    """A data set as a store knows it: facts, and images by class and split.

    Attributes
    ----------
    counts : (class, images a split), as many as are listed.
    left_out : classes that are not listed.
    samples : pictures by class.
    """

    name: str
    facts: Mapping[str, str]
    splits: tuple[str, ...] = ()
    counts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    left_out: int = 0
    samples: tuple[tuple[str, tuple[Shown, ...]], ...] = ()


@dataclass(frozen=True)
class AuditEffect:
    """One kind of fault and what it does to the test accuracy, as text; "" where there is nothing to say."""

    kind: str
    found: str
    from_train: str
    from_test: str
    without: str
    change: str


@dataclass(frozen=True)
class Finding:
    """One kind of fault: how many findings, and the first of them, each of one picture or several."""

    kind: str
    count: int
    sets: tuple[tuple[Shown, ...], ...]


@dataclass(frozen=True)
class AuditPart:
    """What `probe audit` found in a store.

    Attributes
    ----------
    said : what the effects mean, where they do not say it themselves.
    pairs : the classes that are told apart least: two names, share, interval, whether they are told apart.
    unreadable : id and reason.
    """

    store: str
    created: str
    effects: tuple[AuditEffect, ...]
    said: tuple[str, ...]
    findings: tuple[Finding, ...]
    pairs: tuple[tuple[str, str, str, str, bool], ...]
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes
    ----------
    not_audited : stores that nobody has looked through under their labelling in force.
    commands : what to do again, a line each.
    versions : of the programs that the first run was made with.
    notes : what could not be shown, and why.
    """

    title: str
    subtitle: str
    created: str
    runs: tuple[RunPart, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    comparison_notes: tuple[str, ...] = ()
    side_by_side: SideBySide | None = None
    overlays: tuple[Figure, ...] = ()
    maps: tuple[MapPart, ...] = ()
    cards: tuple[Card, ...] = ()
    audits: tuple[AuditPart, ...] = ()
    not_audited: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
