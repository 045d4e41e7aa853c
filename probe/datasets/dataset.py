"""What a data set is to the rest of the house: rows with an id, a content hash, a label and a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.hashing import RawImage

TRAIN, VAL, TEST, NO_SPLIT = "train", "val", "test", ""
SPLITS = (TRAIN, VAL, TEST)
UNLABELLED = -1


class ImageSource(Protocol):
    """Where the bytes of row `i` come from. Must be safe to call from several threads."""

    def read(self, row: int) -> RawImage:
        """The encoded bytes or decoded pixels of a row; OSError when the file cannot be read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """N images in a fixed order, with what is known about each; no pixel is held in memory.

    Attributes
    ----------
    name : short name, safe in a file name; the first part of a store's folder name.
    ids : (N,) unique strings, relative POSIX paths or ``split/row`` for arrays.
    hashes : (N,) sha256 of each image's content as 64 hex digits; ``""`` where it could not be read.
    labels : (N,) int32 into `classes`; -1 where there is none.
    splits : (N,) ``"train"``, ``"val"``, ``"test"`` or ``""``.
    classes : C class names, in label order.
    source : gives the bytes of a row; ``source.read(i)`` belongs to ``ids[i]``.
    facts : what should be remembered with the data (year, publisher's split, licence), as strings.
    notes : sentences a user should see: what was skipped, carved or counted.
    broken : ids that are known not to decode as published, see `DatasetRow.broken`.
    groups : (N,) names of what belongs together (a patient, an animal, a scene), "" for a row in no group;
        None without groups.
    jpeg_sides : (N,) int32, the shorter side of each JPEG that can be decoded at a fraction, 0 for any other
        picture (`probe.jpeg.jpeg_side`); None where nobody has looked.
    origin : how to open it again, see `probe.datasets.reopen`; empty for one that was not opened by name.
    """

    name: str
    ids: NDArray[np.str_]
    hashes: NDArray[np.str_]
    labels: NDArray[np.int32]
    splits: NDArray[np.str_]
    classes: tuple[str, ...]
    source: ImageSource
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken: frozenset[str] = frozenset()
    groups: NDArray[np.str_] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    jpeg_sides: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def thinned(self, limit: int | None) -> Dataset:
        """At most `limit` rows, evenly spread over the order of the rows; all of them for None."""
        if limit is None or limit >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, limit).astype(np.intp))

    def take(self, rows: NDArray[np.intp]) -> Dataset:
        """The same data set with only `rows`, in the order given."""
        return replace(
            self,
            ids=self.ids[rows],
            hashes=self.hashes[rows],
            labels=self.labels[rows],
            splits=self.splits[rows],
            groups=None if self.groups is None else self.groups[rows],
            jpeg_sides=None if self.jpeg_sides is None else self.jpeg_sides[rows],
            source=_Subset(self.source, rows),
        )


def count_parts(splits: NDArray[np.str_]) -> dict[str, int]:
    """(N,) splits -> images in each part there is; ``none`` for those in no part."""
    counts = {part: int((splits == part).sum()) for part in (*SPLITS, NO_SPLIT)}
    return {part or "none": count for part, count in counts.items() if count}


@dataclass(frozen=True)
class _Subset:
    source: ImageSource
    rows: NDArray[np.intp]

    def read(self, row: int) -> RawImage:
        return self.source.read(int(self.rows[row]))
