"""What a reader finds: rows with labels and the publisher's split, before anything is hashed or divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import ImageSource
from probe.datasets.sources import FileSource, SourceRows


@dataclass(frozen=True)
class Listing:
    """N rows sorted by id.

    Attributes
    ----------
    name, ids, labels, classes, source, facts, notes : as in `Dataset`.
    splits : (N,) the publisher's or the user's split; all ``""`` where there is none.
    broken : ids that are known not to decode as published.
    groups : (N,) rows with the same non-empty group stay in one split; None without groups.
    """

    name: str
    ids: NDArray[np.str_]
    labels: NDArray[np.int32]
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    source: ImageSource
    groups: NDArray[np.str_] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp]) -> Listing:
        """Only `rows`, in the order given."""
        source: ImageSource
        if isinstance(self.source, FileSource):
            source = FileSource(self.source.root, [self.source.files[row] for row in rows.tolist()])
        else:
            source = SourceRows(self.source, len(self), rows)
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            splits=self.splits[rows],
            groups=None if self.groups is None else self.groups[rows],
            source=source,
        )

    def noting(self, *notes: str) -> Listing:
        return replace(self, notes=self.notes + tuple(note for note in notes if note))


def string_array(values: list[str]) -> NDArray[np.str_]:
    """A str array also of an empty list (numpy would make floats of it)."""
    return np.array(values, dtype=np.str_) if values else np.empty(0, dtype="<U1")
