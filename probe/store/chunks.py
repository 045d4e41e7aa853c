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
from probe.store.files import LocalFiles
from probe.store.spec import Layout

CHECKSUM_BYTES = 4


def read_rows(files: LocalFiles, layout: Layout, array: str, start: int, stop: int) -> NDArray[np.float32]:
    """(stop − start, …) float32 of the rows from `start` to `stop`; StoreError where a chunk is damaged."""
    out = np.empty((stop - start, *layout.row_shape(array)), np.float32)
    size, kind = layout.unit_rows, np.dtype(layout.array_dtype(array)).newbyteorder("<")

    def read(units: range) -> None:
        for unit in units:
            first = unit * size
            begin, end = max(start, first), min(stop, first + size)
            kept = out[begin - start : end - start]
            with files.open(layout.chunk_name(array, unit)) as stream:
                intact = _read_chunk(stream, kept, begin - first, first + size - end, kind)
            if not intact:
                raise StoreError(
                    f"{files.root.name} is damaged in {array}",
                    found=f"unit {unit} does not have the checksum written with it",
                    hint=f"probe stores verify --full {files.root.name}",
                )

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


def _read_chunk(
    stream: BinaryIO, kept: NDArray[np.float32], before: int, after: int, kind: np.dtype[Any]
) -> bool:
    """Fill `kept` (n, …) from a chunk with `before` and `after` other rows around; whether it is intact."""
    rows = kept if kind == kept.dtype else np.empty(kept.shape, kind)
    others = [np.empty((count, *kept.shape[1:]), kind) for count in (before, after)]
    checksum = 0
    for part in (others[0], rows, others[1]):
        if not part.size:
            continue
        content = part.reshape(-1).view(np.uint8)
        if stream.readinto(content.data) != content.size:  # type: ignore[attr-defined]
            return False
        checksum = google_crc32c.extend(checksum, content)
    if rows is not kept:
        kept[...] = rows
    return stream.read(CHECKSUM_BYTES + 1) == checksum.to_bytes(CHECKSUM_BYTES, "little")
