"""Rows of a store in any order, straight from the chunk files: what training in shuffled batches needs."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.store.chunks import expect_committed
from probe.store.commits import ending_checksum
from probe.store.encoding import decode
from probe.store.files import LocalFiles
from probe.store.spec import Layout

OPEN_UNITS = 4096
"""Mappings kept; they cost address space, not memory."""
MAPPED_BYTES = 32 << 20
"""Pages of the files that count as the process's own, before they are left to the operating system again."""
AROUND_BYTES = 1 << 16
"""What the system maps around a byte that is touched, where it has it in memory."""


class MappedRows:
    """(n, …) rows of one stored output, as stored, or float32 of 8 bits; ``rows[places]`` copies some.

    A chunk file is R uncompressed rows and a checksum, so it can be mapped: reading a row touches its own
    bytes and no others, and the operating system keeps in memory what fits. Mapped pages are
    given back every `MAPPED_BYTES`: they stay in the system's cache, where others may have their place, and
    are not counted as this process's. `committed` maps each array to the checksums of its chunks: StoreError
    where a chunk ends with another, as one in the wrong place does. Whether the bytes before it are what they
    were `verify_store` says, and who reads all rows first.
    """

    def __init__(
        self,
        files: LocalFiles,
        layout: Layout,
        output: str,
        rows: NDArray[np.intp],
        committed: Mapping[str, NDArray[np.int64]],
    ) -> None:
        self._arrays = layout.arrays_of(output)
        self._files, self._layout, self._rows, self._committed = files, layout, rows, committed
        self.dtype = np.dtype(layout.values_dtype)
        self.shape = (len(rows), *layout.shapes[output])
        self._unit = lru_cache(OPEN_UNITS)(self._map_unit)
        self._touched: list[mmap.mmap] = []
        self._touched_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: NDArray[np.integer[Any]]) -> NDArray[Any]:
        wanted = self._rows[places]
        out = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        units = wanted // self._layout.unit_rows
        for unit in np.unique(units).tolist():
            mine = units == unit
            inside = wanted[mine] - unit * self._layout.unit_rows
            out[mine] = decode(*(self._rows_of(array, unit, inside) for array in self._arrays))
        return out

    def _rows_of(self, array: str, unit: int, inside: NDArray[np.intp]) -> NDArray[Any]:
        mapping, values = self._unit(array, unit)
        rows = values[inside]
        self._touched.append(mapping)
        self._touched_bytes += min(values.nbytes, rows.nbytes + len(rows) * AROUND_BYTES)
        if self._touched_bytes > MAPPED_BYTES:
            # Readers in other threads find their pages again.
            touched, self._touched, self._touched_bytes = self._touched, [], 0
            for one in set(touched):
                one.madvise(mmap.MADV_DONTNEED)
        return rows

    def _map_unit(self, array: str, unit: int) -> tuple[mmap.mmap, NDArray[Any]]:
        layout = self._layout
        name = layout.chunk_name(array, unit)
        ending = ending_checksum(self._files, name)
        expect_committed(self._files, array, unit, ending, int(self._committed[array][unit]))
        shape = (layout.unit_rows, *layout.row_shape(array))
        kind = np.dtype(layout.array_dtype(array)).newbyteorder("<")
        with self._files.open(name) as stream:
            mapping = mmap.mmap(stream.fileno(), int(np.prod(shape)) * kind.itemsize, prot=mmap.PROT_READ)
        return mapping, np.frombuffer(mapping, kind).reshape(shape)
