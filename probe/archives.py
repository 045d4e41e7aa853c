"""What is read from zip archives, ``.npz`` and ``.keras``: no more than such a file can hold.

A few bytes can say that they are terabytes; the archive tells before anything is unpacked.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from probe.whole import open_file

_PLAIN, _SHRUNK = 64 << 20, 64
"""Bytes of arrays, or times the size of their file: what is more than both was made to be so. Columns of text
shrink to a twentieth; only what is small shrinks to a thousandth."""
_BLOCK = 1 << 20
_HEADER = 10_000
"""Bytes that describe an array in an archive, at most."""
_KINDS = "biufSU"
OF_ARCHIVES = (
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
    tokenize.TokenError,
)
"""What reading an archive can raise, besides OSError and ValueError, where it is not what was written."""


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
    except OF_ARCHIVES as error:
        raise ValueError(f"no archive of arrays, or a damaged one: {error}") from error


def read_member(archive: zipfile.ZipFile, name: str, cap: int) -> bytes:
    """One file of an archive; ValueError above `cap` bytes, or one of `OF_ARCHIVES`."""
    size = archive.getinfo(name).file_size
    if size > cap:
        raise ValueError(f"{name} of {size:,} bytes, where at most {cap:,} belong")
    return archive.read(name)


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
