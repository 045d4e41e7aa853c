"""Files and folders that are whole or not there: after an error, after a kill, and after a power cut.

A rename alone is not enough for the last: the system may keep the new name and lose what was to be in it. So
content is made durable first, then the name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.failpoints import reach
from probe.scratch import scratch_folder

WRITING = ".writing-"
"""How the names of folders begin in which something is being written; what a dead process leaves is swept."""


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

    OSError where a folder is to take the place of one that is not empty.
    """
    reach("settle-written")
    sync_tree(made)
    reach("settle-synced")
    made.replace(path)
    reach("settle-renamed")
    sync_folder(path.parent)


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
    for inside in path.iterdir():
        sync_tree(inside)
    sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
