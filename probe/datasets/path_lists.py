"""Lists of files: one path a line, from a text file or from standard input."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from probe.datasets.sources import read_file
from probe.errors import DataError

SUFFIX = ".txt"
MAX_LIST_BYTES = 256 * 2**20
"""Two million paths of 128 bytes; what is longer is no list, or has no end."""

_BOM = b"\xef\xbb\xbf"


def read_list(path: Path) -> list[str]:
    """The paths of a list file, empty lines left out; DataError when it cannot be read or names nothing."""
    try:
        raw = read_file(path)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return parse_list(b"", f"the list of files {path}")
        found = error.strerror or str(error)
        raise DataError(f"the list of files {path} cannot be read", found=found) from error
    return parse_list(raw, f"the list of files {path}")


def read_stream(stream: BinaryIO, name: str) -> list[str]:
    """The same of an open stream that is called `name`."""
    return parse_list(stream.read(MAX_LIST_BYTES + 1), name)


def parse_list(raw: bytes, name: str) -> list[str]:
    """The lines of `raw` as paths of this system, whatever encoding its names have.

    DataError when it is no list: too long, not text, or without a line.
    """
    if len(raw) > MAX_LIST_BYTES or b"\0" in raw:
        found = "a NUL byte" if b"\0" in raw else f"more than {MAX_LIST_BYTES // 2**20} MiB"
        raise DataError(f"{name} is not a list of files", expected="one path a line", found=found)
    lines = [line.rstrip(b"\r") for line in raw.removeprefix(_BOM).split(b"\n")]
    files = [os.fsdecode(line) for line in lines if line.strip()]
    if not files:
        raise DataError(f"{name} is empty", expected="one path a line")
    return files
