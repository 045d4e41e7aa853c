"""Which files of a folder are images of the data set, and what is left out: decided by name.

Left out with its path: what belongs to a home of ``probe`` that lies in the folder, or is it.

Left out, and counted: hidden files and folders, ``__MACOSX``, names that are not valid UTF-8, files without
an image suffix, and links that lead out of the folder or nowhere. Links that stay inside are followed:

* a link to an image is an image;
* a link to a folder that is not read anyway (below a hidden folder) is a folder;
* a link to a folder that is read anyway is left out, so that its pictures count once and nothing runs in
  circles. In a folder named after a split it is followed when it leads out of that folder: ``train/cats``
  may be a link to ``all/cats``.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from probe.config import HOME_MARKER, home_parts
from probe.datasets.split_names import split_folders
from probe.errors import DataError
from probe.text import count_of, few

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib"),
        *(".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)

HIDDEN = ("hidden file or folder", "hidden files or folders")
ENCODING = ("name that is not valid UTF-8", "names that are not valid UTF-8")
NOT_IMAGE = ("file without an image suffix", "files without an image suffix")
NOT_FILE = ("image name that is no regular file", "image names that are no regular files")
LINK_FOLDER = ("link to a folder that is read anyway", "links to folders that are read anyway")
LINK_OUT = ("link leading out of the folder or nowhere", "links leading out of the folder or nowhere")

_SYSTEM = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
_PEEK = 2_000
"""Entries behind a link leading out that are looked at to see whether it leads to images."""


@dataclass
class Found:
    """What a walk has found.

    Attributes
    ----------
    images : sorted POSIX paths relative to `root`.
    folders : every folder below `root`, also relative.
    skipped : what was left out, and how often.
    again : links to folders that are read anyway.
    lost : paths that would be images if links leading out were followed or led anywhere; where a folder is
        behind the link, some of its images.
    twice : images that are, by links, the same file as another.
    homes : folder (relative, "" for `root`) -> the folders in it that belong to a home, and are not read.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: int = 0
    homes: dict[str, list[str]] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        left_out = [
            f"left out: {count_of(number, *what)}" for what, number in sorted(self.skipped.items()) if number
        ]
        again = f"left out: {count_of(len(self.again), *LINK_FOLDER)}: {few(self.again)}"
        twice = f"{count_of(self.twice, 'image')} reached twice, by a link"
        homes = [
            f"left out: {'/, '.join(parts)}/ of the home in {(self.root / home).resolve()}"
            for home, parts in self.homes.items()
        ]
        return (*homes, *left_out, *([again] if self.again else []), *([twice] if self.twice else []))

    def in_home(self, name: str) -> bool:
        """Whether a relative path lies in what belongs to a home."""
        starts = [
            f"{home}/{part}/" if home else f"{part}/" for home, parts in self.homes.items() for part in parts
        ]
        return name.startswith(tuple(starts))


def find_images(root: Path, *, follow_links: bool = False) -> Found:
    """Walk `root` (which may itself be a link); `follow_links` also where they lead out of it.

    Raises DataError when a folder cannot be listed.
    """
    walk = _Walk(root, follow_links)
    walk.enter("", walk.real)
    while walk.links:
        walk.follow(*walk.links.pop(0))
    found = walk.found
    found.images.sort()
    # A home that holds no pictures of the data set is none of its folders.
    bare = {home for home in found.homes if not any(image.startswith(f"{home}/") for image in found.images)}
    found.folders = sorted(set(found.folders) - bare)
    found.again.sort()
    found.lost.sort()
    found.twice = walk.reached_twice()
    return found


def has_image_suffix(name: str) -> bool:
    return f".{name.rpartition('.')[2]}".lower() in SUFFIXES


def leads_out(root: Path, name: str) -> bool:
    """Whether ``root / name`` is, by links, a place outside `root`."""
    return not os.path.realpath(root / name).startswith(os.path.realpath(root) + os.sep)


class _Walk:
    """One walk: what was found, and the folders that were entered, by their real paths."""

    def __init__(self, root: Path, outside: bool) -> None:
        self.found, self.outside = Found(root), outside
        self.real = os.path.realpath(root)
        self.entered: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.behind: dict[str, str] = {}
        self.kept: list[str] = []

    def enter(self, name: str, real: str, *, again: bool = False) -> None:
        """Everything in the folder `real`, which is called `name`; `again` also where it was entered."""
        pending = [(name, real)]
        linked = name != "" or real != self.real
        while pending:
            folder, place = pending.pop()
            if place in self.entered and not again:
                self.found.again.append(folder)
                continue
            self.entered.add(place)
            entries = sorted(_entries(Path(place)), key=lambda entry: entry.name)
            kept = home_parts(Path(place), [entry.name for entry in entries])
            if kept:
                self._home(folder, place, kept)
            for entry in entries:
                inner = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name in kept or entry.name == HOME_MARKER:
                    continue
                if (reason := _skip_by_name(entry.name)) is not None:
                    self.found.skipped[reason] += 1
                elif entry.is_symlink():
                    self._link(inner, entry.path)
                elif entry.is_dir():
                    self.found.folders.append(inner)
                    pending.append((inner, entry.path))
                elif not has_image_suffix(entry.name):
                    self.found.skipped[NOT_IMAGE] += 1
                elif not entry.is_file():
                    self.found.skipped[NOT_FILE] += 1
                else:
                    self._image(inner, entry.path if linked else None)

    def follow(self, name: str, target: str) -> None:
        """A link to a folder, once all folders that are no links have been entered."""
        above = self.real == target or self.real.startswith(target.rstrip(os.sep) + os.sep)
        inside = self._is_inside(target)
        if (
            above
            or self._is_kept(target)
            or (target in self.entered and not (inside and self._fills_split(name, target)))
        ):
            self.found.again.append(name)
        elif inside or self.outside:
            self.found.folders.append(name)
            self.enter(name, target, again=target in self.entered)
        else:
            self.found.skipped[LINK_OUT] += 1
            self.found.lost += [f"{name}/{path}" for path in _peek(target)]

    def reached_twice(self) -> int:
        """Images that are the same file as another of them."""
        if not self.behind:
            return 0
        files = Counter(self.behind.get(name) or f"{self.real}{os.sep}{name}" for name in self.found.images)
        return sum(number - 1 for number in files.values())

    def _link(self, name: str, path: str) -> None:
        # A link to itself makes DirEntry raise; os.path takes it for nothing.
        target = os.path.realpath(path)
        try:
            mode = os.stat(target).st_mode  # noqa: PTH116
        except OSError:
            mode = 0
        if stat.S_ISDIR(mode):
            self.links.append((name, target))
        elif not has_image_suffix(name):
            self.found.skipped[NOT_IMAGE if mode else LINK_OUT] += 1
            if not mode and "." not in name.rpartition("/")[2]:
                # It led to a folder, as far as one can tell.
                self.found.lost.append(f"{name}/?")
        elif stat.S_ISREG(mode) and (self.outside or self._is_inside(target)):
            self._image(name, target)
        else:
            self.found.skipped[LINK_OUT] += 1
            self.found.lost.append(name)

    def _home(self, name: str, place: str, parts: list[str]) -> None:
        self.found.homes[name] = parts
        # A link to pictures that were fetched into a home is the user's own doing.
        self.kept += [f"{place}{os.sep}{part}" for part in parts if part != "datasets"]

    def _is_kept(self, target: str) -> bool:
        """Whether a folder lies in what belongs to a home, so that no link makes it a class."""
        return any(target == part or target.startswith(part + os.sep) for part in self.kept)

    def _image(self, name: str, real: str | None) -> None:
        self.found.images.append(name)
        if real is not None:
            self.behind[name] = real

    def _is_inside(self, target: str) -> bool:
        return target.startswith(self.real + os.sep)

    def _fills_split(self, name: str, target: str) -> bool:
        """Whether the folder of a split is filled by a link to a folder outside of it."""
        top = name.partition("/")[0]
        return bool(split_folders([top])) and top != target[len(self.real) + 1 :].partition(os.sep)[0]


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


def _peek(folder: str) -> list[str]:
    """Some images below a folder that is not read, relative to it; looks at few entries."""
    return [path for path in _few_entries(folder) if has_image_suffix(path)]


def _few_entries(folder: str) -> Iterator[str]:
    left, pending = _PEEK, [""]
    while pending and left > 0:
        below = pending.pop(0)
        try:
            entries = _entries(Path(folder, below))
        except DataError:
            # What cannot be listed may hold images as well.
            yield f"{below}/?.png" if below else "?.png"
            continue
        for entry in entries[:left]:
            left -= 1
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False) and _skip_by_name(entry.name) is None:
                pending.append(name)
            else:
                yield name


def _skip_by_name(name: str) -> tuple[str, str] | None:
    if name.startswith(".") or name in _SYSTEM:
        return HIDDEN
    return None if is_utf8(name) else ENCODING


def is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
