"""Files of ours that are read whole: none is larger than such a file can be.

What lies where such a file belongs may be anything: a folder, a pipe that nobody writes to, a device without
end. All of it is OSError or ValueError, before memory is taken.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from probe.records import load_json

SMALL = 1 << 20
"""Bytes of a record that is made once: what is larger is none of ours."""
RECORD = 64 << 20
"""Bytes of a record that grows with classes, epochs or unreadable images."""


def read_whole(path: str | Path, cap: int | None = SMALL) -> bytes:
    """The content of a file; OSError, or ValueError for what is no file or larger than `cap` bytes.

    None as `cap` is for files whose size has been looked at.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if cap is not None and size > cap:
            raise ValueError(f"{size:,} bytes, where at most {cap:,} belong")
        return file.read(size)


def open_file(path: str | Path) -> BufferedReader:
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
