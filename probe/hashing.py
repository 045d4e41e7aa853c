"""What an image or a file contains, as one number: shared by all rooms that must know it again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import canonical_json
from probe.whole import open_file

_BLOCK = 1 << 24
SEAL = "sha256"
"""What a record calls the hash of all else that it says."""

RawImage = bytes | NDArray[np.uint8]
"""An encoded file, or pixels already decoded: uint8 (H, W), (H, W, 1) or (H, W, 3)."""


def content_hash(raw: RawImage) -> str:
    """sha256 of an image's content, 64 hex digits.

    For an encoded file it is the hash of its bytes, what ``sha256sum`` prints. For pixels it covers shape
    and values; (H, W, 1) and (H, W) are the same grey image and hash alike.
    """
    if isinstance(raw, bytes):
        return hashlib.sha256(raw).hexdigest()
    shape = raw.shape[:2] if raw.ndim == 3 and raw.shape[2] == 1 else raw.shape
    digest = hashlib.sha256(f"{raw.dtype.str} {shape}\n".encode())
    digest.update(np.ascontiguousarray(raw).data)
    return digest.hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of JSON values with the hash of all that it says, by which a change is noticed."""
    return {**record, SEAL: _said(record)}


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a record says what was sealed; also one that was never sealed, as older versions wrote them."""
    return SEAL not in record or record[SEAL] == _said(record)


def _said(record: Mapping[str, Any]) -> str:
    said = {key: value for key, value in record.items() if key != SEAL}
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()


def file_stamp(path: str | Path) -> tuple[int, int, int, int]:
    """(size, mtime ns, ctime ns, inode): what tells that a file may have other bytes than it had.

    ``rsync -t``, ``cp -p`` and archives put the mtime back, but nobody can put back the ctime, and a file
    that is renamed into another's place brings its own inode. OSError when there is no such file.
    """
    stat = os.stat(path)  # noqa: PTH116 - a Path for each of 25,000 files takes longer than this
    # Some network file systems use all 64 bits; the stamp has to fit a signed integer.
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1)


def file_hash(path: Path, *, follow: bool = False) -> str:
    """sha256 of a file, 64 hex digits, read piece by piece; OSError when it cannot be read, or is no file.

    Nor is a link one, unless links are to be followed.
    """
    try:
        with open_file(path, follow=follow) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error


def file_checksum(path: Path, extend: Callable[[int, bytes], int]) -> int:
    """A checksum of a file, read piece by piece; `extend` goes on from one value with more bytes.

    OSError, or ValueError for what is no file.
    """
    value = 0
    with open_file(path) as file:
        while block := file.read(_BLOCK):
            value = extend(value, block)
    return value
