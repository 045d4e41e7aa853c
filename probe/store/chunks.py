"""Ranges of rows straight from the chunk files, every checksum looked at.

A chunk file is R uncompressed rows and their crc32c, which is all that zarr's format asks of a reader here:
the rows go from the file into the array that is wanted, without the copies on the way that zarr makes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from probe.errors import StoreError
from probe.machine import usable_cpus
from probe.store.commits import CHECKSUM_BYTES
from probe.store.encoding import widen
from probe.store.files import LocalFiles
from probe.store.spec import Layout

MISPLACED = "is whole, but not the one that was committed there"


def read_rows(
    files: LocalFiles, layout: Layout, array: str, start: int, stop: int, committed: NDArray[np.int64]
) -> NDArray[Any]:
    """The rows from `start` to `stop`, (stop − start, …): floats as float32, all else as it is stored.

    `committed` (units,) is the checksum of each chunk as `probe.store.commits.checksums` has it, so that a
    whole chunk in another's place is found too. StoreError where a chunk is damaged or not the one.
    """
    size, kind = layout.unit_rows, np.dtype(layout.array_dtype(array)).newbyteorder("<")
    out = np.empty((stop - start, *layout.row_shape(array)), np.float32 if kind.kind == "f" else kind)

    def read(units: range) -> None:
        for unit in units:
            first = unit * size
            begin, end = max(start, first), min(stop, first + size)
            kept = out[begin - start : end - start]
            with files.open(layout.chunk_name(array, unit)) as stream:
                checksum = _read_chunk(stream, kept, begin - first, first + size - end, kind)
            expect_committed(files, array, unit, checksum, int(committed[unit]))

    units = range(start // size, -(-stop // size))
    # One more than processors: a checksum holds the interpreter's lock, a read does not.
    workers = min(len(units), usable_cpus() + 1)
    if workers < 2:
        read(units)
        return out
    # A share each, not a task a unit: handing over a megabyte costs as much as copying it.
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(read, [units[number::workers] for number in range(workers)]))
    return out


def expect_committed(files: LocalFiles, array: str, unit: int, found: int | None, committed: int) -> None:
    """StoreError unless a chunk has a checksum, None for damage, and the one that it was `committed` with."""
    if found is None or committed not in (-1, found):
        what = "does not have the checksum written with it" if found is None else MISPLACED
        raise StoreError(
            f"{files.root.name} is damaged in {array}", found=f"unit {unit} {what}", hint=files.repair_hint
        )


def _read_chunk(
    stream: BinaryIO, kept: NDArray[Any], before: int, after: int, kind: np.dtype[Any]
) -> int | None:
    """Fill `kept` (n, …) from a chunk with `before` and `after` other rows around; its checksum, None where
    the content has another."""
    rows = kept if kind == kept.dtype else np.empty(kept.shape, kind)
    others = [np.empty((count, *kept.shape[1:]), kind) for count in (before, after)]
    checksum = 0
    for part in (others[0], rows, others[1]):
        if not part.size:
            continue
        content = part.reshape(-1).view(np.uint8)
        if stream.readinto(content.data) != content.size:  # type: ignore[attr-defined]
            return None
        checksum = google_crc32c.extend(checksum, content)
    if rows is not kept:
        _convert(rows, kept)
    recorded = stream.read(CHECKSUM_BYTES + 1)
    return checksum if recorded == checksum.to_bytes(CHECKSUM_BYTES, "little") else None


def _convert(rows: NDArray[Any], kept: NDArray[Any]) -> None:
    if rows.dtype == np.float16:
        widen(rows, kept)
    else:
        kept[...] = rows


def chunk_checksum(files: LocalFiles, layout: Layout, array: str, unit: int) -> int | None:
    """The checksum of a chunk; None where it is missing, of another size, or its content has another."""
    name = layout.chunk_name(array, unit)
    if files.size(name) != layout.chunk_bytes(array):
        return None
    shape, kind = layout.row_shape(array), np.dtype(layout.array_dtype(array))
    with files.open(name) as stream:
        return _read_chunk(stream, np.empty((layout.unit_rows, *shape), kind), 0, 0, kind)
