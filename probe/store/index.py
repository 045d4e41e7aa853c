"""Who the rows are: id, content hash, label, split and, where there are any, group.

Kept apart from the features, so that relabelling never runs a network again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.duplicates import shared_between, under_several_labels
from probe.errors import StoreError
from probe.order import number_of
from probe.store.files import LocalFiles
from probe.store.spec import images_digest
from probe.units import count_groups, kept_together
from probe.whole import read_arrays

CURRENT = "index/CURRENT.json"
FIELDS = ("ids", "hashes", "labels", "splits", "classes")
"""What every index file has; ``groups`` comes on top where there are any."""


@dataclass(frozen=True)
class Index:
    """The rows of a store as one labelling sees them.

    Attributes
    ----------
    ids, hashes, splits : (N,) strings; see `probe.datasets.dataset.Dataset`.
    labels : (N,) int32 into `classes`, -1 unlabelled.
    classes : (C,) strings.
    groups : (N,) strings, "" for a row in no group; None without groups, as in every index from before there
        were any.
    """

    ids: NDArray[np.str_]
    hashes: NDArray[np.str_]
    labels: NDArray[np.int32]
    splits: NDArray[np.str_]
    classes: NDArray[np.str_]
    groups: NDArray[np.str_] | None = None

    def take(self, rows: NDArray[np.intp]) -> Index:
        """Only `rows`, in the order given."""
        groups = None if self.groups is None else self.groups[rows]
        return Index(
            self.ids[rows],
            self.hashes[rows],
            self.labels[rows],
            self.splits[rows],
            self.classes,
            groups if count_groups(groups) else None,
        )

    def units(self) -> NDArray[np.intp]:
        """(N,) which rows must not be parted, see `probe.units`."""
        return kept_together(self.hashes, self.groups)

    def duplicates(self) -> dict[str, int]:
        """``train_val``, ``train_test``, ``val_test`` -> exact copies of one picture in both; 0 left out."""
        shared = shared_between(self.hashes, self.splits)
        return {f"{first}_{second}": count for (first, second), count in shared.items()}

    def label_conflicts(self) -> list[list[str]]:
        """The ids of each picture that has more than one label: whatever a head says of it is wrong once."""
        return [self.ids[rows].tolist() for rows in under_several_labels(self.hashes, self.labels)]

    def parted_groups(self) -> dict[str, int]:
        """The same for groups, which only a split that was not made here parts."""
        shared = {} if self.groups is None else shared_between(self.groups, self.splits)
        return {f"{first}_{second}": count for (first, second), count in shared.items()}

    @cached_property
    def hash(self) -> str:
        """sha256 over the content (not the file), 64 hex digits; what a run records."""
        digest = hashlib.sha256()
        for part in (self.ids, self.hashes, self.splits, self.classes):
            digest.update(json.dumps(part.tolist()).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4").tobytes())
        if self.groups is not None:
            digest.update(json.dumps(self.groups.tolist()).encode())
        return digest.hexdigest()


def write_index(files: LocalFiles, index: Index) -> str:
    """Add the index unless the store has it whole, and return its hash."""
    name = f"index/{index.hash}.npz"
    if not _is_whole(files, index):
        stream = io.BytesIO()
        arrays = {field: getattr(index, field) for field in FIELDS}
        if index.groups is not None:
            arrays["groups"] = index.groups
        np.savez_compressed(stream, **arrays)
        files.write(name, stream.getvalue())
    return index.hash


def _is_whole(files: LocalFiles, index: Index) -> bool:
    if not files.exists(f"index/{index.hash}.npz"):
        return False
    try:
        read_index(files, index.hash, len(index.ids))
    except StoreError:
        return False
    return True


_DAMAGED = (ValueError, KeyError, OSError)


def _no_index(files: LocalFiles, name: str, error: Exception) -> StoreError:
    return StoreError(f"{files.path(name)} is not an index", found=str(error), hint=files.repair_hint)


def read_index(files: LocalFiles, digest: str, rows: int) -> Index:
    """Read one index and check it against its own hash and the number of rows."""
    name = f"index/{digest}.npz"
    try:
        arrays = read_arrays(files.path(name))
        index = Index(**{field: arrays[field] for field in FIELDS}, groups=arrays.get("groups"))
    except _DAMAGED as error:
        raise _no_index(files, name, error) from error
    columns = [index.ids, index.hashes, index.labels, index.splits]
    columns += [] if index.groups is None else [index.groups]
    if any(column.shape != (rows,) for column in columns):
        raise StoreError(
            f"{files.path(name)} does not fit its store",
            expected=f"{rows} rows",
            found=f"{len(index.ids)}",
            hint=files.repair_hint,
        )
    if index.hash != digest:
        raise StoreError(
            f"{files.path(name)} was changed", expected=digest, found=index.hash, hint=files.repair_hint
        )
    return index


def read_hashes(files: LocalFiles, images: str, rows: int) -> NDArray[np.str_]:
    """(N,) the content hash of every row, checked against what a store's key holds of its images.

    Of the labelling in force only ids and hashes are read. StoreError where it is not that of the store.
    """
    name = f"index/{read_current(files).index}.npz"
    try:
        arrays = read_arrays(files.path(name), ("ids", "hashes"))
        ids, hashes = arrays["ids"], arrays["hashes"]
    except _DAMAGED as error:
        raise _no_index(files, name, error) from error
    fits = ids.shape == hashes.shape == (rows,) and ids.dtype.kind == hashes.dtype.kind == "U"
    if not fits or images_digest(ids, hashes) != images:
        raise StoreError(f"{files.path(name)} does not fit its store", hint=files.repair_hint)
    return hashes


@dataclass(frozen=True)
class Current:
    """What a store says of its use.

    Attributes
    ----------
    index : hash of the index that readers take.
    used : ISO time of the last use, for people.
    sequence : counts the uses of all stores of a home, so that the largest is the last; None in a store from
        before there was a count.
    origins : how the data set was opened each time it was another way, the last last: the same pictures may
        lie in several places, and move.
    """

    index: str
    used: str
    sequence: int | None
    origins: tuple[Mapping[str, Any], ...] = ()


def _damaged(files: LocalFiles) -> StoreError:
    return StoreError(f"{files.path(CURRENT)} is damaged", hint=files.repair_hint)


def set_current(files: LocalFiles, current: Current) -> None:
    """Make an index the one that readers take, and the store the last used."""
    files.write(CURRENT, json.dumps(asdict(current)).encode())


def read_current(files: LocalFiles) -> Current:
    """Which index is in force, and when the store was last used; StoreError when the record is damaged."""
    value = files.read_json(CURRENT)
    try:
        digest, used = str(value["index"]), str(value["used"])
    except (KeyError, TypeError) as error:
        raise _damaged(files) from error
    if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise _damaged(files)
    origins = value.get("origins")
    known = origins if isinstance(origins, list) else []
    return Current(digest, used, number_of(value), tuple(filter(_is_origin, known)))


def _is_origin(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("spec", ""), str)
