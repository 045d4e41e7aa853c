"""The one place where the store touches paths and fsync.

Everything else in the room goes through this interface, so that a store on object storage needs one more
class here and nothing elsewhere. Names are relative POSIX paths inside the store.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from probe.durable import WRITING, replacing, settle, sync_folder
from probe.errors import NOT_WRITABLE, ReadOnlyError, StoreError
from probe.failpoints import reach
from probe.records import load_json
from probe.scratch import scratch_folder
from probe.whole import SMALL, read_whole

_FORBIDDEN = {"", ".", ".."}


class LocalFiles:
    """A store's files in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: set[str] = set()

    @property
    def repair_hint(self) -> str:
        """What to do about damage."""
        return f"probe stores repair {self.root.name}"

    def path(self, name: str) -> Path:
        """The local path of `name`; refuses names that would leave the store."""
        return Path(self._local(name))

    def _local(self, name: str) -> str:
        # Plain text: making a `Path` for each of thousands of chunks costs as much as reading one.
        if not _FORBIDDEN.isdisjoint(name.split("/")):
            raise StoreError(f"{name!r} is not a name inside a store", hint="the store's record is damaged")
        whole = f"{self.root}/{name}"
        self._refuse_links(name)
        return whole

    def _refuse_links(self, name: str) -> None:
        """Stores are handed on: one with a link in it would be read and written elsewhere."""
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            inside = "/".join(parts[:depth])
            if inside in self._folders:
                continue
            whole = f"{self.root}/{inside}"
            try:
                mode = os.lstat(whole).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                raise StoreError(f"{whole} cannot be read", found=error.strerror) from error
            if stat.S_ISLNK(mode):
                raise _linked(whole)
            if stat.S_ISDIR(mode):
                self._folders.add(inside)

    def refuse_links_below(self, folder: str) -> None:
        """StoreError when anything below `folder` is a link: for those who write past this class."""
        for parent, folders, files in os.walk(self.path(folder)):
            for name in (*folders, *files):
                whole = f"{parent}/{name}"
                if os.path.islink(whole):  # noqa: PTH114
                    raise _linked(whole)

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def size(self, name: str) -> int | None:
        """Size in bytes, None when there is no such file."""
        try:
            return os.stat(self._local(name)).st_size  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str, cap: int | None = SMALL) -> bytes:
        """A whole file; StoreError when it is missing, none, or larger than `cap` bytes (None: any size)."""
        whole = self._local(name)
        try:
            return read_whole(whole, cap)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"{whole} is missing", hint=self.repair_hint) from error
        except OSError as error:
            raise self.unreadable(name, error.strerror or str(error)) from error
        except ValueError as error:
            raise self.unreadable(name, str(error)) from error

    def read_json(self, name: str, cap: int = SMALL) -> Any:
        """A file with one JSON value; StoreError as `read`, or where it holds none."""
        content = self.read(name, cap)
        try:
            return load_json(content.decode())
        except ValueError as error:
            raise StoreError(
                f"{self.path(name)} is damaged", found=str(error), hint=self.repair_hint
            ) from error

    def unreadable(self, name: str, why: str) -> StoreError:
        """The error for a file that is there and is not what it should be."""
        return StoreError(f"{self.path(name)} cannot be read", found=why, hint=self.repair_hint)

    def open(self, name: str) -> BinaryIO:
        """A file for reading, unbuffered; StoreError when there is none."""
        try:
            return open(self._local(name), "rb", buffering=0)  # noqa: PTH123
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"{self.path(name)} is missing", hint=self.repair_hint) from error

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically and durably: readers see the old content or the new, never a part."""
        with self.replacing(name) as path:
            path.write_bytes(data)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A place to write to whose content becomes the file at the end, as `write` does."""
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the store's own folder: what is in the others is counted and read.
        with disk_errors(self.root), scratch_folder(self.root, WRITING) as scratch:
            yield scratch / target.name
            settle(scratch / target.name, target)

    def sync(self, names: list[str]) -> None:
        """Make files that someone else wrote (zarr) durable, and the folders that name them."""
        for name in names:
            with self.path(name).open("rb") as stream:
                os.fsync(stream.fileno())
        for folder in {self.path(name).parent for name in names}:
            sync_folder(folder)

    def append_log(self, name: str) -> AppendLog:
        """An append-only file that this process alone may write for as long as it is open."""
        return AppendLog(self.path(name))

    def list(self, folder: str) -> Iterator[str]:
        """Names of all files below `folder`, sorted."""
        base = self.path(folder)
        for path in sorted(base.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def free_bytes(self) -> int:
        """Bytes that can still be written where the store lies (its folder need not exist yet)."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


class AppendLog:
    """Lines that are durable once `append` returns; a torn last line of an earlier process is cut off."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream = self._locked()
        if os.fstat(self._stream.fileno()).st_nlink > 1:
            # A copy shares it (``cp -l``): what will change gets content of its own under this name.
            with self._stream, replacing(path) as copy:
                shutil.copyfile(path, copy)
            self._stream = self._locked()
        self._cut_torn_line()

    def _locked(self) -> BinaryIO:
        """The log, open for this process alone; StoreError where another has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        stream: BinaryIO = os.fdopen(os.open(self.path, flags, 0o666), "a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(stream.fileno()), self.path.stat()):
                raise FileNotFoundError  # put aside by another that has given it content of its own
        except OSError as error:
            stream.close()
            raise StoreError(
                f"another process is writing {self.path.parent.parent}",
                hint="wait for it, or give each process its own --shard i/n",
            ) from error
        return stream

    def _cut_torn_line(self) -> None:
        self._stream.seek(0)
        data = self._stream.read()
        if data and not data.endswith(b"\n"):
            self._stream.truncate(data.rfind(b"\n") + 1)

    def append(self, line: bytes) -> None:
        with disk_errors(self.path.parent):
            self._stream.write(line + b"\n")
            self._stream.flush()
            reach("line-written")
            os.fsync(self._stream.fileno())
        sync_folder(self.path.parent)

    def close(self) -> None:
        self._stream.close()


class disk_errors:
    """Turn a full or read-only disk into the error a user can act on."""

    _FULL = {  # noqa: RUF012 - a constant table
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than the system allows",
    }

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError) or error.errno is None:
            return
        if error.errno in NOT_WRITABLE:
            raise ReadOnlyError(
                f"cannot write {self.root}: {NOT_WRITABLE[error.errno]}",
                hint="make it writable, or name another home by --home or PROBE_HOME",
            ) from error
        if error.errno == errno.EIO:
            raise StoreError(
                f"cannot write {self.root}: {error.strerror}",
                hint="see what the system's log says of the disk, and run the same command again:"
                " finished units are kept",
            ) from error
        if error.errno in self._FULL:
            raise StoreError(
                f"cannot write {self.root}: {self._FULL[error.errno]}",
                hint="make room and run the same command again: finished units are kept",
            ) from error


def _linked(path: str) -> StoreError:
    return StoreError(
        f"{path} is a link",
        expected="a store that holds its own files",
        hint="copy the store with files in place of links (cp -rL), or remove it and extract again",
    )
