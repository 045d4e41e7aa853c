"""The content hash of every row, in one parallel pass, remembered by path and stamp of the files."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import ImageSource
from probe.datasets.sources import FileSource, KeptWhole, RowSource
from probe.errors import NOT_WRITABLE
from probe.hashing import content_hash, file_stamp
from probe.machine import usable_cpus

UNREADABLE = ""
_ROWS_PER_TASK = 64
_SETTLED_NS = 50_000_000
_GONE = -1


def index_rows(source: ImageSource, count: int, cache: Path, *, rehash: bool = False) -> NDArray[np.str_]:
    """(count,) sha256 of every row's content, ``""`` for one that cannot be read.

    What was hashed before is taken from the folder `cache` when its files have kept their `file_stamp`,
    unless `rehash` wants every byte read. Where images are read for a network, their content is compared
    with this index once more.
    """
    if isinstance(source, RowSource):
        return index_rows(source.source, source.total, cache, rehash=rehash)[source.rows]
    if isinstance(source, FileSource):
        return _index_files(source, cache, rehash)
    if isinstance(source, KeptWhole) and source.origin:
        return _index_whole(source, count, cache, rehash)
    return hash_rows(source, np.arange(count))


def hash_rows(source: ImageSource, rows: NDArray[np.intp], *, threads: int | None = None) -> NDArray[np.str_]:
    """(len(rows),) sha256 of the content of each row, ``""`` for a row that cannot be read.

    Memory is bounded by one image a thread: reading and hashing release the interpreter's lock.
    """

    def task(start: int) -> list[str]:
        return [_hash(source, row) for row in rows[start : start + _ROWS_PER_TASK].tolist()]

    with ThreadPoolExecutor(threads or usable_cpus()) as pool:
        parts = list(pool.map(task, range(0, len(rows), _ROWS_PER_TASK)))
    return np.array([digest for part in parts for digest in part], dtype="<U64")


def _hash(source: ImageSource, row: int) -> str:
    try:
        return content_hash(source.read(row))
    except OSError:
        return UNREADABLE


@dataclass(frozen=True)
class _Memory:
    """names (N,) sorted, stamps (N, 4) see `file_stamp`, hashes (N,): what is known of some files."""

    names: NDArray[np.str_]
    stamps: NDArray[np.int64]
    hashes: NDArray[np.str_]


STAMP = 4
NOTHING = _Memory(np.empty(0, "<U1"), np.empty((0, STAMP), np.int64), np.empty(0, "<U64"))


def _index_files(source: FileSource, cache: Path, rehash: bool) -> NDArray[np.str_]:
    names = np.array(source.files, dtype=np.str_)
    root = f"{source.root}{os.sep}"
    stamps = _stamps([name if name.startswith(os.sep) else root + name for name in source.files])
    file = _cache_file(cache, [source.root])
    memory = _load(file)
    hashes = _recall(NOTHING if rehash else memory, names, stamps)
    unknown = np.flatnonzero((hashes == UNREADABLE) & (stamps[:, 0] != _GONE))
    if len(unknown):
        started = time.time_ns()
        hashes[unknown] = hash_rows(source, unknown)
        # A file touched a moment ago may change again within the same tick of its clock.
        settled = (hashes != UNREADABLE) & (stamps[:, 1] < started - _SETTLED_NS)
        _save(file, _merged(memory, _Memory(names[settled], stamps[settled], hashes[settled])))
    return hashes


def _index_whole(source: KeptWhole, count: int, cache: Path, rehash: bool) -> NDArray[np.str_]:
    """All rows or none: the stamps are those of the files that hold them."""
    stamps = _stamps([str(path) for path in source.origin])
    file = _cache_file(cache, source.origin)
    memory = _load(file)
    if not rehash and len(memory.hashes) == count and np.array_equal(memory.stamps, stamps):
        return memory.hashes
    hashes = hash_rows(source, np.arange(count))
    _save(file, _Memory(np.empty(0, "<U1"), stamps, hashes))
    return hashes


def _stamps(paths: list[str]) -> NDArray[np.int64]:
    return np.array([_stamp(path) for path in paths], dtype=np.int64).reshape(-1, STAMP)


def _stamp(path: str) -> tuple[int, int, int, int]:
    try:
        return file_stamp(path)
    except OSError:
        return _GONE, _GONE, _GONE, _GONE


def _recall(memory: _Memory, names: NDArray[np.str_], stamps: NDArray[np.int64]) -> NDArray[np.str_]:
    hashes = np.full(len(names), UNREADABLE, dtype="<U64")
    if np.array_equal(memory.names, names):
        place, same = np.arange(len(names)), np.ones(len(names), bool)
    else:
        place = np.minimum(np.searchsorted(memory.names, names), max(0, len(memory.names) - 1))
        same = memory.names[place] == names if len(memory.names) else np.zeros(len(names), bool)
    rows = np.flatnonzero(same)
    rows = rows[(memory.stamps[place[rows]] == stamps[rows]).all(axis=1)]
    hashes[rows] = memory.hashes[place[rows]]
    return hashes


def _merged(old: _Memory, new: _Memory) -> _Memory:
    others = ~np.isin(old.names, new.names)
    names = np.concatenate([old.names[others], new.names])
    order = np.argsort(names)
    return _Memory(
        names[order],
        np.concatenate([old.stamps[others], new.stamps])[order],
        np.concatenate([old.hashes[others], new.hashes])[order],
    )


def _cache_file(cache: Path, paths: list[Path] | tuple[Path, ...]) -> Path:
    text = "\0".join(str(path.resolve()) for path in paths)
    return cache / "index" / f"{hashlib.sha256(os.fsencode(text)).hexdigest()[:24]}.npz"


def _load(file: Path) -> _Memory:
    """A cache that cannot be read, or was written by an older version, is an empty one."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            memory = _Memory(stored["names"], stored["stamps"], stored["hashes"].astype("<U64"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return NOTHING
    # Older versions looked at size and mtime only.
    return memory if memory.stamps.shape[1:] == (STAMP,) else NOTHING


def _save(file: Path, memory: _Memory) -> None:
    """Remember for the next time; where nothing can be written, the next time reads again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = tempfile.NamedTemporaryFile(dir=file.parent, suffix=".npz", delete=False)  # noqa: SIM115
    except OSError as error:
        if error.errno in NOT_WRITABLE:
            return
        raise
    with opened as scratch:
        np.savez(scratch, names=memory.names, stamps=memory.stamps, hashes=memory.hashes.astype("S64"))
    Path(scratch.name).replace(file)
