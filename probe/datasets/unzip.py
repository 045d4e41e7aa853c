"""The arrays of an ``.npz`` in bounded memory: small ones are read, large ones unpacked once and mapped."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.archives import OF_ARCHIVES
from probe.config import own_place
from probe.durable import WRITING, discard, settle_once
from probe.errors import DataError
from probe.hashing import file_checksum, file_stamp
from probe.scratch import scratch_folder
from probe.whole import open_file

DAMAGE = (OSError, ValueError, MemoryError, *OF_ARCHIVES)
"""What numpy and zipfile raise for a file that is not what its name says."""

IN_MEMORY = 64 * 2**20
"""Bytes of arrays, all together, that are simply read."""

_COPY_BYTES = 2**20


def open_arrays(
    path: Path, cache: Path, *, in_memory: int = IN_MEMORY, anew: bool = False
) -> dict[str, NDArray[np.generic]]:
    """Member name (without ``.npy``) -> array. Object arrays are refused: nothing is unpickled.

    A compressed member cannot be mapped where it lies; when the file holds more than `in_memory` bytes its
    members are unpacked under `cache`, in a folder named after path and `file_stamp`, which serves from then
    on while the checksums of the archive are its own, unless all is to be read `anew`.
    """
    with open_file(path, follow=True) as file, zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if sum(member.file_size for member in members) <= in_memory:
            return {_key(member): _read(archive, member) for member in members}
        folder = own_place(cache, "arrays", _stamp(path))
        if anew or not _is_whole(folder, members):
            discard(folder)
            _unpack(path, archive, members, folder)
    return {
        _key(member): np.load(folder / f"{place}.npy", mmap_mode="r", allow_pickle=False)
        for place, member in enumerate(members)
    }


def _is_whole(folder: Path, members: list[zipfile.ZipInfo]) -> bool:
    """Whether a folder has what the archive says of its members."""
    places = [(folder / f"{place}.npy", member) for place, member in enumerate(members)]
    try:
        return all(_checksum(path) == member.CRC for path, member in places)
    except (OSError, ValueError):
        return False


def _checksum(path: Path) -> int:
    """Of a file, as archives have it."""
    return file_checksum(path, lambda value, block: zlib.crc32(block, value))


def reason_of(error: BaseException) -> str:
    """What to tell of one of `DAMAGE`."""
    text = str(error) or type(error).__name__
    return "Python objects, which are never unpickled" if "object" in text.lower() else text


def _key(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[np.generic]:
    with archive.open(member) as stream:
        array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _stamp(path: Path) -> str:
    text = "\0".join(map(str, (path.resolve(), *file_stamp(path))))
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _unpack(path: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Members become ``0.npy``, ``1.npy``, …: a member's name never becomes a path. Renamed when whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(member.file_size for member in members)
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"there is no room to unpack {path}",
            expected=f"{needed / 2**30:.1f} GiB free in {folder.parent}",
            found=f"{free / 2**30:.1f} GiB",
            hint="set PROBE_HOME to a larger disk",
        )
    with scratch_folder(folder.parent, WRITING) as scratch:
        part = scratch / "part"
        part.mkdir()
        for place, member in enumerate(members):
            # ZipFile stops at the declared size and checks the CRC: no member writes more than was counted.
            with archive.open(member) as stream, (part / f"{place}.npy").open("wb") as file:
                shutil.copyfileobj(stream, file, _COPY_BYTES)
        settle_once(part, folder)
