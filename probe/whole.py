"""Files of ours that are read whole: none is larger than such a file can be, and none makes more of itself.

What lies where such a file belongs may be anything: a folder, a pipe that nobody writes to, a device without
end, an archive whose few bytes say that they are terabytes. All of it is OSError or ValueError, before memory
is taken.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probe.records import load_json

SMALL = 1 << 20
"""Bytes of a record that is made once: what is larger is none of ours."""
RECORD = 64 << 20
"""Bytes of a record that grows with classes, epochs or unreadable images."""

_PLAIN, _SHRUNK = 64 << 20, 64
"""Bytes of arrays, or times the size of their file: what is more than both was made to be so. Columns of text
shrink to a twentieth; only what is small shrinks to a thousandth."""
_BLOCK = 1 << 20
_HEADER = 10_000
"""Bytes that describe an array in an archive, at most."""
_KINDS = "biufSU"
_OF_ARCHIVES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
)


def read_whole(path: str | Path, cap: int | None = SMALL) -> bytes:
    """The content of a file; OSError, or ValueError for what is no file or larger than `cap` bytes.

    None as `cap` is for files whose size has been looked at.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if cap is not None and size > cap:
            raise ValueError(f"{size:,} bytes, where at most {cap:,} belong")
        return file.read(size)


def open_file(path: str | Path) -> BinaryIO:
    """A file for reading; OSError, or ValueError for a folder, a pipe or a device."""
    # Without waiting: a pipe would be waited for until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError("a folder, where a file belongs" if stat.S_ISDIR(mode) else "no file but a device")
    return os.fdopen(descriptor, "rb")


def read_text(path: str | Path, cap: int = SMALL) -> str:
    """`read_whole` of UTF-8."""
    return read_whole(path, cap).decode("utf-8")


def read_json(path: str | Path, cap: int = SMALL) -> Any:
    """`read_whole` of one JSON value, see `probe.records.load_json`."""
    return load_json(read_text(path, cap))


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz``, all or those of `names` that it has; OSError or ValueError.

    What the arrays would take is read off the archive before any is made: ValueError where that is more than
    such a file can hold. Every checksum is looked at.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            most = max(_PLAIN, _SHRUNK * os.fstat(file.fileno()).st_size)
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in members.items() if names is None or name in names}
            total = sum(info.file_size for info in wanted.values())
            if total > most:
                raise ValueError(f"arrays of {total:,} bytes, where at most {most:,} belong")
            return {name: _read_array(archive, info) for name, info in wanted.items()}
    except _OF_ARCHIVES as error:
        raise ValueError(f"no archive of arrays, or a damaged one: {error}") from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is packed in a way of others")
    with archive.open(info) as member:
        shape, by_columns, kind = _read_header(member)
        size = math.prod(shape) * kind.itemsize
        if kind.kind not in _KINDS or min(shape, default=0) < 0 or info.file_size - member.tell() != size:
            raise ValueError(f"{info.filename} is not the array that it says")
        out = np.empty(math.prod(shape), kind)
        content, place = out.view(np.uint8) if size else np.empty(0, np.uint8), 0
        while block := member.read(_BLOCK):
            content[place : place + len(block)] = np.frombuffer(block, np.uint8)
            place += len(block)
    if place != size:
        raise ValueError(f"{info.filename} was cut off")
    return out.reshape(shape, order="F" if by_columns else "C")


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member, max_header_size=_HEADER)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member, max_header_size=_HEADER)
    raise ValueError(f"an array in version {version} of its format")
