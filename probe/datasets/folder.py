"""Folders of images: one folder a class, with or without train/val/test above, or no labels at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, UNLABELLED, VAL
from probe.datasets.files import Found, find_images
from probe.datasets.listing import Listing, count_of, string_array
from probe.datasets.sources import FileSource
from probe.errors import DataError

SPLIT_FOLDERS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}


def read_folder(root: Path, *, name: str | None = None) -> Listing:
    """A folder of images as a listing.

    Class per folder: the first folder below `root`, or below a split folder, is the class; classes are sorted
    by name. Images lying directly in `root` and no class folder: an unlabelled set. A folder that holds
    nothing but one other folder of folders is entered.
    """
    found, inside = _enter(find_images(root))
    listing = _by_split(found) or _by_class(found) or _unlabelled(found)
    notes = (f"read from the folder {inside} inside",) if inside else ()
    title = name or short_name((root / inside if inside else root).resolve().name)
    return replace(listing, name=title, notes=notes + found.notes() + listing.notes)


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


def _enter(found: Found) -> tuple[Found, str]:
    """Go down through folders that hold only one folder which holds folders: what archives unpack to."""
    inside = ""
    while True:
        top = {path.partition("/")[0] for path in found.images}
        deep = all(path.count("/") >= 2 for path in found.images)
        if len(top) != 1 or not deep or next(iter(top)).lower() in SPLIT_FOLDERS:
            return found, inside
        only = top.pop()
        start = len(only) + 1
        found = Found(
            found.root / only,
            [path[start:] for path in found.images],
            [path[start:] for path in found.folders if path.startswith(only + "/")],
            found.skipped,
        )
        inside = f"{inside}/{only}" if inside else only


def _by_split(found: Found) -> Listing | None:
    """train/class/image and so on, when there is such a train folder and a val or test folder beside it."""
    inner = {path.split("/")[0] for path in found.images if path.count("/") >= 2}
    split_folders = {
        folder: SPLIT_FOLDERS[folder.lower()] for folder in inner if folder.lower() in SPLIT_FOLDERS
    }
    known = set(split_folders.values())
    if TRAIN not in known or len(known) < 2:
        return None
    kept = [path for path in found.images if path.count("/") >= 2 and path.split("/")[0] in split_folders]
    parts = [path.split("/") for path in kept]
    classes = tuple(sorted({part[1] for part in parts}))
    listing = labelled_files(
        found.root, kept, [part[1] for part in parts], [split_folders[part[0]] for part in parts], classes
    )
    folders = {path.split("/")[1] for path in found.folders if path.count("/") == 1}
    outside = len(found.images) - len(kept)
    return listing.noting(
        f"left out: {count_of(outside, 'image')} outside the class folders of the splits" if outside else "",
        *_class_notes(classes, folders if len(known) == len(split_folders) else set(classes)),
    )


def _by_class(found: Found) -> Listing | None:
    kept = [path for path in found.images if "/" in path]
    if not kept:
        return None
    class_of = [path.partition("/")[0] for path in kept]
    classes = tuple(sorted(set(class_of)))
    listing = labelled_files(found.root, kept, class_of, [NO_SPLIT] * len(kept), classes)
    beside = len(found.images) - len(kept)
    return listing.noting(
        f"left out: {count_of(beside, 'image')} lying beside the class folders" if beside else "",
        *_class_notes(classes, {path for path in found.folders if "/" not in path}),
    )


def _unlabelled(found: Found) -> Listing:
    files = found.images
    if not files:
        folders = [f"{count_of(len(found.folders), 'folder')} without images"] if found.folders else []
        raise DataError(
            f"there are no images in {found.root}",
            expected="class folders with images, train/val/test folders with class folders, or images",
            found="; ".join([*folders, *found.notes()]) or "an empty folder",
        )
    blank = [""] * len(files)
    return labelled_files(found.root, files, blank, blank, ()).noting(
        "no class folders: the images have no labels"
    )


def _class_notes(classes: tuple[str, ...], folders: set[str]) -> list[str]:
    notes = []
    empty = sorted(folders - set(classes))
    if empty:
        notes.append(
            f"{count_of(len(empty), 'folder')} without images, not counted as classes: {_few(empty)}"
        )
    folded = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if folded[name.casefold()] > 1]
    if twins:
        notes.append(f"classes that differ only in case are kept apart: {_few(twins)}")
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
