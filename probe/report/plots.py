"""Single figures of runs and stores, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.config import Home
from probe.datasets.dataset import NO_SPLIT, SPLITS, TRAIN
from probe.errors import FitError, StoreError, UsageError
from probe.report import figures
from probe.report.maps import map_of
from probe.report.overlay import labels_of
from probe.report.run_part import confusion_of, reliability_of
from probe.report.sources import Source, called_by, find_sources, source_of_run, source_of_store
from probe.report.store_part import MOST_POINTS
from probe.report.thumbnails import SINGLE, by_class, evenly
from probe.runs import Run
from probe.runs.record import FitFacts

MOST_CLASSES = 1_000
"""Classes up to which a confusion matrix is drawn."""
SAMPLED_CLASSES, SAMPLES = 20, 10
COLOURS = ("class", "split", "correct")
"""What the points of a map are coloured by."""


@dataclass(frozen=True)
class Wish:
    """What a figure is drawn of: runs, the one store where no run is named, and how a map is made."""

    home: Home
    runs: Sequence[Run]
    stores: Sequence[Source]
    title: str
    map: str
    colour: str

    @property
    def run(self) -> Run:
        """The one run; UsageError where there is another number."""
        if len(self.runs) != 1:
            raise UsageError("this figure is of one run", found=f"{len(self.runs)} runs")
        return self.runs[0]

    @property
    def source(self) -> Source:
        """The one store, or that of the one run."""
        if len(self.stores) + len(self.runs) != 1:
            raise UsageError("this figure is of one run or one store")
        return self.stores[0] if self.stores else source_of_run(self.run, self.home)


def draw(what: str, home: Home, names: Sequence[Any], *, title: str = "", map: str, colour: str) -> Any:
    """A figure of `PLOTS`; raises as its function, and UsageError for names of another kind or number."""
    runs, stores = find_sources(home, names)
    if stores and what not in OF_STORES:
        raise UsageError(f"a store has no {what}", expected="runs", found=stores[0].name)
    sources = [source_of_store(store, home) for store in stores]
    return PLOTS[what](Wish(home, runs, sources, title, map, colour))


def _confusion(wish: Wish) -> Any:
    run = wish.run
    if len(run.record.classes) > MOST_CLASSES:
        raise UsageError(
            f"a matrix of {len(run.record.classes):,} classes cannot be drawn",
            expected=f"at most {MOST_CLASSES:,}",
            hint="probe runs show names the pairs that are confused",
        )
    _analysis(run)
    return figures.draw_confusion(np.asarray(confusion_of(run)), run.record.classes, wish.title)


def _per_class(wish: Wish) -> Any:
    return figures.draw_per_class(_analysis(wish.run).per_class, wish.title)


def _analysis(run: Run) -> Any:
    found = run.analysis
    if found is None:
        raise FitError(f"{run.name} has no labelled test images")
    return found


def _reliability(wish: Wish) -> Any:
    """Of one run before and after its temperature, of several as they predicted."""
    for run in wish.runs:
        _analysis(run)
    if len(wish.runs) == 1:
        series = reliability_of(wish.run)
    else:
        labels = labels_of(wish.runs)
        series = {labels[run.name]: _analysis(run).reliability for run in wish.runs}
    return figures.draw_reliability(series, wish.title)


def _path(wish: Wish) -> Any:
    labels, tried = labels_of(wish.runs), {}
    for run in wish.runs:
        facts = run.record.facts
        rows = facts.path if isinstance(facts, FitFacts) else None
        found = figures.tried_of(rows or (), run.record.chosen or {})
        if found is None:
            raise UsageError(f"run {run.name} has no path: {run.record.head} did not try several values")
        tried[labels[run.name]] = found
    varied = {found.name for found in tried.values()}
    if len(varied) > 1:
        raise UsageError("these runs have tried different things", found=", ".join(sorted(varied)))
    return figures.draw_path(tried, wish.title)


def _few_shot(wish: Wish) -> Any:
    labels, curves = labels_of(wish.runs), {}
    for run in wish.runs:
        facts = run.record.facts
        curve = facts.curve if isinstance(facts, FitFacts) else None
        if not any(point.mean is not None for point in curve or ()):
            raise UsageError(
                f"run {run.name} has no few-shot curve", hint="probe fit … --shots 1,2,5,10,all makes one"
            )
        curves[labels[run.name]] = curve or ()
    return figures.draw_few_shot(curves, wish.title)


def _map(wish: Wish) -> Any:
    source = wish.source
    if not len(source.rows):
        raise StoreError(f"no image of {source.store.name} was read")
    rows = evenly(source.rows, MOST_POINTS)
    found = map_of(source.features(rows), wish.map)
    index = source.store.index
    groups, names = index.labels[rows], index.classes.tolist()
    if wish.colour == "split":
        names = [*SPLITS, *(["no split"] if (index.splits == NO_SPLIT).any() else [])]
        order = (*SPLITS, NO_SPLIT)
        groups = np.array([order.index(split) for split in index.splits[rows].tolist()])
    if wish.colour == "correct":
        groups, names = np.full(len(rows), -1), ["right", "wrong"]
        mine, predictions = called_by(wish.run, source)
        places = np.minimum(np.searchsorted(rows, mine), len(rows) - 1)
        there = (rows[places] == mine) & (predictions.labels >= 0)
        groups[places[there]] = np.where(predictions.correct[there], 0, 1)
    return figures.draw_map(found.points, groups, names, found.axes, wish.title)


def _samples(wish: Wish) -> Any:
    """Training images of the first classes."""
    source = wish.source
    if source.pictures is None:
        raise StoreError(f"there are no pictures of {source.store.name}", found=source.no_pictures)
    index = source.store.index
    rows = source.store.rows(TRAIN)
    rows = rows[index.labels[rows] >= 0]
    if not len(rows):
        raise StoreError(f"{source.store.name} has no labelled training images")
    shown = {}
    for mine in list(by_class(index.labels, rows, SAMPLES))[:SAMPLED_CLASSES]:
        pictures = (source.pictures.small(row, SINGLE) for row in mine.tolist())
        shown[str(index.classes[index.labels[mine[0]]])] = [p for p in pictures if p is not None]
    return figures.draw_samples(shown, wish.title)


PLOTS: Mapping[str, Callable[[Wish], Any]] = {
    "confusion": _confusion,
    "map": _map,
    "path": _path,
    "few-shot": _few_shot,
    "reliability": _reliability,
    "per-class": _per_class,
    "samples": _samples,
}
"""Name -> how the figure is drawn."""

OF_STORES = ("map", "samples")
"""Figures of a store that need no run."""
