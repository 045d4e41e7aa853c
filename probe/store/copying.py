"""Rows of a finished store for another one: found by content, checked against their commits before use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import StoreError
from probe.images.status import Status
from probe.machine import usable_cpus
from probe.store.commits import read_commits
from probe.store.files import LocalFiles
from probe.store.index import read_contents
from probe.store.locks import copying_from
from probe.store.manifest import Manifest, is_sealed, read_manifest


@contextmanager
def open_copy_source(path: Path) -> Iterator[CopySource]:
    """A finished store to copy rows from; while it is open, nobody removes or repairs it.

    StoreError where it is in use, unfinished, or its records do not agree with each other.
    """
    with copying_from(path):
        yield CopySource(path)


class CopySource:
    """A finished store whose records agree with each other; of its chunks nothing is known yet.

    Attributes
    ----------
    manifest : what it says about itself.
    turned : rows of images with an EXIF orientation other than upright.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._files = LocalFiles(path)
        self.manifest: Manifest = read_manifest(self._files)
        self._layout = self.manifest.layout
        self._commits = read_commits(self._files, self._layout)
        if self.manifest.key != self._layout.key or not is_sealed(self.manifest, self._commits):
            raise StoreError(f"the records of {path.name} disagree", hint=self._files.repair_hint)
        self.turned = frozenset(row for c in self._commits.values() for row in c.turned_rows or ())

    def rows(self) -> NDArray[np.intp]:
        """Rows whose image was read and whose orientation is known, ascending."""
        good = np.ones(self._layout.rows, bool)
        for unit, commit in self._commits.items():
            good[[row for row in commit.unreadable if 0 <= row < len(good)]] = False
            if commit.turned and commit.turned_rows is None:
                good[slice(*self._layout.unit_range(unit))] = False
        return np.flatnonzero(good)

    def contents(self) -> NDArray[np.bytes_]:
        """(N,) content hash of every row, 32 bytes each. StoreError where they are not those of the key."""
        images = str(self.manifest.spec["images"])
        return read_contents(self._files, self._layout.key, images, self._layout.rows)

    def damaged_units(self, units: NDArray[np.intp], arrays: Sequence[str]) -> list[int]:
        """Those of `units` with a chunk of `arrays` that is not the one that was committed."""

        def is_damaged(unit: int) -> bool:
            commit = self._commits[unit]
            return any(self._digest(array, unit) != commit.chunks[array] for array in arrays)

        with ThreadPoolExecutor(usable_cpus()) as pool:
            numbers = units.tolist()
            return [unit for unit, bad in zip(numbers, pool.map(is_damaged, numbers), strict=True) if bad]

    def _digest(self, array: str, unit: int) -> str | None:
        name = self._layout.chunk_name(array, unit)
        if self._files.size(name) != self._layout.chunk_bytes(array):
            return None
        return hashlib.sha256(self._files.read(name, None)).hexdigest()

    def rounding(self, rows: NDArray[np.intp]) -> float:
        """What `Commit` says of it, of the units that `rows` lie in; 0 where they say nothing."""
        units = np.unique(rows // self._layout.unit_rows).tolist()
        return max((self._commits[unit].rounding or 0.0 for unit in units), default=0.0)

    def are_read(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether each row has features, by its own status."""
        return np.asarray(self.read("status", rows) == Status.READ)

    def read(self, array: str, rows: NDArray[np.intp]) -> NDArray[Any]:
        """(n, …) `rows` of an array in any order, in the type they are stored in; touches no others.

        StoreError where they cannot be read. Whether they are what was committed `damaged_units` tells.
        """
        layout = self._layout
        kind = np.dtype(layout.array_dtype(array)).newbyteorder("<")
        out = np.empty((len(rows), *layout.row_shape(array)), kind)
        row_bytes = out.nbytes // len(rows) if len(rows) else 0
        order = np.argsort(rows, kind="stable")
        for unit, places in _by_unit(rows, order, layout.unit_rows):
            name = layout.chunk_name(array, unit)
            with self._files.open(name) as stream:
                for run in _runs(rows[places]):
                    stream.seek(int(rows[places[run.start]] - unit * layout.unit_rows) * row_bytes)
                    block = np.empty((run.stop - run.start, *out.shape[1:]), kind)
                    content = block.reshape(-1).view(np.uint8).data
                    if stream.readinto(content) != block.nbytes:  # type: ignore[attr-defined]
                        raise StoreError(
                            f"{self._files.path(name)} was cut off", hint=self._files.repair_hint
                        )
                    out[places[run]] = block
        return out


def _by_unit(
    rows: NDArray[np.intp], order: NDArray[np.intp], unit_rows: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each unit that `rows` lie in, with their places in ascending order of the rows."""
    units = rows[order] // unit_rows
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(units)], strict=True):
        yield int(units[start]), order[start:stop]


def _runs(rows: NDArray[np.intp]) -> Iterator[slice]:
    """Slices of ascending rows that follow one another without a gap."""
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield slice(int(start), int(stop))
