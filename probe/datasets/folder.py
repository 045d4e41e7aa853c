"""Folders of images: class folders, with or without folders of splits above, or no labels at all."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.datasets.arrangement import Arrangement, Layout, Placed, arrange
from probe.datasets.dataset import UNLABELLED
from probe.datasets.files import Found, find_images
from probe.datasets.listing import (
    Listing,
    string_array,
)
from probe.datasets.sources import FileSource
from probe.datasets.split_names import split_folders
from probe.errors import DataError
from probe.text import count_of, few


def read_folder(
    root: Path,
    *,
    name: str | None = None,
    layout: Layout = Layout.AUTO,
    follow_links: bool = False,
) -> Listing:
    """A folder of images as a listing, read as `probe.datasets.arrangement` decides; classes sorted by name.

    DataError without an image, and where links that are not followed would take a whole class or split away;
    UsageError where the folders can be read in two ways.
    """
    found = find_images(root, follow_links=follow_links)
    if not found.images:
        raise _no_images(found)
    # What links hide counts for the layout: a class must not be lost without a word.
    reading = arrange([*found.images, *found.lost], layout, root=root.resolve().name)
    images = _without_lost(found, reading)
    base = root / reading.inside if reading.inside else root
    classes = tuple(sorted({image.name for image in images} - {""}))
    listing = labelled_files(
        base,
        [image.path for image in images],
        [image.name for image in images],
        [image.split for image in images],
        classes,
    )
    return replace(listing, name=name or short_name(base.resolve().name)).noting(
        f"read from the folder {reading.inside} inside" if reading.inside else "",
        *found.notes(),
        *reading.notes,
        *_folder_notes(found, reading, images),
        *_case_notes(classes),
    )


def labelled_files(
    root: Path, files: list[str], class_of: list[str], split_of: list[str], classes: tuple[str, ...]
) -> Listing:
    """A listing of files below `root`; their order is that of their names. Empty class: unlabelled."""
    order = np.argsort(string_array(files), kind="stable")
    number = {name: label for label, name in enumerate(classes)} | {"": UNLABELLED}
    return Listing(
        name=short_name(root.resolve().name),
        ids=string_array(files)[order],
        labels=np.array([number[name] for name in class_of], dtype=np.int32)[order],
        splits=string_array(split_of)[order],
        classes=classes,
        source=FileSource(root, [files[place] for place in order.tolist()]),
    )


def short_name(text: str) -> str:
    """`text` as a name that is safe in a file name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:40] or "images"


def _no_images(found: Found) -> DataError:
    folders = [f"{count_of(len(found.folders), 'folder')} without images"] if found.folders else []
    return DataError(
        f"there are no images in {found.root}",
        expected="class folders with images, train/val/test folders with class folders, or images",
        found="; ".join([*folders, *found.notes()]) or "an empty folder",
        hint="--follow-links reads what links lead to" if found.lost else None,
    )


def _without_lost(found: Found, reading: Arrangement) -> list[Placed]:
    """The images that can be read; DataError when a class or the folder of a split has none of them."""
    start = len(reading.inside) + 1 if reading.inside else 0
    lost = {path[start:] for path in found.lost}
    images = [image for image in reading.images if image.path not in lost]
    present = {_whole(image) for image in images}
    gone = sorted({_whole(image) for image in reading.images if image.path in lost} - present)
    _expect_none(gone, found)
    return images


def expect_whole_folders(found: Found) -> None:
    """DataError where a folder directly in a walked folder has lost all its images to links."""
    tops = {path.partition("/")[0] for path in found.images}
    gone = {path.partition("/")[0] for path in found.lost if "/" in path} - tops
    if found.images:
        _expect_none(sorted(gone), found)


def _expect_none(gone: list[str], found: Found) -> None:
    """DataError unless `gone`, folders whose images are all behind links, is empty."""
    if not gone:
        return
    out = any((found.root / path).exists() for path in found.lost)
    raise DataError(
        f"all images of {few(gone)} are behind links that lead {'out of the folder' if out else 'nowhere'}",
        expected=f"images inside {found.root}",
        found="; ".join(found.notes()),
        hint="--follow-links reads them; or remove the links" if out else "mend or remove the links",
    )


def _whole(image: Placed) -> str:
    """What an image belongs to that must not vanish: its class, in its split, or the folder of its split."""
    if image.name:
        return f"{image.folder}/{image.name}" if image.folder else image.name
    return image.path.partition("/")[0] if "/" in image.path else ""


def _folder_notes(found: Found, reading: Arrangement, images: list[Placed]) -> list[str]:
    """Folders without images where class folders, or folders of splits, are expected."""
    start = reading.inside + "/" if reading.inside else ""
    folders = {path[len(start) :] for path in found.folders if path.startswith(start)}
    tops = {path for path in folders if "/" not in path}
    with_images = {image.path.partition("/")[0] for image in images if "/" in image.path}
    splits = {image.folder for image in images if image.folder}
    if not splits:
        empty = sorted(tops - with_images) if any(image.name for image in images) else []
        return [_empty_note(empty)] if empty else []
    no_images = sorted(name for name in split_folders(tops) if name not in splits)
    pairs = [path.split("/") for path in folders if path.count("/") == 1]
    known = {image.name for image in images}
    known |= {image.path.split("/")[1] for image in images if image.path.count("/") > 1}
    empty = sorted({inner for top, inner in pairs if top in splits} - known)
    return [
        *([f"no images in the folder of a split: {few(no_images)}"] if no_images else []),
        *([_empty_note(empty)] if empty else []),
    ]


def _empty_note(empty: list[str]) -> str:
    return f"{count_of(len(empty), 'folder')} without images, not counted as classes: {few(empty)}"


def _case_notes(classes: tuple[str, ...]) -> list[str]:
    folded = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if folded[name.casefold()] > 1]
    return [f"classes that differ only in case are kept apart: {few(twins)}"] if twins else []
