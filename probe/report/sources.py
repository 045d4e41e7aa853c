"""What a report or a figure is made of: runs, their stores, and the pictures of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.config import Home
from probe.errors import ProbeError, StoreError, UnknownNameError, UsageError, unknown_name
from probe.extract import dataset_of
from probe.fit.rows import StoredRows, source_of
from probe.order import places_back
from probe.report.thumbnails import Pictures
from probe.runs import Predictions, Run, find_run, list_runs
from probe.runs.record import FitFacts, TuneFacts
from probe.store import Store, find_store, is_store_name, list_stores, open_in_place
from probe.store.finding import stores_of


@dataclass(frozen=True)
class Source:
    """A store with what is read of it once.

    Attributes
    ----------
    outputs : those that are shown, side by side.
    """

    store: Store
    outputs: tuple[str, ...]
    home: Home

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """The rows whose image was read, in store order."""
        return self.store.rows()

    @cached_property
    def _pictures(self) -> Pictures | ProbeError:
        exif = bool(self.store.manifest.spec["pixels"].get("exif"))
        try:
            return Pictures(dataset_of(self.store, self.home), exif=exif)
        except ProbeError as error:
            return error

    @property
    def pictures(self) -> Pictures | None:
        """Its pictures; None where its data set cannot be read again, and `no_pictures` says why."""
        return self._pictures if isinstance(self._pictures, Pictures) else None

    @property
    def no_pictures(self) -> str:
        """Why there are no pictures; empty where there are."""
        found = self._pictures
        if isinstance(found, Pictures):
            return ""
        return f"{found.problem}" + (f" ({found.found})" if found.found else "")

    def features(self, rows: NDArray[np.intp]) -> StoredRows:
        """The plain embeddings of some rows, ascending."""
        return source_of(self.store, self.outputs, rows, range(1))

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.store.index.ids)

    def rows_of(self, ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.intp]:
        """(M,) the row of each id, -1 for one that the store does not have."""
        known, wanted = self.store.index.ids, np.asarray(ids, dtype=np.str_)
        if not len(wanted) or not len(known):
            return np.full(len(wanted), -1, np.intp)
        places = np.searchsorted(known, wanted, sorter=self._order)
        rows = self._order[np.minimum(places, len(known) - 1)]
        return np.where(known[rows] == wanted, rows, -1)

    def picture(self, image: str) -> str | None:
        """The data URI of an image by its id."""
        row = int(self.rows_of([image])[0])
        return None if self.pictures is None or row < 0 else self.pictures.uri(row)


def source_of_store(store: Store, home: Home, outputs: tuple[str, ...] = ()) -> Source:
    """A store with some of its outputs, or its first."""
    return Source(store, outputs or tuple(store.outputs[:1]), home)


def source_of_run(run: Run, home: Home) -> Source:
    """The store of a run under the labels that the run has seen.

    StoreError where it is gone, another one, or where the run was made without any.
    """
    record, facts = run.record, run.record.facts
    if record.store is None:
        raise StoreError(f"{run.name} was made without a store")
    store = open_in_place(home.stores / record.store)
    key = facts.store_key if isinstance(facts, FitFacts | TuneFacts) else None
    if key is not None and key != store.key:
        raise StoreError(f"{store.name} is not the store that {run.name} was made of")
    if record.index is not None and record.index != store.index_hash:
        store = _labelled_as(store, record.index)
    return source_of_store(store, home, facts.output if isinstance(facts, FitFacts) else ())


def _labelled_as(store: Store, index: str) -> Store:
    """The store under another of its labellings, under its own where it does not have that any more."""
    other = replace(store, index_hash=index)
    try:
        other.index  # noqa: B018 - read now, so that it is known whether it is there
    except StoreError:
        return store
    return other


def find_sources(home: Home, names: Sequence[Run | Store | str]) -> tuple[list[Run], list[Store]]:
    """The runs and the stores that names mean, in their order; the newest run where there is no name.

    What is called exactly so goes first, then a data set, then a part of a name; of both the run.
    UnknownNameError for what is neither, UsageError where one is named twice.
    """
    found = [_find(home, name) for name in names] or [find_run(home, None)]
    paths = [thing.path.resolve() for thing in found]
    if len(set(paths)) < len(paths):
        raise UsageError("something is named twice", found=", ".join(thing.name for thing in found))
    return [f for f in found if isinstance(f, Run)], [f for f in found if isinstance(f, Store)]


def _find(home: Home, name: Run | Store | str) -> Run | Store:
    if not isinstance(name, str):
        return name
    exact_run = (home.runs / name).is_dir() if Path(name).name == name else False
    if exact_run or places_back(name) is not None:
        return find_run(home, name)
    if is_store_name(home, name) or stores_of(name, list_stores(home)[0]):
        return find_store(home, name)
    try:
        return find_run(home, name)
    except UnknownNameError as error:
        runs = [run.name for run in list_runs(home)[0]]
        stores = [store.name for store in list_stores(home)[0]]
        if any(name in run for run in runs):
            raise
        if any(name in store for store in stores):
            return find_store(home, name)
        known = runs + stores
        raise unknown_name("run or store", name, known, home.root) from error


def called_by(run: Run, source: Source) -> tuple[NDArray[np.intp], Predictions]:
    """Of a run's test predictions those whose image the store has: their rows and themselves."""
    predictions = run.predictions
    rows = source.rows_of(predictions.ids)
    known = np.flatnonzero(rows >= 0)
    groups = predictions.groups
    return rows[known], Predictions(
        predictions.ids[known],
        predictions.labels[known],
        predictions.probabilities[known],
        None if groups is None else groups[known],
    )
