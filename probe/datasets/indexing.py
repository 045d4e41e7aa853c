"""What every row holds, seen in one parallel pass and remembered by path and stamp of the files."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.archives import read_arrays
from probe.config import own_place
from probe.datasets.dataset import ImageSource
from probe.datasets.sources import FileSource, KeptWhole, SourceRows
from probe.durable import discard, replacing
from probe.errors import NOT_WRITABLE
from probe.hashing import content_hash, file_stamp
from probe.jpeg import jpeg_side
from probe.machine import usable_cpus

UNREADABLE = ""
_ROWS_PER_TASK = 64
_SETTLED_NS = 50_000_000
_GONE = -1


@dataclass(frozen=True)
class Contents:
    """What N rows hold.

    Attributes
    ----------
    hashes : (N,) sha256 of each row's content, ``""`` for one that cannot be read.
    sides : (N,) int32, `probe.jpeg.jpeg_side` of each row.
    """

    hashes: NDArray[np.str_]
    sides: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp]) -> Contents:
        return Contents(self.hashes[rows], self.sides[rows])


def index_rows(source: ImageSource, count: int, cache: Path, *, rehash: bool = False) -> Contents:
    """What every one of `count` rows holds.

    What was read before is taken from the folder `cache` when its files have kept their `file_stamp`,
    unless `rehash` wants every byte read. Where images are read for a network, their content is compared
    with this index once more.
    """
    if isinstance(source, SourceRows):
        return index_rows(source.source, source.total, cache, rehash=rehash).take(source.rows)
    if isinstance(source, FileSource):
        return _index_files(source, cache, rehash)
    if isinstance(source, KeptWhole) and source.origin:
        return _index_whole(source, count, cache, rehash)
    return hash_rows(source, np.arange(count))


def hash_rows(source: ImageSource, rows: NDArray[np.intp], *, threads: int | None = None) -> Contents:
    """What `rows` hold, in their order.

    Memory is bounded by one image a thread: reading and hashing release the interpreter's lock.
    """

    def task(start: int) -> list[tuple[str, int]]:
        return [_look_at(source, row) for row in rows[start : start + _ROWS_PER_TASK].tolist()]

    with ThreadPoolExecutor(threads or usable_cpus()) as pool:
        parts = list(pool.map(task, range(0, len(rows), _ROWS_PER_TASK)))
    found = [row for part in parts for row in part]
    return Contents(
        np.array([digest for digest, _ in found], dtype="<U64"),
        np.array([side for _, side in found], dtype=np.int32),
    )


def _look_at(source: ImageSource, row: int) -> tuple[str, int]:
    """Content hash and `jpeg_side` of a row."""
    try:
        raw = source.read(row)
    except OSError:
        return UNREADABLE, 0
    return content_hash(raw), jpeg_side(raw)


@dataclass(frozen=True)
class _Memory:
    """names (N,) sorted, stamps (N, 4) see `file_stamp`, contents of N: what is known of some files."""

    names: NDArray[np.str_]
    stamps: NDArray[np.int64]
    contents: Contents


STAMP = 4
NO_NAMES = np.empty(0, "<U1")
NOTHING = _Memory(
    NO_NAMES, np.empty((0, STAMP), np.int64), Contents(np.empty(0, "<U64"), np.empty(0, np.int32))
)


def _index_files(source: FileSource, cache: Path, rehash: bool) -> Contents:
    names = np.array(source.files, dtype=np.str_)
    root = f"{source.root}{os.sep}"
    stamps = _stamps([name if name.startswith(os.sep) else root + name for name in source.files])
    file = _cache_file(cache, [source.root])
    memory = _load(file)
    found = _recall(NOTHING if rehash else memory, names, stamps)
    unknown = np.flatnonzero((found.hashes == UNREADABLE) & (stamps[:, 0] != _GONE))
    if len(unknown):
        started = time.time_ns()
        new = hash_rows(source, unknown)
        found.hashes[unknown], found.sides[unknown] = new.hashes, new.sides
        settled = np.flatnonzero((found.hashes != UNREADABLE) & _are_settled(stamps, started))
        _save(file, _merged(memory, _Memory(names[settled], stamps[settled], found.take(settled))))
    return found


def _index_whole(source: KeptWhole, count: int, cache: Path, rehash: bool) -> Contents:
    """All rows or none: the stamps are those of the files that hold them."""
    stamps = _stamps([str(path) for path in source.origin])
    file = _cache_file(cache, source.origin)
    memory = _load(file)
    if not rehash and len(memory.contents.hashes) == count and np.array_equal(memory.stamps, stamps):
        return memory.contents
    started = time.time_ns()
    contents = hash_rows(source, np.arange(count))
    if _are_settled(stamps, started).all():
        _save(file, _Memory(NO_NAMES, stamps, contents))
    return contents


def _are_settled(stamps: NDArray[np.int64], now: int) -> NDArray[np.bool_]:
    """(n,) which files cannot change any more within the tick of the clock in which they were written."""
    return np.asarray(stamps[:, 1] < now - _SETTLED_NS)


def _stamps(paths: list[str]) -> NDArray[np.int64]:
    return np.array([_stamp(path) for path in paths], dtype=np.int64).reshape(-1, STAMP)


def _stamp(path: str) -> tuple[int, int, int, int]:
    try:
        return file_stamp(path)
    except OSError:
        return _GONE, _GONE, _GONE, _GONE


def _recall(memory: _Memory, names: NDArray[np.str_], stamps: NDArray[np.int64]) -> Contents:
    found = Contents(np.full(len(names), UNREADABLE, dtype="<U64"), np.zeros(len(names), np.int32))
    if np.array_equal(memory.names, names):
        place, same = np.arange(len(names)), np.ones(len(names), bool)
    else:
        place = np.minimum(np.searchsorted(memory.names, names), max(0, len(memory.names) - 1))
        same = memory.names[place] == names if len(memory.names) else np.zeros(len(names), bool)
    rows = np.flatnonzero(same)
    rows = rows[(memory.stamps[place[rows]] == stamps[rows]).all(axis=1)]
    known = memory.contents.take(place[rows])
    found.hashes[rows], found.sides[rows] = known.hashes, known.sides
    return found


def _merged(old: _Memory, new: _Memory) -> _Memory:
    others = ~np.isin(old.names, new.names)
    names = np.concatenate([old.names[others], new.names])
    order = np.argsort(names)
    return _Memory(
        names[order],
        np.concatenate([old.stamps[others], new.stamps])[order],
        Contents(
            np.concatenate([old.contents.hashes[others], new.contents.hashes])[order],
            np.concatenate([old.contents.sides[others], new.contents.sides])[order],
        ),
    )


def _cache_file(cache: Path, paths: list[Path] | tuple[Path, ...]) -> Path:
    text = "\0".join(str(path.resolve()) for path in paths)
    return own_place(cache, "index") / f"{hashlib.sha256(os.fsencode(text)).hexdigest()[:24]}.npz"


def _load(file: Path) -> _Memory:
    """A cache that cannot be read, or was written by an older version, is an empty one."""
    try:
        stored = read_arrays(file)
        hashes, sides, names, stamps = (stored[name] for name in ("hashes", "sides", "names", "stamps"))
        kinds = [array.dtype.kind for array in (hashes, sides, names, stamps)]
        # Older versions looked at size and mtime only. What is kept whole has no names.
        fits = (
            kinds == ["S", "i", "U", "i"] and stamps.shape[1:] == (STAMP,) and hashes.ndim == names.ndim == 1
        )
        if not fits or sides.shape != hashes.shape or (len(names) and len({*map(len, stored.values())}) > 1):
            return NOTHING
        return _Memory(names, stamps, Contents(hashes.astype("<U64"), sides))
    except (OSError, ValueError, KeyError):
        return NOTHING


def _save(file: Path, memory: _Memory) -> None:
    """Remember for the next time; where nothing can be written, the next time reads again."""
    hashes, sides = memory.contents.hashes.astype("S64"), memory.contents.sides
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            discard(file)
        with replacing(file) as scratch:
            np.savez(scratch, names=memory.names, stamps=memory.stamps, hashes=hashes, sides=sides)
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
