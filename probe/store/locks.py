"""Who may change a store: one lock, on its folder itself, so that it goes with folder and owner."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import StoreError

LOCKS = Path("/proc/locks")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a store is filled or relabelled; several shards may be at once. StoreError as `alone`."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextmanager
def copying_from(path: Path) -> Iterator[None]:
    """While rows are copied from a store, so that they are not taken away. StoreError as `alone`."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While a store is removed or repaired. StoreError when another process is at it, which is named."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"there is no store at {path}", hint="probe stores ls") from error
    try:
        try:
            fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{path.name} is in use by another process",
                found=_holders(os.fstat(folder)),
                hint="wait until it has ended, then run the same command again",
            ) from error
        if not _is_still(path, folder):
            raise StoreError(f"{path.name} was removed by another process", hint="run the same command again")
        yield
    finally:
        os.close(folder)


def _is_still(path: Path, folder: int) -> bool:
    """Whether the locked folder is the one that `path` names now: its owner may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(folder))
    except FileNotFoundError:
        return False


def _holders(folder: os.stat_result) -> str | None:
    """Who holds a lock on a folder, where the system tells."""
    device = f"{os.major(folder.st_dev):02x}:{os.minor(folder.st_dev):02x}:{folder.st_ino}"
    try:
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = {words[4] for words in map(str.split, lines) if device in words and "->" not in words}
    return ", ".join(f"process {number}" for number in sorted(found, key=int)) or None
