"""Files of ours that are read whole: none is larger than such a file can be.

What lies where such a file belongs may be anything: a folder, a pipe that nobody writes to, a device without
end, a link to a file of somebody's. All of it is OSError or ValueError, before memory is taken. What users
name themselves may be a link, and is read with ``follow=True``.
"""

from __future__ import annotations

import errno
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


def read_whole(path: str | Path, cap: int | None = SMALL, *, follow: bool = False) -> bytes:
    """The content of a file; OSError, or ValueError for what is no file or larger than `cap` bytes.

    None as `cap` is for files whose size has been looked at.
    """
    with open_file(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if cap is not None and size > cap:
            raise ValueError(f"{size:,} bytes, where at most {cap:,} belong")
        return file.read(size)


def open_file(path: str | Path, *, follow: bool = False) -> BufferedReader:
    """A file for reading; OSError, also for a link, or ValueError for a folder, a pipe or a device."""
    if not follow:
        refuse_link(path)
    # Without waiting: a pipe would be waited for until somebody writes to it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError("a folder, where a file belongs" if stat.S_ISDIR(mode) else "no file but a device")
    return os.fdopen(descriptor, "rb")


def refuse_link(path: str | Path) -> None:
    """OSError where a link lies in the place of a file or folder of ours: it would lead elsewhere."""
    if os.path.islink(path):  # noqa: PTH114
        raise OSError(errno.ELOOP, "a link, where only what is ours is read", str(path))


def read_text(path: str | Path, cap: int = SMALL, *, follow: bool = False) -> str:
    """`read_whole` of UTF-8."""
    return read_whole(path, cap, follow=follow).decode("utf-8")


def read_json(path: str | Path, cap: int = SMALL, *, follow: bool = False) -> Any:
    """`read_whole` of one JSON value, see `probe.records.load_json`."""
    return load_json(read_text(path, cap, follow=follow))
