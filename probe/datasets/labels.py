"""``--labels labels.csv``: the user's own labels, splits and groups for a folder or a list of files."""

from __future__ import annotations

import csv
import errno
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from probe.datasets.dataset import NO_SPLIT
from probe.datasets.files import find_images, has_image_suffix, is_utf8, leads_out
from probe.datasets.folder import labelled_files, short_name
from probe.datasets.listing import (
    Listing,
    string_array,
)
from probe.datasets.path_lists import MAX_LIST_BYTES, read_list
from probe.datasets.spellings import Spellings, composed
from probe.datasets.split_names import SPLIT_FOLDERS
from probe.errors import DataError, UsageError
from probe.text import count_of, few

DIGITS = 100
"""Of names that are taken for numbers."""
SPLIT_WORDS: Mapping[str, str] = {"": NO_SPLIT, **SPLIT_FOLDERS}


@dataclass(frozen=True)
class LabelRow:
    path: str
    label: str
    split: str = NO_SPLIT
    group: str = ""


def read_labels(path: Path, names: tuple[str, ...] = ("path",), *, numbered: bool = False) -> list[LabelRow]:
    """The rows of a CSV file with the columns path, label and, if there, split and group.

    The column that names the rows is the first of `names` that is there; with `numbered` it may be missing,
    and ``path`` is then empty in every row.

    Raises UsageError when there is no such file and DataError when it cannot be read as such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if os.fstat(file.fileno()).st_size > MAX_LIST_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {MAX_LIST_BYTES // 2**20} MiB")
            # Strict, or a quote that is not closed swallows the lines that follow.
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            key = next((name for name in names if name in columns), "")
            if "label" not in columns or not (key or numbered):
                required = "label" if numbered else f"{' or '.join(names)},label"
                raise DataError(
                    f"{path} does not start with the names of its columns",
                    expected=f"{required} and, where wanted, split and group",
                    found=",".join(columns)[:200] or "an empty file",
                    hint="separate the columns by commas" if ";" in "".join(columns) else None,
                )
            twice = [name for name in (key, "label", "split", "group") if columns.count(name) > 1]
            if twice:
                raise DataError(f"{path} has two columns called {twice[0]}", hint="keep one of them")
            rows = [_row(path, reader.line_num, record, key) for record in reader]
    except FileNotFoundError as error:
        raise UsageError(f"there is no label file {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the label file {path} is not UTF-8 text", hint="save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(
            f"the label file {path} cannot be read",
            found=str(error),
            hint='look for a quote (") that is not closed; a quote inside a name is written twice',
        ) from error
    except OSError as error:
        raise DataError(
            f"the label file {path} cannot be read", found=error.strerror or str(error)
        ) from error
    seen: set[str] = set()
    for row in rows:
        if key and row.path in seen:
            raise DataError(f"{path} names {row.path} twice", hint="keep one row an image")
        seen.add(row.path)
    return rows


def read_labelled_folder(root: Path, labels: Path, *, follow_links: bool = False) -> Listing:
    """Files below the folder `root` with the labels of a CSV whose paths are relative to `root`.

    A file the CSV names and the folder lacks keeps its row (it will count as unreadable); images the CSV does
    not name are left out. Names leading out of the folder are an error; links that do are left out unless
    `follow_links`, and an error where a whole class is behind them.
    """
    found = find_images(root, follow_links=follow_links)
    spellings = Spellings(found.images)
    rows = _respelt(read_labels(labels), spellings, labels)
    for row in rows:
        pure = PurePosixPath(row.path)
        if pure.is_absolute() or ".." in pure.parts:
            raise DataError(
                f"{labels} names {row.path}, which is not inside {root}",
                expected="paths relative to the folder",
                hint="give a list file (.txt) in place of the folder when the images lie apart",
            )
    images = set(found.images)
    in_home = sum(found.in_home(row.path) for row in rows)
    rows = [row for row in rows if not found.in_home(row.path)]
    if not follow_links:
        rows = _inside(root, rows, images, labels)
    # A name may lead through a link to a folder that is read anyway.
    images |= {row.path for row in rows if row.path not in images and _is_image(root / row.path)}
    named = {row.path for row in rows}
    if rows and not images & named:
        raise DataError(
            f"no image of {root} is named in {labels}",
            expected=f"paths such as {found.images[0]}" if found.images else "images in the folder",
            found=f"paths such as {rows[0].path}",
            hint="write paths with /, from the folder on" if "\\" in rows[0].path else None,
        )
    extra = len(set(found.images) - named)
    missing = len(named - images)
    return _listing(root, rows, short_name(root.resolve().name)).noting(
        *found.notes(),
        *spellings.notes(labels.name),
        f"left out: {count_of(in_home, 'row')} of {labels.name} that belong to the home" if in_home else "",
        f"left out: {count_of(extra, 'image')} that {labels.name} does not name" if extra else "",
        f"{count_of(missing, 'file')} named in {labels.name} not found as an image" if missing else "",
        without_label(rows, labels),
    )


def _respelt(rows: list[LabelRow], spellings: Spellings, labels: Path) -> list[LabelRow]:
    """The rows under the names that their files have on disk; DataError for two rows of one file."""
    first: dict[str, str] = {}
    respelt = []
    for row in rows:
        file = spellings.file(row.path)
        if file in first:
            raise DataError(
                f"{labels} names {file} twice",
                found=f"{first[file]} and {row.path}",
                hint="keep one row an image",
            )
        first[file] = row.path
        respelt.append(replace(row, path=file))
    return respelt


def _inside(root: Path, rows: list[LabelRow], images: set[str], labels: Path) -> list[LabelRow]:
    """The rows that do not lead out of `root` by links; DataError where a class, or all, would be lost."""
    kept = [row for row in rows if row.path in images or not leads_out(root, row.path)]
    gone = sorted({row.label for row in rows} - {row.label for row in kept})
    if gone:
        whole = [name for name in gone if name]
        raise DataError(
            f"all images of {few(whole) if whole else root} that {labels.name} names are behind links that "
            "lead out of the folder",
            expected=f"images inside {root}",
            hint="--follow-links reads them",
        )
    return kept


def _is_image(path: Path) -> bool:
    # Unlike `Path` it takes a name that no file can have for one that is not there.
    return has_image_suffix(path.name) and os.path.isfile(path)  # noqa: PTH113


def read_list_file(path: Path, labels: Path | None) -> Listing:
    """A text file with one image path a line, relative to the list's own folder or absolute.

    With `labels`, its paths are those of the list, in any spelling; images it does not name have no label.
    """
    files = [line.strip() for line in read_list(path)]
    if any(not is_utf8(name) for name in files):
        raise DataError(f"the list of files {path} is not UTF-8 text", hint="save it as UTF-8")
    unique = list(dict.fromkeys(_on_disk(path.parent, name) for name in files))
    spellings = Spellings(unique)
    known = {row.path: row for row in _respelt(read_labels(labels), spellings, labels)} if labels else {}
    if known and not any(name in known for name in unique):
        raise DataError(
            f"no path of {path} is named in {labels}",
            expected=f"paths such as {unique[0]}",
            found=f"paths such as {next(iter(known))}",
        )
    rows = [known.get(name, LabelRow(name, "")) for name in unique]
    repeated = len(files) - len(unique)
    return _listing(path.parent, rows, short_name(path.stem)).noting(
        f"left out: {count_of(repeated, 'repeated line')}" if repeated else "",
        *(spellings.notes(labels.name) if labels else ()),
        without_label(rows, labels) if labels else "no --labels: the images have no labels",
    )


def _on_disk(root: Path, name: str) -> str:
    """`name`, tidied, in the one of its spellings under which there is a file."""
    tidy = str(PurePosixPath(name))
    slashed = str(PurePosixPath(name.replace("\\", "/")))
    forms = [unicodedata.normalize(form, spelt) for spelt in (tidy, slashed) for form in ("NFC", "NFD")]
    return next((spelt for spelt in (tidy, *forms) if os.path.exists(root / spelt)), tidy)  # noqa: PTH110


def without_label(rows: list[LabelRow], labels: Path) -> str:
    """How many of the rows of the file `labels` say no class; empty when all do."""
    number = sum(not row.label for row in rows)
    return f"{count_of(number, 'image')} without a label in {labels.name}" if number else ""


def _listing(root: Path, rows: list[LabelRow], name: str) -> Listing:
    rows = sorted(rows, key=lambda row: row.path)
    listing = labelled_files(
        root,
        [row.path for row in rows],
        [row.label for row in rows],
        [row.split for row in rows],
        class_order({row.label for row in rows} - {""}),
    )
    groups = string_array([row.group for row in rows]) if any(row.group for row in rows) else None
    return replace(listing, name=name, groups=groups)


def class_order(names: set[str]) -> tuple[str, ...]:
    """Sorted by name; by value when every name is a whole number, as far as Python takes it for one."""
    if all(name.isdecimal() and len(name) <= DIGITS for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _row(path: Path, line: int, record: Mapping[str, str | None], key: str) -> LabelRow:
    # What lies beyond the named columns has the key None. Spreadsheets leave empty ones there.
    beyond: Any = record.get(None)  # type: ignore[call-overload]
    if any(text.strip() for text in beyond or ()):
        raise DataError(
            f"{path}, line {line}: there are more columns than the first line names",
            hint='write a name that contains a comma in quotes: "great, grey owl"',
        )
    name, label, split, group = (
        (record.get(column) or "").strip() for column in (key, "label", "split", "group")
    )
    if key and not name:
        raise DataError(f"{path}, line {line}: there is no usable path")
    odd = next((text for text in (name, label, split, group) if any(sign in text for sign in "\0\r\n")), None)
    if odd is not None:
        raise DataError(
            f"{path}, line {line}: a name goes over the end of the line, or holds a NUL",
            found=ascii(odd[:60]),
            hint='look for a quote (") that is not closed, here or above',
        )
    if split.lower() not in SPLIT_WORDS:
        raise DataError(
            f"{path}, line {line}: {split!r} is not a split",
            expected="train, val, test or nothing",
        )
    return LabelRow(name, composed(label), SPLIT_WORDS[split.lower()], composed(group))
