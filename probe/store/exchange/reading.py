"""Files of embeddings and of labels -> `FeatureTable`. Nothing is unpickled; large arrays are mapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.labels import LabelRow, class_order, read_labels
from probe.datasets.listing import (
    string_array,
)
from probe.datasets.unzip import DAMAGE, open_arrays, reason_of
from probe.errors import DataError, UsageError
from probe.store.exchange.table import FeatureTable, Labelling, parse_labelling, texts_of
from probe.text import count_of

NPZ_LAYOUT = "features (N, D) or (N, H, W, C), and where wanted ids, labels, splits, groups and classes"


def read_features(path: Path, cache: Path) -> FeatureTable:
    """The embeddings of an npy, npz or parquet file, with what it says of the rows.

    Raises UsageError when there is no such file or the format is none of these, DataError when the content is
    not what it should be.
    """
    from probe.store.exchange.parquet import read_parquet

    readers: Mapping[str, Callable[[Path, Path], FeatureTable]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".parquet": read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise UsageError(
            f"{path} is not a file of embeddings", expected="a name ending in .npy, .npz or .parquet"
        )
    _expect_file(path)
    return readers[path.suffix.lower()](path, cache)


def _expect_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"there is no file {path}" if not path.exists() else f"{path} is no file")


def _read_npy(path: Path, cache: Path) -> FeatureTable:
    return FeatureTable(str(path), _map_array(path))


def _map_array(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as an .npy file", found=reason_of(error)) from error


def _open_npz(path: Path, cache: Path) -> dict[str, NDArray[np.generic]]:
    try:
        return open_arrays(path, cache)
    except DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as an .npz file", expected=NPZ_LAYOUT, found=reason_of(error)
        ) from error


def _read_npz(path: Path, cache: Path) -> FeatureTable:
    arrays = _open_npz(path, cache)
    if "features" not in arrays:
        images = any(name.endswith("_images") for name in arrays)
        raise DataError(
            f"{path} has no array called features",
            expected=NPZ_LAYOUT,
            found=", ".join(sorted(arrays)) or "nothing",
            hint=f"probe extract --backbone … {path} computes embeddings of its images" if images else None,
        )
    features = arrays.pop("features")
    return FeatureTable(str(path), features, _labelling_of(path, arrays, _count(features)))


def _count(array: NDArray[Any]) -> int:
    return len(array) if array.ndim else 0


def _labelling_of(path: Path, arrays: Mapping[str, NDArray[Any]], count: int) -> Labelling:
    classes = arrays.get("classes")
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind not in "USiu"):
        raise DataError(
            f"the classes of {path} are not names",
            expected="text (C,)",
            found=f"{classes.dtype} {classes.shape}",
        )
    return parse_labelling(
        str(path),
        arrays.get("labels"),
        count=count,
        classes=None if classes is None else texts_of(str(path), "classes", classes),
        ids=arrays.get("ids"),
        splits=arrays.get("splits"),
        hashes=arrays.get("hashes"),
        groups=arrays.get("groups"),
    )


def with_labels(table: FeatureTable, path: Path, cache: Path) -> FeatureTable:
    """`table` with the labels of another file in place of its own.

    A CSV file has the column label and where wanted id (or path), split and group. Its rows belong to
    the rows of the same id where both files have ids, else to the rows in the order of the files. An npz has
    labels and where wanted ids, splits, groups and classes; an npy the labels alone. Where it knows no
    groups those of `table` stay: other labels make nobody another patient.
    """
    found = _with_labels(table, path, cache)
    own = table.labelling.groups if table.labelling else None
    if own is None or found.labelling is None or found.labelling.groups is not None:
        return found
    note = f"the groups are those of {table.origin}: {path.name} has none"
    return replace(found, labelling=replace(found.labelling, groups=own), notes=(*found.notes, note))


def _with_labels(table: FeatureTable, path: Path, cache: Path) -> FeatureTable:
    """`table` with the labels and groups of another file, none where it has none."""
    _expect_file(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = _open_npz(path, cache)
        if "labels" not in arrays:
            raise DataError(
                f"{path} has no array called labels", found=", ".join(sorted(arrays)) or "nothing"
            )
        return _in_order(table, path, _labelling_of(path, arrays, _count(arrays["labels"])))
    if suffix == ".npy":
        labels = _map_array(path)
        return _in_order(table, path, parse_labelling(str(path), labels, count=_count(labels)))
    rows = read_labels(path, names=("id", "path"), numbered=True)
    known = table.labelling.ids if table.labelling else None
    if known is None or not rows or not rows[0].path:
        return _in_order(table, path, _from_rows(rows))
    return _by_id(table, path, rows, known)


def _in_order(table: FeatureTable, path: Path, labelling: Labelling) -> FeatureTable:
    if len(labelling) != len(table):
        raise DataError(
            f"{path} and {table.origin} do not have the same number of rows",
            expected=f"{len(table)} labels",
            found=f"{len(labelling)}",
        )
    known = table.labelling.ids if table.labelling else None
    if known is not None and labelling.ids is not None and not np.array_equal(known, labelling.ids):
        raise DataError(f"{path} and {table.origin} do not name the same rows in the same order")
    if labelling.ids is None and known is not None:
        labelling = replace(labelling, ids=known)
    return replace(table, labelling=labelling)


def _by_id(table: FeatureTable, path: Path, rows: list[LabelRow], ids: NDArray[np.str_]) -> FeatureTable:
    by_id = {row.path: row for row in rows}
    found = [by_id.get(name, LabelRow(name, "")) for name in ids.tolist()]
    matched = sum(name in by_id for name in ids.tolist())
    if not matched:
        raise DataError(
            f"no row of {table.origin} is named in {path}",
            expected=f"ids such as {ids[0]}",
            found=f"ids such as {rows[0].path}",
        )
    notes = [
        f"{count_of(len(ids) - matched, 'row')} not named in {path.name}: unlabelled" * (matched < len(ids)),
        f"{count_of(len(by_id) - matched, 'label')} of {path.name} for no row" * (matched < len(by_id)),
    ]
    kept = tuple(note for note in notes if note)
    return replace(table, labelling=_from_rows(found), notes=(*table.notes, *kept))


def _from_rows(rows: list[LabelRow]) -> Labelling:
    names = class_order({row.label for row in rows} - {""})
    place = {name: number for number, name in enumerate(names)} | {"": -1}
    splits = string_array([row.split for row in rows])
    groups = string_array([row.group for row in rows])
    ids = string_array([row.path for row in rows]) if rows and rows[0].path else None
    return Labelling(
        np.array([place[row.label] for row in rows], np.int32),
        names,
        ids,
        splits if (splits != "").any() else None,
        None,
        groups if (groups != "").any() else None,
    )
