"""Which files of a folder are images of the data set, and what is left out: decided by name.

Left out, and counted: hidden files and folders, ``__MACOSX``, names that are not valid UTF-8, files without
an image suffix, links to folders, links that lead out of the data set's folder.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from probe.datasets.listing import count_of
from probe.errors import DataError

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib"),
        *(".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)

HIDDEN = ("hidden file or folder", "hidden files or folders")
ENCODING = ("name that is not valid UTF-8", "names that are not valid UTF-8")
NOT_IMAGE = ("file without an image suffix", "files without an image suffix")
LINK_FOLDER = ("link to a folder", "links to folders")
LINK_OUT = ("link leading out of the folder or nowhere", "links leading out of the folder or nowhere")


@dataclass
class Found:
    """Images as sorted POSIX paths relative to `root`, every folder below it, and what was left out."""

    root: Path
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"left out: {count_of(number, *what)}" for what, number in sorted(self.skipped.items()) if number
        )


def find_images(root: Path) -> Found:
    """Walk `root` (which may itself be a link). Raises DataError when it cannot be listed."""
    found = Found(root)
    real = os.path.realpath(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in _entries(root / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            reason = _skip(entry, real)
            if reason is not None:
                found.skipped[reason] += 1
            elif entry.is_dir(follow_symlinks=False):
                found.folders.append(name)
                pending.append(name)
            else:
                found.images.append(name)
    found.images.sort()
    found.folders.sort()
    return found


def has_image_suffix(name: str) -> bool:
    return f".{name.rpartition('.')[2]}".lower() in SUFFIXES


def leads_out(root: Path, name: str) -> bool:
    """Whether ``root / name`` is, by links, a place outside `root`."""
    return not (root / name).resolve().is_relative_to(root.resolve())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed",
            found=error.strerror or str(error),
            hint="check its permissions",
        ) from error


def _skip(entry: os.DirEntry[str], root: str) -> tuple[str, str] | None:
    name = entry.name
    if name.startswith(".") or name == "__MACOSX":
        return HIDDEN
    if not _is_utf8(name):
        return ENCODING
    if entry.is_symlink():
        # A link to itself makes DirEntry raise; os.path takes it for nothing.
        target = os.path.realpath(entry.path)
        if os.path.isdir(target):  # noqa: PTH112
            return LINK_FOLDER
        inside = target.startswith(root + os.sep) and os.path.isfile(target)  # noqa: PTH113
        if not inside:
            return LINK_OUT
        return None if has_image_suffix(name) else NOT_IMAGE
    if entry.is_dir():
        return None
    return None if entry.is_file() and has_image_suffix(name) else NOT_IMAGE


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
