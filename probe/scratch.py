"""Folders for work in progress that a later run can tell from those of a live process, and sweep.

A live owner holds a lock on ``<folder>.lock`` from before the folder exists until after it is gone. The
system releases the lock of a process that dies, however it dies; process numbers would be used again and mean
nothing on another machine that shares the disk.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from probe.failpoints import reach

LOCK = ".lock"


@contextmanager
def hold(lock: Path) -> Iterator[bool]:
    """Take the lock file `lock`, or yield False at once when another process has it."""
    with _opened(lock) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def wait_for(lock: Path) -> Iterator[None]:
    """Take the lock file `lock`, after whoever has it."""
    with _opened(lock) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder ``<parent>/<prefix><random>``, removed at the end; dead ones of the prefix go first."""
    sweep(parent, prefix)
    folder = parent / f"{prefix}{uuid.uuid4().hex}"
    lock = lock_of(folder)
    # Another process that sweeps can take the lock in the moment after its file is made: it lets go at once.
    with wait_for(lock):
        try:
            folder.mkdir()
            reach("scratch-made")
            yield folder
        finally:
            _remove(folder)


def sweep(parent: Path, prefix: str) -> None:
    """Remove the scratch folders of processes that are gone. A folder without a lock file is not ours."""
    for lock in parent.glob(f"{glob.escape(prefix)}*{LOCK}"):
        sweep_one(lock.with_name(lock.name.removesuffix(LOCK)))


def sweep_one(folder: Path) -> None:
    """Remove one scratch folder, and its lock file, where its process is gone."""
    lock = lock_of(folder)
    # What cannot be taken is another user's, or was put there by nobody of ours: it is no reason to stop.
    with suppress(OSError):
        if lock.exists():
            with hold(lock) as free:
                if free:
                    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder whose lock is ours, and then the lock file: with what could not be removed it stays,
    so that the next sweep tries again."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock_of(folder).unlink(missing_ok=True)


def _opened(lock: Path) -> FileIO:
    """A lock file, made where there is none; OSError for a link or a folder in its place."""
    # A link would make a file elsewhere, and a pipe would be waited for.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return FileIO(os.open(lock, flags, 0o666), "r+")


def lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{LOCK}")
