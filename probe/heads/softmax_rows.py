"""Standardised rows for passes that read them block by block: in float32, or in bfloat16 from a copy.

A pass in bfloat16 that reads a store spends as much on reading, standardising and rounding its rows as on a
product with them. The first such pass therefore writes what it has rounded to a file beside the store, and
those that follow read nothing else. The file has no name: it is gone with the process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, Floats, block_slices, blocks
from probe.heads.softmax_kernel import pieces
from probe.heads.standardise import standardised

Halves = NDArray[np.uint16]
"""The bits of bfloat16, which numpy has no type for."""
DISK_SHARE = 0.5
"""How much of the free disk a copy of rows may take: it only saves time."""

Block = tuple[slice, Floats | None]
"""Which rows, and their features as they are stored, where these have been read."""


class StandardRows(Protocol):
    """Rows (N, D) brought to mean 0 and spread 1, `dtype` being what they are handed out in."""

    dtype: np.dtype[Any]

    def blocks(self, step: int) -> Iterator[Block]:
        """All rows in order, no more than `step` at a time."""
        ...

    def write(self, block: Block, out: NDArray[Any]) -> None:
        """Write a block, standardised, to `out` (n, D); several threads may do so at once."""
        ...


@dataclass(frozen=True)
class StreamedRows:
    """In float32, read and standardised anew for every pass; a copy may lie in `folder`, or nowhere."""

    features: Features
    mean: Floats
    scale: Floats
    folder: Path | None = None

    dtype = np.dtype(np.float32)

    @cached_property
    def rounded(self) -> RoundedRows:
        """The same rows in bfloat16."""
        # Two objects that know one another would keep the file until garbage is sought.
        return RoundedRows(replace(self))

    def __getstate__(self) -> dict[str, Any]:
        # Another process makes a copy of its own.
        return {name: getattr(self, name) for name in ("features", "mean", "scale", "folder")}

    def slices(self, step: int) -> list[slice]:
        """The rows of each of `blocks`."""
        return [part for rows in block_slices(self.features) for part in _parts(rows, step)]

    def blocks(self, step: int) -> Iterator[Block]:
        for rows, values in blocks(self.features):
            for part in _parts(rows, step):
                yield part, values[part.start - rows.start : part.stop - rows.start]

    def write(self, block: Block, out: Floats) -> None:
        standardised(self.values(block), self.mean, self.scale, out=out)

    def values(self, block: Block) -> Floats:
        """The features of a block as they are stored, read where they have not been."""
        rows, values = block
        return np.asarray(self.features[rows], dtype=np.float32) if values is None else values


class RoundedRows:
    """In bfloat16, from a file once a pass over all of them has written it.

    Without a folder for it, without room on its disk, and where that fails, they are read and rounded anew
    for every pass: the same numbers, more slowly.
    """

    dtype = np.dtype(np.uint16)

    def __init__(self, rows: StreamedRows) -> None:
        self._rows = rows
        count, width = rows.features.shape
        self._count, self._row_bytes = count, width * self.dtype.itemsize
        self._file = _nameless_file(rows.folder, count * self._row_bytes)
        self._written, self._lock = 0, threading.Lock()
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)

    def blocks(self, step: int) -> Iterator[Block]:
        if self._is_copied:
            return iter([(part, None) for part in self._rows.slices(step)])
        self._written = 0
        return self._rows.blocks(step)

    def write(self, block: Block, out: Halves) -> None:
        rows, values = block
        if values is None and self._read(rows, out):
            return
        self._round(self._rows.values(block), out)
        if values is not None:
            self._keep(rows, out)

    @property
    def _is_copied(self) -> bool:
        return self._file is not None and self._written == self._count

    def _round(self, values: Floats, out: Halves) -> None:
        # So few rows at a time that they are in the cache when they are rounded.
        for some in pieces(*values.shape):
            words = standardised(values[some], self._rows.mean, self._rows.scale).view(np.uint32)
            words += np.uint32(0x8000)
            np.right_shift(words, 16, out=out[some], casting="unsafe")

    def _read(self, rows: slice, out: Halves) -> bool:
        file, start, left = self._file, rows.start * self._row_bytes, out.data.cast("B")
        while file is not None and left:
            try:
                there = os.preadv(file, [left], start)
            except OSError:
                there = 0
            if not there:
                self._give_up()
                return False
            start, left = start + there, left[there:]
        return file is not None

    def _keep(self, rows: slice, out: Halves) -> None:
        file, start, left = self._file, rows.start * self._row_bytes, out.data.cast("B")
        while file is not None and left:
            try:
                there = os.pwrite(file, left, start)
            except OSError:
                self._give_up()
                return
            start, left = start + there, left[there:]
        with self._lock:
            self._written += rows.stop - rows.start

    def _give_up(self) -> None:
        """Make room again. What other threads have open stays so, or they would read another file's bytes."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.ftruncate(file, 0)


def _nameless_file(folder: Path | None, size: int) -> int | None:
    """The descriptor of a new file without a name on the disk of this folder; None without one, where `size`
    bytes are too many for the disk, or where nothing can be written."""
    try:
        if folder is None or size > DISK_SHARE * shutil.disk_usage(folder).free:
            return None
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    except OSError:
        return None


def _parts(rows: slice, step: int) -> list[slice]:
    return [slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step)]
