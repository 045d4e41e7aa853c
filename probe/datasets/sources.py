"""Where the bytes of a row come from: files, or arrays that may be larger than memory."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import ImageSource
from probe.hashing import RawImage

MAX_FILE_BYTES = 256 * 2**20
"""No photograph is larger; something called .jpg that is, is not read into memory."""


@runtime_checkable
class KeptWhole(Protocol):
    """A source whose rows lie together in a few files; while these are unchanged, so are the rows."""

    origin: tuple[Path, ...]

    def read(self, row: int) -> RawImage: ...


def read_file(path: str | Path) -> bytes:
    """The bytes of one encoded picture.

    OSError when it cannot be read, is empty, is larger than `MAX_FILE_BYTES`, or is no regular file: a pipe
    would be waited for, and a device has no end.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        raw = b"" if status.st_size > MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
    if status.st_size > MAX_FILE_BYTES or len(raw) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    if not raw:
        # Empty files have one content hash: taken for pictures, they would be copies of each other.
        raise OSError(errno.ENODATA, "the file is empty")
    return raw


@dataclass(frozen=True)
class FileSource:
    """Row `i` is the file ``root / files[i]`` (an absolute name stands for itself)."""

    root: Path
    files: Sequence[str]

    def path(self, row: int) -> Path:
        return self.root / self.files[row]

    def read(self, row: int) -> bytes:
        return read_file(self.path(row))


def place_among(ends: Sequence[int], row: int) -> tuple[int, int]:
    """(part, row in it) of a row of several parts one after the other; `ends` are their running totals."""
    part = bisect_right(ends, row)
    return part, row - (ends[part - 1] if part else 0)


class ArraySource:
    """Row `i` is a picture of one of several arrays (n, H, W) or (n, H, W, C) uint8, one after the other.

    `origin` names the files they come from, so that their hashes can be remembered.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]], origin: tuple[Path, ...] = ()) -> None:
        self.arrays = tuple(arrays)
        self.origin = origin
        self._ends = np.cumsum([len(array) for array in arrays]).tolist()

    def read(self, row: int) -> NDArray[np.uint8]:
        part, inside = place_among(self._ends, row)
        return np.asarray(self.arrays[part][inside])


@dataclass(frozen=True)
class SourceRows:
    """Some rows of a source of `total` rows."""

    source: ImageSource
    total: int
    rows: NDArray[np.intp]

    def read(self, row: int) -> RawImage:
        return self.source.read(int(self.rows[row]))
