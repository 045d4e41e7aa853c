"""A store's rows as one matrix for an audit, in memory where they fit and in blocks where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.audit.labels import FOLDS
from probe.fit.rows import StoredRows, source_of
from probe.heads import HEADS
from probe.heads.head import ChosenRows, Features, FitSize, Floats, blocks
from probe.heads.logreg import LogregOptions
from probe.store import Store

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Pooled:
    """Feature maps (N, H, W, C) as their means over the places, (N, C); `source` has them flattened."""

    source: StoredRows
    channels: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape[0], self.channels

    def __getitem__(self, rows: slice | Rows) -> Floats:
        flat = self.source[rows]
        means: Floats = flat.reshape(len(flat), -1, self.channels).mean(axis=1)
        return means


def read_features(store: Store, output: str | None, rows: Rows, memory: int) -> Features:
    """`rows` of one output, (n, D) float32: an array where it, and what looking at it holds, takes no more
    than `memory` bytes.

    A map is averaged over its places. StoreError where the store is damaged, UnknownNameError where it has no
    such output.
    """
    source = source_of(store, (output,) if output else (), rows, range(1))
    features: StoredRows | Pooled = source
    if source.map_shape is not None:
        features = Pooled(source, source.map_shape[2])
    count, width = features.shape
    size = FitSize(count, 0, 0, width, max(len(store.index.classes), 2))
    held = HEADS["logreg"].held_bytes(size, LogregOptions(cv=FOLDS), in_memory=True)
    # Once more: the rows that are compared, or fitted on.
    if 2 * 4 * count * width + held > memory:
        return features
    found = np.empty((count, width), np.float32)
    for some, block in blocks(features):
        found[some] = block
    return found


def chosen(features: Features, rows: Rows) -> Features:
    """Some rows of the features, copied where they are in memory."""
    return features[rows] if isinstance(features, np.ndarray) else ChosenRows(features, rows)
