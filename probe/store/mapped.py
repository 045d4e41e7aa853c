"""Rows of a store in any order, straight from the chunk files: what training in shuffled batches needs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.store.files import LocalFiles
from probe.store.spec import Layout

OPEN_UNITS = 4096
"""Mappings kept; they cost address space, not memory."""


class MappedRows:
    """(n, …) rows of one stored output, in the type they are stored in; ``rows[places]`` copies some.

    A chunk file is R uncompressed rows and a checksum, so it can be mapped: reading a row touches its own
    bytes and no others, and the operating system keeps in memory what fits. Checksums are not looked at here;
    `verify_store` does that.
    """

    def __init__(self, files: LocalFiles, layout: Layout, output: str, rows: NDArray[np.intp]) -> None:
        self._array = f"features/{output}"
        self._files, self._layout, self._rows = files, layout, rows
        self.dtype = np.dtype(layout.dtype)
        self.shape = (len(rows), *layout.row_shape(self._array))
        self._unit = lru_cache(OPEN_UNITS)(self._map_unit)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: NDArray[np.integer[Any]]) -> NDArray[Any]:
        wanted = self._rows[places]
        out = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        units = wanted // self._layout.unit_rows
        for unit in np.unique(units).tolist():
            mine = units == unit
            out[mine] = self._unit(unit)[wanted[mine] - unit * self._layout.unit_rows]
        return out

    def _map_unit(self, unit: int) -> NDArray[Any]:
        path = self._files.path(self._layout.chunk_name(self._array, unit))
        shape = (self._layout.unit_rows, *self.shape[1:])
        return np.memmap(path, self.dtype.newbyteorder("<"), "r", shape=shape)
