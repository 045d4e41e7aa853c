"""Unpacking archives that may be hostile.

Member by member, regular files and folders only. A link, a device, an absolute name, a ``..``, a name that
comes twice, an encrypted or sparse member, too many members or too many bytes: the archive is refused as a
whole, and nothing of it stays. Everything is written beside the target, and gets its name when it is complete
and durable: a target folder that exists is whole, after a power cut too.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from probe.durable import settle_once
from probe.errors import DataError
from probe.failpoints import reach
from probe.scratch import scratch_folder

UNPACKING = ".unpacking-"
"""How the folder of an unpacking that is not finished begins."""

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")

_CHUNK = 2**20
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)


@dataclass(frozen=True)
class Limits:
    """What no honest archive of images exceeds.

    Attributes
    ----------
    members : files and folders.
    bytes : unpacked, all together.
    ratio : unpacked bytes for each packed one, once more than `ratio_from` bytes are unpacked.
    """

    members: int = 1_000_000
    bytes: int = 200 * 2**30
    ratio: int = 200
    ratio_from: int = 2**30


def is_archive(path: Path) -> bool:
    """By its name: an ``.npz`` and a single ``.gz`` are data, not archives."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archives: Sequence[Path], target: Path, limits: Limits | None = None) -> None:
    """Unpack all of `archives` into one new folder `target`. Raises DataError; then there is no `target`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _unpack_beside(archives, target, limits or Limits())
    except OSError as error:
        raise DataError(
            f"the archive {archives[0]} cannot be unpacked",
            found=f"{error.strerror or error}: {target.parent}",
            hint="free some room, or set PROBE_HOME to another disk",
        ) from error


def _unpack_beside(archives: Sequence[Path], target: Path, limits: Limits) -> None:
    with scratch_folder(target.parent, UNPACKING) as scratch:
        part = scratch / "part"
        part.mkdir()
        for archive in archives:
            _Unpacking(archive, part, limits).run()
        reach("unpack-written")
        settle_once(part, target)


class _Unpacking:
    """One archive on its way into one folder, with the running counts."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive = archive
        self.folder = folder
        self.limits = limits
        self.members = 0
        self.bytes = 0
        size = archive.stat().st_size
        self.allowed = min(limits.bytes, max(limits.ratio_from, limits.ratio * size))

    def run(self) -> None:
        try:
            if self.archive.name.lower().endswith(".zip"):
                self._zip()
            else:
                self._tar()
        except _DAMAGE as error:
            raise self._refuse(f"it is damaged or no archive: {error}") from error
        except FileExistsError as error:
            raise self._refuse("one name comes twice") from error
        except OSError as error:
            raise self._refuse(error.strerror or str(error)) from error

    def _zip(self) -> None:
        with zipfile.ZipFile(self.archive) as packed:
            for member in packed.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refuse(f"{member.filename!r} is a link or a device")
                path = self._path(member.filename)
                if member.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                with packed.open(member) as stream:
                    self._write(path, stream)

    def _tar(self) -> None:
        with _decompressed(self.archive) as plain:
            stream = _Bounded(plain)
            with tarfile.open(fileobj=stream, mode="r:") as packed:
                for member in _members(packed):
                    path = self._path(member.name)
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                        continue
                    content = packed.extractfile(member) if _is_plain(member) else None
                    if content is None:
                        raise self._refuse(f"{member.name!r} is a link, a device or sparse")
                    with content:
                        self._write(path, content, member.size)
            self._expect_padding(stream)

    def _expect_padding(self, stream: _Bounded) -> None:
        """tarfile takes a damaged header for the end; behind a true end there is nothing but zeros."""
        while block := stream.read(_CHUNK):
            self._count(len(block))
            if block.strip(b"\0"):
                raise self._refuse("it is damaged: data behind its end")

    def _path(self, name: str) -> Path:
        """Where a member goes. Every part of its name is checked; counts the member."""
        self.members += 1
        if self.members > self.limits.members:
            raise self._refuse(f"it holds more than {self.limits.members:,} members")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        absolute = name.startswith("/")
        strange = any(part == ".." or "\\" in part or ":" in part or not part.isprintable() for part in parts)
        if absolute or strange:
            raise self._refuse(f"the name {name!r} leads out of the folder or is unusual")
        return self.folder.joinpath(*parts)

    def _write(self, path: Path, stream: IO[bytes], size: int | None = None) -> None:
        """Copy one member to a new file; `size` bytes when that is known."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        reach("unpack-member")
        with path.open("xb") as file:
            while chunk := stream.read(_CHUNK):
                self._count(len(chunk))
                written += file.write(chunk)
        if size is not None and written != size:
            raise self._refuse("it ends early")

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.allowed:
            raise self._refuse(f"it unpacks to more than {self.allowed:,} bytes")

    def _refuse(self, reason: str) -> DataError:
        return DataError(
            f"the archive {self.archive} cannot be unpacked",
            found=reason,
            hint="nothing of it was kept; take it from its publisher again",
        )


def _decompressed(path: Path) -> AbstractContextManager[Any]:
    """A tar file as a plain stream, whatever compression its first bytes show."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if head.startswith(b"BZh"):
        return bz2.open(path)
    if head.startswith(b"\xfd7zXZ"):
        return lzma.open(path)
    return path.open("rb")


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _members(packed: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := packed.next()) is not None:
        yield member
        # tarfile remembers every member; of a million that is too much to remember.
        packed.members = []  # type: ignore[attr-defined]


class _Bounded(io.RawIOBase):
    """A stream that refuses enormous single reads: extended headers are read in one piece by tarfile."""

    _MOST = 16 * 2**20

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > self._MOST:
            raise tarfile.ReadError("a header claims to be enormous")
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
