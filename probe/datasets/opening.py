"""From what the user typed to a data set: find it, read it, hash it, divide it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.config import HOME_MARKER, HOME_PARTS, Home, home_parts
from probe.datasets.arrangement import Layout
from probe.datasets.dataset import Dataset
from probe.datasets.duplicates import conflict_notes, count_copies, group_notes
from probe.datasets.files import find_images
from probe.datasets.folder import read_folder
from probe.datasets.indexing import UNREADABLE, index_rows
from probe.datasets.labels import read_labelled_folder, read_list_file
from probe.datasets.listing import Listing
from probe.datasets.npz import read_npz
from probe.datasets.row import DatasetRow
from probe.datasets.splits import CARVED_SHARE, Fractions, check_fractions, divide
from probe.datasets.tables import list_table
from probe.datasets.tfds_export import PREFIX as TFDS_PREFIX
from probe.datasets.tfds_export import read_tfds
from probe.durable import WRITING
from probe.errors import DataError, UnknownNameError, UsageError, unknown_name
from probe.registry import Registry, load_object
from probe.scratch import sweep
from probe.text import count_of
from probe.units import count_groups


@dataclass(frozen=True)
class DatasetOptions:
    """How a data set is to be read.

    Attributes
    ----------
    labels : CSV file with path, label and, where wanted, split and group.
    split : shares of train, validation and test in place of the set's own split.
    seed : of every split that is made here.
    source : an archive or an unpacked folder of a registered set that is already on disk.
    validation : share of train that becomes validation where a set has none; 0 for no validation part.
    drop_duplicates : take those pictures out of train that are, byte for byte, also in validation or test.
    rehash : read every byte, also of files that look as they did when they were last hashed.
    limit : at most so many images, evenly spread over the set once it is divided; None for all.
    columns : the column of pictures, and that of labels, of a set that is a table; empty to recognise them.
    layout : what the folders of a folder are, where they do not say it themselves.
    follow_links : read what links lead to outside of the folder.
    """

    labels: Path | None = None
    split: Fractions | None = None
    seed: int = 0
    source: Path | None = None
    validation: float = CARVED_SHARE
    drop_duplicates: bool = False
    limit: int | None = None
    columns: tuple[str, ...] = ()
    layout: Layout = Layout.AUTO
    follow_links: bool = False
    rehash: bool = False


Loader = Callable[[DatasetRow, Home, DatasetOptions], Listing]


def open_spec(table: Registry[DatasetRow], spec: str, home: Home, options: DatasetOptions) -> Dataset:
    """See `probe.datasets.open_dataset`."""
    if options.split is not None:
        check_fractions(options.split)
    check_fractions((1 - options.validation, options.validation, 0.0))
    return finish(_list_spec(table, spec, home, options), home, options).thinned(options.limit)


def finish(
    listing: Listing, home: Home, options: DatasetOptions, hashes: NDArray[np.str_] | None = None
) -> Dataset:
    """Hash every row unless `hashes` are known, divide the rows, count the duplicates."""
    if not len(listing):
        raise DataError(f"the data set {listing.name} has no images")
    home.mark()
    _sweep(home)
    sides = None
    if hashes is None:
        contents = index_rows(listing.source, len(listing), home.cache, rehash=options.rehash)
        hashes, sides = contents.hashes, contents.sides
    splits, made = divide(
        listing, hashes, fractions=options.split, validation=options.validation, seed=options.seed
    )
    splits, copies, copy_facts = count_copies(hashes, splits, drop=options.drop_duplicates)
    unread = listing.ids[hashes == UNREADABLE].tolist()
    notes = (
        *listing.notes,
        *made,
        *copies,
        *conflict_notes(listing, hashes),
        *group_notes(listing.groups, splits),
        *_unread_notes(unread, listing.broken),
    )
    return Dataset(
        name=listing.name,
        ids=listing.ids,
        hashes=hashes,
        labels=listing.labels,
        splits=splits,
        classes=listing.classes,
        source=listing.source,
        facts={**listing.facts, **copy_facts},
        notes=notes,
        broken=listing.broken,
        groups=listing.groups if count_groups(listing.groups) else None,
        jpeg_sides=sides,
    )


def _unread_notes(unread: list[str], broken: frozenset[str]) -> list[str]:
    """Files that are known to be broken are named; any other is a surprise."""
    known = [name for name in unread if name in broken]
    others = len(unread) - len(known)
    return [
        *([f"{count_of(len(known), 'file')} broken as published: {', '.join(known)}"] if known else []),
        *([f"{count_of(others, 'file')} cannot be read"] if others else []),
    ]


def _broken(row: DatasetRow, ids: NDArray[np.str_]) -> frozenset[str]:
    """The ids that end with one of the row's broken files; copies differ in case and in what lies above."""
    ends = tuple(f"/{name}".casefold() for name in row.broken)
    return frozenset(name for name in ids.tolist() if ends and f"/{name}".casefold().endswith(ends))


def _list_spec(table: Registry[DatasetRow], spec: str, home: Home, options: DatasetOptions) -> Listing:
    if spec in table:
        row = table[spec]
        if options.labels is not None:
            raise UsageError(f"{spec} has labels of its own", hint="leave out --labels")
        if options.columns:
            raise _no_table(spec)
        if not row.any_layout:
            _expect_no_folder_options(spec, options)
        loader: Loader = load_object(row.loader)
        listing = loader(row, home, options)
        facts, broken = {**row.facts, **listing.facts}, _broken(row, listing.ids)
        return replace(listing, name=row.name, facts=facts, broken=broken)
    if options.source is not None:
        raise UsageError(
            f"--from belongs to a registered name, and {spec} is none",
            expected="one of " + ", ".join(table),
            hint="give the folder or file itself as DATASET",
        )
    listed = _list_own_labels(spec, home, options)
    if listed is not None:
        _expect_no_folder_options(spec, options)
        if options.labels is not None:
            raise UsageError(f"{spec} has labels of its own", hint="leave out --labels")
        return listed
    if options.columns:
        raise _no_table(spec)
    path = Path(spec).expanduser()
    if not spec or not path.exists():
        raise _nothing_there(table, spec)
    if path.is_dir():
        _check_home(path, home)
    if path.is_dir() and options.labels is not None:
        if options.layout is not Layout.AUTO:
            raise UsageError("--labels and --layout exclude each other", hint="the labels are in the file")
        return read_labelled_folder(path, options.labels, follow_links=options.follow_links)
    if path.is_dir():
        return read_folder(path, layout=options.layout, follow_links=options.follow_links)
    _expect_no_folder_options(spec, options)
    if path.suffix.lower() == ".txt":
        return read_list_file(path, options.labels)
    if path.suffix.lower() == ".npz":
        if options.labels is not None:
            raise UsageError("an .npz file carries its own labels", hint="leave out --labels")
        return read_npz(path, home.cache, anew=options.rehash)
    raise UsageError(
        f"{spec} is not a data set",
        expected="a folder, a .txt list of images, an .npz or .parquet file, or .tar shards",
        hint=_other_use(path),
    )


def _other_use(path: Path) -> str | None:
    """What a file that is no data set may be good for."""
    if path.suffix.lower() in (".npy", ".parquet"):
        return f"probe stores import {path} takes embeddings"
    if path.suffix.lower() == ".csv":
        return f"labels belong to a folder of images: FOLDER --labels {path}"
    return None


def _check_home(path: Path, home: Home) -> None:
    """UsageError where the home is to be among the pictures and one of its folders is already a class."""
    root = home.root.resolve()
    if not root.is_dir() or not root.is_relative_to(path.resolve()):
        return
    names = [entry.name for entry in root.iterdir()]
    if HOME_MARKER in names or home_parts(root, names):
        return
    taken = [part for part in HOME_PARTS if part in names and find_images(root / part).images]
    if taken:
        raise UsageError(
            f"{root} would be the home, and there are pictures in its folders {', '.join(taken)}",
            expected="a home whose own folders are free",
            hint="another home is named by --home or PROBE_HOME",
        )


def _list_own_labels(spec: str, home: Home, options: DatasetOptions) -> Listing | None:
    """A set in a format that carries its own labels, None where `spec` is none."""
    if spec.startswith(TFDS_PREFIX):
        return read_tfds(spec, home)
    return list_table(spec, home.cache, options.columns)


def _expect_no_folder_options(spec: str, options: DatasetOptions) -> None:
    given = [
        *(["--layout"] if options.layout is not Layout.AUTO else []),
        *(["--follow-links"] if options.follow_links else []),
    ]
    if given:
        raise UsageError(f"{' and '.join(given)} says how a folder of images is read, and {spec} is none")


def _no_table(spec: str) -> UsageError:
    return UsageError(
        f"--columns belongs to tables of pictures, and {spec} is none",
        expected="parquet files, hf:NAME or a folder saved by save_to_disk",
    )


def _nothing_there(table: Registry[DatasetRow], spec: str) -> UsageError:
    if "/" in spec or "\\" in spec or Path(spec).suffix in (".npz", ".txt"):
        return UsageError(
            f"there is no file or folder {spec}",
            expected="a registered name, a folder of images, a .txt list of images or an .npz file",
        )
    unknown = unknown_name("data set", spec, table)
    return UnknownNameError(
        f"there is no file or folder {spec or repr(spec)}, and no data set called {spec!r}",
        expected=f"a path, or {unknown.expected}",
        hint=unknown.hint,
    )


def _sweep(home: Home) -> None:
    """Remove what killed processes left where this one may have nothing to write any more."""
    for folder in (home.stores, home.runs, *home.cache.glob("*/")):
        # A home that cannot be written is read all the same.
        with suppress(OSError):
            sweep(folder, WRITING)
