"""Where the bytes of a row come from: files, or arrays that may be larger than memory."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.hashing import RawImage

MAX_FILE_BYTES = 256 * 2**20
"""No photograph is larger; something called .jpg that is, is not read into memory."""


@dataclass(frozen=True)
class FileSource:
    """Row `i` is the file ``root / files[i]`` (an absolute name stands for itself)."""

    root: Path
    files: Sequence[str]

    def path(self, row: int) -> Path:
        return self.root / self.files[row]

    def read(self, row: int) -> bytes:
        with self.path(row).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return raw


class ArraySource:
    """Row `i` is a picture of one of several arrays (n, H, W) or (n, H, W, C) uint8, one after the other."""

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        self.arrays = tuple(arrays)
        self._ends = np.cumsum([len(array) for array in arrays]).tolist()

    def read(self, row: int) -> RawImage:
        part = bisect_right(self._ends, row)
        start = self._ends[part - 1] if part else 0
        return np.asarray(self.arrays[part][row - start])
