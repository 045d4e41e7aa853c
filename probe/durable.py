"""Files and folders that are whole or not there: after an error, after a kill, and after a power cut.

A rename alone is not enough for the last: the system may keep the new name and lose what was to be in it. So
content is made durable first, then the name.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.failpoints import reach
from probe.progress import say
from probe.scratch import scratch_folder

WRITING = ".writing-"
"""How the names of folders begin in which something is being written; what a dead process leaves is swept."""
MANY = 64
"""Files in a folder, from which on the whole file system is synced at once: each alone takes milliseconds."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to, of the same name in a scratch folder, whose content becomes `path` at the end.

    Readers see the old file or the new, never a part. After an error `path` is as it was.
    """
    with scratch_folder(path.parent, WRITING) as folder:
        yield folder / path.name
        settle(folder / path.name, path)


def settle(made: Path, path: Path) -> None:
    """Move a finished file or folder to `path`, and make both durable.

    OSError where a folder is to take the place of one that is not empty. What is in its place is finished: of
    its name alone that cannot be made durable a warning is given.
    """
    reach("settle-written")
    sync_tree(made)
    reach("settle-synced")
    made.replace(path)
    try:
        reach("settle-renamed")
        sync_folder(path.parent)
    except OSError as error:
        say(
            f"{path} is finished and in its place, but {path.parent} cannot be synced"
            f" ({error.strerror or error}): a power cut may take it away"
        )


def settle_once(made: Path, folder: Path) -> None:
    """Move a finished folder to `folder`, as `settle` does, unless another process has been faster."""
    try:
        settle(made, folder)
    except OSError:
        if not folder.is_dir():
            raise


def link(path: Path, other: Path) -> None:
    """Give a file a second name, of which a file goes; a copy where the file system has no such names."""
    other.unlink(missing_ok=True)
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, other)


def discard(path: Path) -> None:
    """Remove a file, or whatever folder lies in its place; nothing where there is neither."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Make a file durable, or a folder with all that is in it."""
    if not path.is_dir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        return
    inside = list(path.iterdir())
    if len(inside) >= MANY and sync_disk(path):
        return
    for part in inside:
        sync_tree(part)
    sync_folder(path)


def sync_disk(folder: Path) -> bool:
    """Make all of the file system durable that a folder lies on; False where the system has no such call."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
