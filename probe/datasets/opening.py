"""From what the user typed to a data set: find it, read it, hash it, divide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.config import HOME_MARKER, HOME_PARTS, Home, home_parts
from probe.datasets.arrangement import Layout
from probe.datasets.dataset import NO_SPLIT, SPLITS, TEST, TRAIN, UNLABELLED, VAL, Dataset
from probe.datasets.duplicates import drop_from_train, shared_between, under_several_labels
from probe.datasets.files import find_images
from probe.datasets.folder import read_folder
from probe.datasets.indexing import UNREADABLE, index_rows
from probe.datasets.labels import read_labelled_folder, read_list_file
from probe.datasets.listing import Listing
from probe.datasets.npz import read_npz
from probe.datasets.row import DatasetRow
from probe.datasets.splits import (
    CARVED_SHARE,
    DEFAULT_FRACTIONS,
    Fractions,
    carve_validation,
    check_fractions,
    split_rows,
)
from probe.datasets.tables import list_table
from probe.datasets.tfds_export import PREFIX as TFDS_PREFIX
from probe.datasets.tfds_export import read_tfds
from probe.errors import DataError, UnknownNameError, UsageError, unknown_name
from probe.registry import Registry, load_object
from probe.text import count_of
from probe.units import count_groups

MISSED = 0.01
"""Share of the images by which a part may miss the size asked for without a word."""


CONFLICTS_NAMED, COPIES_NAMED = 5, 4
"""Pictures under two labels that a note names, and files of each; `probe stores show --json` lists all."""


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
    sides = None
    if hashes is None:
        contents = index_rows(listing.source, len(listing), home.cache, rehash=options.rehash)
        hashes, sides = contents.hashes, contents.sides
    splits, made = _splits(listing, hashes, options)
    splits, copies, copy_facts = _copies(hashes, splits, options)
    unread = listing.ids[hashes == UNREADABLE].tolist()
    notes = (
        *listing.notes,
        *made,
        *copies,
        *_conflict_notes(listing, hashes),
        *_group_notes(listing.groups, splits),
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


def _conflict_notes(listing: Listing, hashes: NDArray[np.str_]) -> list[str]:
    """Pictures that lie, byte for byte, in two classes; the first are named."""
    conflicts = under_several_labels(hashes, listing.labels)
    if not conflicts:
        return []
    named = "; ".join(_same_picture(listing, rows) for rows in conflicts[:CONFLICTS_NAMED])
    more = "; …" if len(conflicts) > CONFLICTS_NAMED else ""
    return [f"the same picture under two labels: {count_of(len(conflicts), 'picture')}: {named}{more}"]


def _same_picture(listing: Listing, rows: NDArray[np.intp]) -> str:
    """The files of one picture with their classes: the first of each class where there are many."""
    if len(rows) > COPIES_NAMED:
        first = np.unique(listing.labels[rows], return_index=True)[1]
        shown = rows[np.sort(first)][:COPIES_NAMED]
    else:
        shown = rows
    named = " = ".join(
        f"{listing.ids[row]} ({listing.classes[listing.labels[row]]})" for row in shown.tolist()
    )
    return named + (f" and {len(rows) - len(shown)} more" if len(shown) < len(rows) else "")


def _group_notes(groups: NDArray[np.str_] | None, splits: NDArray[np.str_]) -> list[str]:
    """Groups that the published or the user's own split parts; a split made here parts none."""
    if groups is None:
        return []
    return [
        f"{count_of(number, 'group')} in both {first} and {second}: what is scored is known from {first}"
        for (first, second), number in shared_between(groups, splits).items()
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


def _splits(
    listing: Listing, hashes: NDArray[np.str_], options: DatasetOptions
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """The split of every row, and what the user should know about how it was made."""
    labels, groups, seed = listing.labels, listing.groups, options.seed
    own = Counter(listing.splits.tolist())
    del own[NO_SPLIT]
    if not (labels != UNLABELLED).any():
        return listing.splits, ()
    if options.split is not None or not own:
        fractions = options.split or DEFAULT_FRACTIONS
        splits = split_rows(hashes, labels, fractions, seed=seed, groups=groups)
        shares = "/".join(f"{100 * share:g}" for share in fractions)
        instead = "in place of the set's own split " if own else ""
        came_out = _counts_text(splits, fractions)
        kept = ", groups kept together" if count_groups(groups) else ""
        return splits, (f"split {instead}{shares} % by content, stratified{kept}, seed {seed}: {came_out}",)
    if own[TRAIN] and not own[VAL] and options.validation:
        splits = carve_validation(
            hashes, labels, listing.splits, share=options.validation, seed=seed, groups=groups
        )
        carved = int((splits == VAL).sum())
        share = f"{100 * options.validation:g} %"
        made = f"validation: {count_of(carved, 'image')} ({share}) taken from train, seed {seed}"
    else:
        splits, made = listing.splits, ""
    nowhere = int(((splits == NO_SPLIT) & (labels != UNLABELLED) & (hashes != UNREADABLE)).sum())
    left = f"{count_of(nowhere, 'labelled image')} in no split: not used" if nowhere else ""
    without = [
        f"there is no {part} split: nothing can be {what} (--split makes one)"
        for part, what in ((TEST, "scored on it"), (TRAIN, "fitted on it"))
        if not own[part]
    ]
    return splits, tuple(note for note in (made, left, *without) if note)


def _counts_text(splits: NDArray[np.str_], fractions: Fractions) -> str:
    """``train 420, val 60, test 120``, and the shares that this is where they are not those asked for."""
    counts = [int((splits == split).sum()) for split in SPLITS]
    total = sum(counts)
    told = [(split, count) for split, count, share in zip(SPLITS, counts, fractions, strict=True) if share]
    text = ", ".join(f"{split} {count:,}" for split, count in told)
    missed = max(abs(count - share * total) for count, share in zip(counts, fractions, strict=True))
    if missed < max(1, MISSED * total):
        return text
    shares = "/".join(f"{100 * count / total:.3g}" for count in counts)
    return f"{text}, which is {shares} %: what belongs together or is a class's last image was not parted"


def _copies(
    hashes: NDArray[np.str_], splits: NDArray[np.str_], options: DatasetOptions
) -> tuple[NDArray[np.str_], list[str], dict[str, str]]:
    """Splits after `drop_duplicates`, and what notes and facts say of exact copies across splits."""
    shared = shared_between(hashes, splits)
    notes = [
        f"exact copies: {count_of(number, 'picture')} in both {first} and {second}"
        for (first, second), number in shared.items()
    ]
    facts = {f"copies_{first}_{second}": str(number) for (first, second), number in shared.items()}
    if not options.drop_duplicates:
        return splits, notes, facts
    dropped = drop_from_train(hashes, splits)
    number = int((dropped != splits).sum())
    facts["dropped_from_train"] = str(number)
    return dropped, [*notes, f"dropped from train as copies: {count_of(number, 'image')}"], facts
