"""The rows of a store that an audit looks at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.audit.features import read_features
from probe.audit.record import Copies, Picture
from probe.config import Home
from probe.errors import FitError
from probe.fit.rows import DEFAULT_MEMORY
from probe.heads.head import Features
from probe.store import Index, Store

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class AuditJob:
    """One store to look through.

    Attributes
    ----------
    output : which of its outputs; None for the first.
    memory : bytes; larger features stay on disk and are read in blocks.
    seed : of the folds.
    progress : say on stderr how far it has come.
    """

    store: Store
    output: str | None = None
    memory: int = DEFAULT_MEMORY
    seed: int = 0
    progress: bool = False


@dataclass(frozen=True)
class Material:
    """Every picture of a store that was read, n of them.

    Attributes
    ----------
    rows : (n,) their rows in the store.
    index : who they are.
    features : (n, D).
    notes : what could not be looked at; the looks add to it.
    """

    job: AuditJob
    home: Home
    rows: Rows
    index: Index
    features: Features
    notes: list[str] = field(default_factory=list)

    def picture(self, row: int) -> Picture:
        """Who a row is."""
        label = int(self.index.labels[row])
        name = str(self.index.classes[label]) if label >= 0 else ""
        return Picture(str(self.index.ids[row]), str(self.index.splits[row]), name)

    def copies(self, rows: Rows, closeness: float) -> Copies:
        """Rows that are copies of one another."""
        return Copies(tuple(map(self.picture, rows.tolist())), closeness)


def gather(job: AuditJob, home: Home) -> Material:
    """Read what an audit looks at. FitError without a picture, StoreError for a damaged store."""
    rows = job.store.rows()
    if not len(rows):
        raise FitError(f"{job.store.name} has no picture that was read", hint="probe stores show")
    features = read_features(job.store, job.output, rows, job.memory)
    return Material(job, home, rows, job.store.index.take(rows), features)
