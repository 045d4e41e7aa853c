"""Who the rows are: id, content hash, label, split and, where there are any, group.

Kept apart from the features, so that relabelling never runs a network again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.archives import read_arrays
from probe.datasets.dataset import count_parts
from probe.datasets.duplicates import shared_between, under_several_labels
from probe.errors import StoreError
from probe.hashing import is_intact, sealed
from probe.order import number_of
from probe.records import load_json, plain, read_record
from probe.store.columns import (
    BLOCK,
    ENDS,
    HASH,
    NAMES,
    TEXT,
    Columns,
    content_bytes,
    hash_texts,
    pack_hashes,
    pack_names,
    pack_text,
    text_column,
    unpack_names,
    unpack_text,
    write_columns,
)
from probe.store.files import LocalFiles
from probe.store.spec import images_digest_of
from probe.units import count_groups, kept_together

ArrayT = TypeVar("ArrayT", bound=NDArray[Any])
CURRENT = "index/CURRENT.json"
FIELDS = ("ids", "hashes", "labels", "splits", "classes")
"""What an index from before columns were packed has; ``groups`` comes on top where there are any."""


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

    @cached_property
    def contents(self) -> NDArray[np.bytes_]:
        """(N,) the hashes as 32 bytes, none where there is none."""
        return content_bytes(self.hashes)

    def units(self) -> NDArray[np.intp]:
        """(N,) which rows must not be parted, see `probe.units`."""
        return kept_together(self.contents, self.groups)

    def facts(self) -> dict[str, Any]:
        """What is told of a labelling without a look at its rows: ``parts``, ``classes``, ``duplicates``,
        ``label_conflicts``, ``groups`` (how many) and ``parted_groups``."""
        return {
            "parts": count_parts(self.splits),
            "classes": self.classes.tolist(),
            "duplicates": self.duplicates(),
            "label_conflicts": self.label_conflicts(),
            "groups": count_groups(self.groups),
            "parted_groups": self.parted_groups(),
        }

    def duplicates(self) -> dict[str, int]:
        """``train_val``, ``train_test``, ``val_test`` -> exact copies of one picture in both; 0 left out."""
        return _shared(self.contents, self.splits)

    def label_conflicts(self) -> list[list[str]]:
        """The ids of each picture that has more than one label: whatever a head says of it is wrong once."""
        return [self.ids[rows].tolist() for rows in under_several_labels(self.contents, self.labels)]

    def parted_groups(self) -> dict[str, int]:
        """The same as `duplicates` for groups, which only a split that was not made here parts."""
        return {} if self.groups is None else _shared(self.groups, self.splits)

    @cached_property
    def hash(self) -> str:
        """sha256 over the content (not the file), 64 hex digits; what a run records."""
        return self.digest()

    def digest(self) -> str:
        """`hash`, from the columns as they are."""
        digest = hashlib.sha256()
        for name in ("ids", "hashes", "splits", "classes"):
            _hash_texts(digest, self.texts(name))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4").tobytes())
        if self.groups is not None:
            _hash_texts(digest, self.texts("groups"))
        return digest.hexdigest()

    def texts(self, name: str) -> Iterator[list[str]]:
        """A column of texts, a block at a time."""
        column = getattr(self, name)
        for start in range(0, len(column), BLOCK):
            yield column[start : start + BLOCK].tolist()


def _hash_texts(digest: Any, blocks: Iterator[list[str]]) -> None:
    """Hash texts as one JSON list, which is not made."""
    between = "["
    for block in blocks:
        digest.update((between + json.dumps(block)[1:-1]).encode())
        between = ", "
    digest.update(b"[]" if between == "[" else b"]")


def _shared(names: NDArray[Any], splits: NDArray[np.str_]) -> dict[str, int]:
    return {f"{first}_{second}": count for (first, second), count in shared_between(names, splits).items()}


class StoredIndex(Index):
    """An index on disk, of which each column is read when it is asked for, and its checksum looked at.

    One that `dataclasses.replace` makes of it has all its columns, as any `Index`.
    """

    @classmethod
    def open(cls, files: LocalFiles, digest: str, rows: int) -> StoredIndex:
        """The index called `digest`; nothing is read yet."""
        self = cls.__new__(cls)
        # A frozen dataclass is set past its own `__setattr__`.
        vars(self).update(_files=files, _name=_file_of(digest), _rows=rows, hash=digest)
        return self

    def _read(self, *names: str) -> Columns:
        files: LocalFiles = vars(self)["_files"]
        try:
            return read_arrays(files.path(vars(self)["_name"]), names)
        except _DAMAGED as error:
            raise _no_index(files, vars(self)["_name"], error) from error

    def _column(self, read: Callable[[Columns], ArrayT], names: Collection[str], rows: int | None) -> ArrayT:
        """A column of `rows` rows; StoreError where it is none."""
        files: LocalFiles = vars(self)["_files"]
        try:
            found = read(self._read(*names))
            if rows is not None and found.shape != (rows,):
                raise ValueError(f"{found.shape} values, where there are {rows} rows")
        except _DAMAGED as error:
            raise _no_index(files, vars(self)["_name"], error) from error
        return found

    def _text(self, name: str, rows: int | None) -> NDArray[np.str_]:
        return self._column(
            lambda columns: text_column(unpack_text(name, columns)), (name + TEXT, name + ENDS), rows
        )

    def _names(self, name: str) -> NDArray[np.str_]:
        names = (name, name + NAMES + TEXT, name + NAMES + ENDS)
        return self._column(lambda columns: unpack_names(name, columns), names, vars(self)["_rows"])

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        return self._text("ids", vars(self)["_rows"])

    @cached_property
    def hashes(self) -> NDArray[np.str_]:
        return text_column(self.texts("hashes"))

    @cached_property
    def contents(self) -> NDArray[np.bytes_]:
        if "_files" not in vars(self):
            return content_bytes(self.hashes)

        def read(columns: Columns) -> NDArray[np.bytes_]:
            if "hashes" not in columns:
                return content_bytes(text_column(unpack_text("hashes", columns)))
            if columns["hashes"].dtype != np.uint8 or columns["hashes"].shape[1:] != (HASH,):
                raise ValueError("hashes of another type")
            return np.ascontiguousarray(columns["hashes"]).view("S32").reshape(-1)

        return self._column(read, ("hashes", "hashes" + TEXT, "hashes" + ENDS), vars(self)["_rows"])

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        def read(columns: Columns) -> NDArray[np.int32]:
            if columns["labels"].dtype != np.int32:
                raise ValueError("labels of another type")
            return columns["labels"]

        return self._column(read, ("labels",), vars(self)["_rows"])

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        return self._names("splits")

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        return self._text("classes", None)

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        return self._names("groups") if "groups" in self._read("groups") else None

    def facts(self) -> dict[str, Any]:
        if "_files" not in vars(self):
            return super().facts()
        files: LocalFiles = vars(self)["_files"]
        try:
            found = load_json(self._read("facts")["facts"].tobytes().decode())
            return dict(plain(read_record(_Facts, found)))
        except _DAMAGED as error:
            raise _no_index(files, vars(self)["_name"], error) from error

    def texts(self, name: str) -> Iterator[list[str]]:
        if "_files" not in vars(self):
            yield from super().texts(name)
        elif name in ("ids", "classes"):
            yield from self._blocks(name)
        elif name == "hashes" and "hashes" in self._read("hashes"):
            for start in range(0, len(self.contents), BLOCK):
                yield hash_texts(self.contents[start : start + BLOCK])
        elif name == "hashes":
            yield from self._blocks(name)
        else:
            yield from super().texts(name)

    def _blocks(self, name: str) -> Iterator[list[str]]:
        files: LocalFiles = vars(self)["_files"]
        try:
            yield from unpack_text(name, self._read(name + TEXT, name + ENDS))
        except _DAMAGED as error:
            raise _no_index(files, vars(self)["_name"], error) from error


@dataclass(frozen=True)
class _Facts:
    """`Index.facts` as they are written."""

    parts: Mapping[str, int]
    classes: tuple[str, ...]
    duplicates: Mapping[str, int]
    label_conflicts: tuple[tuple[str, ...], ...]
    groups: int
    parted_groups: Mapping[str, int]


def _file_of(digest: str) -> str:
    return f"index/{digest}.npz"


def write_index(files: LocalFiles, index: Index) -> str:
    """Add the index unless the store has it whole, and return its hash."""
    if not _is_whole(files, index):
        columns = {
            "digest": np.array(index.hash.encode()),
            **pack_text("ids", index.ids),
            **pack_hashes(index.hashes),
            "labels": np.ascontiguousarray(index.labels, np.int32),
            **pack_names("splits", index.splits),
            **pack_text("classes", index.classes),
            **({} if index.groups is None else pack_names("groups", index.groups)),
            "facts": np.frombuffer(json.dumps(index.facts()).encode(), np.uint8),
        }
        with files.replacing(_file_of(index.hash)) as path:
            write_columns(path, columns)
    return index.hash


def _is_whole(files: LocalFiles, index: Index) -> bool:
    if not files.exists(_file_of(index.hash)):
        return False
    try:
        return read_index(files, index.hash, len(index.ids)).digest() == index.hash
    except StoreError:
        return False


_DAMAGED = (ValueError, KeyError, OSError)
CHECKED_ROWS = 1 << 17
"""Up to here a labelling is compared with its own hash whenever it is opened; beyond, that takes seconds, and
is left to `verify_store`."""


def _no_index(files: LocalFiles, name: str, error: Exception) -> StoreError:
    return StoreError(f"{files.path(name)} is not an index", found=str(error), hint=files.repair_hint)


def read_index(files: LocalFiles, digest: str, rows: int) -> Index:
    """One index, checked against its own hash and the number of rows; its columns are read when asked for."""
    expect_index(files, digest)
    name = _file_of(digest)
    try:
        recorded = read_arrays(files.path(name), ("digest",)).get("digest")
        index = StoredIndex.open(files, digest, rows) if recorded is not None else _read_older(files, name)
    except _DAMAGED as error:
        raise _no_index(files, name, error) from error
    if len(index.labels) != rows or (recorded is None and any(c.shape != (rows,) for c in _rows_of(index))):
        raise StoreError(
            f"{files.path(name)} does not fit its store",
            expected=f"{rows} rows",
            found=f"{len(index.labels)}",
            hint=files.repair_hint,
        )
    if recorded is None or rows <= CHECKED_ROWS:
        found = index.digest()
    else:
        found = recorded.tobytes().decode("ascii", "replace")
    if found != digest:
        raise StoreError(
            f"{files.path(name)} was changed", expected=digest, found=found, hint=files.repair_hint
        )
    return index


def expect_index(files: LocalFiles, digest: str) -> None:
    """StoreError where a store has no index of that hash: what names it is damaged, or another store's."""
    if not files.exists(_file_of(digest)):
        raise _no_index(files, _file_of(digest), FileNotFoundError("there is no such file"))


def _read_older(files: LocalFiles, name: str) -> Index:
    """An index with columns of text, as they were written before `probe.store.columns`."""
    arrays = read_arrays(files.path(name))
    index = Index(**{field: arrays[field] for field in FIELDS}, groups=arrays.get("groups"))
    texts = [index.ids, index.hashes, index.splits, index.classes]
    texts += [] if index.groups is None else [index.groups]
    if any(column.dtype.kind != "U" for column in texts) or index.labels.dtype.kind != "i":
        raise ValueError("columns of another type")
    return index


def _rows_of(index: Index) -> list[NDArray[Any]]:
    columns: list[NDArray[Any]] = [index.ids, index.hashes, index.labels, index.splits]
    return columns if index.groups is None else [*columns, index.groups]


def read_contents(files: LocalFiles, key: str, images: str, rows: int) -> NDArray[np.bytes_]:
    """(N,) the content hash of every row as 32 bytes, checked against what a store's key holds of its images.

    Of the labelling in force only ids and hashes are read. StoreError where it is not that of the store.
    """
    index = read_index(files, read_current(files, key).index, rows)
    if images_digest_of(index.texts("ids"), index.texts("hashes")) != images:
        raise StoreError(f"{files.path(_file_of(index.hash))} does not fit its store", hint=files.repair_hint)
    return index.contents


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


def set_current(files: LocalFiles, current: Current, key: str) -> None:
    """Make an index the one that readers take, and the store, which has this key, the last used."""
    files.write(CURRENT, json.dumps(sealed(asdict(current) | {"store": key})).encode())


def read_current(files: LocalFiles, key: str | None) -> Current:
    """Which index is in force, and when the store was last used.

    StoreError when the record is damaged, or that of a store with another `key`; None where only the use is
    asked for. One from before records said whose they are is believed.
    """
    value = files.read_json(CURRENT)
    try:
        digest, used = str(value["index"]), str(value["used"])
        whole, store = is_intact(value), str(value.get("store", key))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(files) from error
    if not whole or len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise _damaged(files)
    if key is not None and store != key:
        raise StoreError(
            f"{files.path(CURRENT)} is that of another store",
            expected=f"key {key[:12]}",
            found=f"key {store[:12]}",
            hint=files.repair_hint,
        )
    origins = value.get("origins")
    known = origins if isinstance(origins, list) else []
    return Current(digest, used, number_of(value), tuple(filter(_is_origin, known)))


def _is_origin(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("spec", ""), str)
