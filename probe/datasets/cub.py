"""Caltech-UCSD Birds: the two years are two data sets with two layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from probe.config import Home
from probe.datasets.dataset import TEST, TRAIN
from probe.datasets.folder import labelled_files
from probe.datasets.layout import find_base, inner_name, layout_error, listed_files, read_table
from probe.datasets.listing import Listing
from probe.datasets.opening import DatasetOptions
from probe.datasets.place import find_data
from probe.datasets.row import DatasetRow


def read_2011(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """images.txt, image_class_labels.txt, classes.txt and train_test_split.txt (1: train) beside images/."""
    base = find_data(row, home, options.source)
    names = _by_number(row, base / "images.txt")
    class_names = _by_number(row, base / "classes.txt")
    class_of = _by_number(row, base / "image_class_labels.txt")
    is_train = _by_number(row, base / "train_test_split.txt")
    if not names.keys() == class_of.keys() == is_train.keys():
        raise layout_error(row, base, "the lists do not name the same images", "one line an image in each")
    if not set(class_of.values()) <= class_names.keys() or not set(is_train.values()) <= {"0", "1"}:
        raise layout_error(
            row, base, "a class or a split is unknown", "classes of classes.txt; 1 for train, 0 for test"
        )
    splits = {number: TRAIN if flag == "1" else TEST for number, flag in is_train.items()}
    classes = tuple(class_names[number] for number in sorted(class_names, key=int))
    return _listing(
        row,
        base / "images",
        {names[number]: (class_names[class_of[number]], splits[number]) for number in names},
        classes,
    )


def read_2010(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """lists/train.txt and lists/test.txt name ``class/image`` below images/."""
    base = find_data(row, home, options.source)
    images = find_base(base, ("images",))
    if images is None:
        raise layout_error(row, base, "there is no folder images", "images/ beside lists/")
    rows = {}
    for split in (TRAIN, TEST):
        for (name,) in read_table(row, base / "lists" / f"{split}.txt", 1):
            if name in rows:
                raise layout_error(row, base, f"{name} is listed twice", "every image once, in train or test")
            rows[name] = (name.partition("/")[0], split)
    return _listing(row, images / "images", rows, tuple(sorted({name for name, _ in rows.values()})))


def _listing(
    row: DatasetRow, images: Path, rows: dict[str, tuple[str, str]], classes: tuple[str, ...]
) -> Listing:
    rows = {inner_name(row, images, name): value for name, value in rows.items()}
    if not images.is_dir():
        raise layout_error(row, images.parent, "there is no folder images", "images/ beside the lists")
    kept, notes = listed_files(images, list(rows))
    listing = labelled_files(
        images, kept, [rows[name][0] for name in kept], [rows[name][1] for name in kept], classes
    )
    return replace(listing, name=row.name).noting(*notes)


def _by_number(row: DatasetRow, path: Path) -> dict[str, str]:
    table = {number: value for number, value in read_table(row, path, 2)}  # noqa: C416 - lists, not tuples
    if not all(number.isdecimal() for number in table):
        raise layout_error(row, path.parent, f"{path.name} is unusual", "lines that begin with a number")
    return table
