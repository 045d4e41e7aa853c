"""The content hash of every row, in one parallel pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import ImageSource
from probe.hashing import content_hash
from probe.machine import usable_cpus

UNREADABLE = ""
_ROWS_PER_TASK = 64


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
