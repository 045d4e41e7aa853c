"""Parquet in and out, when pyarrow is installed (``pip install 'probe[parquet]'``)."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.arrow import load_pyarrow
from probe.errors import DataError
from probe.records import load_json, read_record
from probe.store.exchange.table import FeatureTable, Labelling, parse_labelling
from probe.store.index import Index

LAYOUT = "a list column with the embedding, or columns f0, f1, …; and where wanted id, label, split and group"
_METADATA = b"probe"
_ROWS = 4096
_NUMBERED = re.compile(r"f(0|[1-9][0-9]*)")


def read_parquet(path: Path, cache: Path) -> FeatureTable:
    """The embeddings of a parquet file, spooled to disk a few thousand rows at a time. Raises DataError."""
    arrow = load_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            columns, is_list = _feature_columns(arrow, path, file.schema_arrow)
            metadata = _metadata(file.schema_arrow)
            features = _spool(path, file, columns, is_list, cache)
            labelling = _labelling(path, file, metadata, len(features))
    except (arrow.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a parquet file", found=str(error)) from error
    shape = metadata.get("shape", [])
    if len(shape) == 3 and math.prod(shape) == features.shape[1]:
        features = features.reshape(len(features), *shape)
    return FeatureTable(str(path), features, labelling)


def _feature_columns(arrow: Any, path: Path, schema: Any) -> tuple[list[str], bool]:
    """The columns that hold the embeddings, and whether it is one column of lists."""
    types = arrow.types
    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    lists = [entry.name for entry in schema if any(is_kind(entry.type) for is_kind in kinds)]
    numbered = sorted((name for name in schema.names if _NUMBERED.fullmatch(name)), key=lambda n: int(n[1:]))
    if len(lists) == 1 or "features" in lists:
        chosen = ["features" if "features" in lists else lists[0]]
        value_types = [schema.field(chosen[0]).type.value_type]
    elif numbered and not lists and numbered == [f"f{place}" for place in range(len(numbered))]:
        chosen, value_types = numbered, [schema.field(name).type for name in numbered]
    else:
        raise DataError(
            f"{path} has no embeddings that can be told",
            expected=LAYOUT,
            found=", ".join(schema.names[:12]) or "no column",
        )
    if not all(types.is_floating(kind) for kind in value_types):
        raise DataError(
            f"{path} does not hold embeddings", expected="floating-point numbers", found=str(value_types[0])
        )
    return chosen, bool(lists)


def _spool(path: Path, file: Any, columns: list[str], is_list: bool, cache: Path) -> NDArray[Any]:
    """The features as a mapped float32 array (N, D) in a nameless file that vanishes with the process."""
    cache.mkdir(parents=True, exist_ok=True)
    width, rows = 0, 0
    with tempfile.TemporaryFile(dir=cache) as spool:
        for batch in file.iter_batches(_ROWS, columns=columns):
            block = _lists(path, batch.column(0), rows) if is_list else _numbered(batch, columns)
            if width not in (0, block.shape[1]):
                raise _uneven(path, f"{width} and {block.shape[1]} around row {rows}")
            width, rows = block.shape[1], rows + len(block)
            spool.write(block.tobytes())
        spool.flush()
        if not rows or not width:
            raise DataError(f"{path} has no rows", expected=LAYOUT)
        return np.memmap(spool, np.float32, "r", shape=(rows, width))


def _numbered(batch: Any, columns: list[str]) -> NDArray[np.float32]:
    """(n, D) of the columns f0 …; nulls become NaN, which the import reports by row."""
    return np.column_stack([_floats(batch.column(name)) for name in columns])


def _lists(path: Path, column: Any, first: int) -> NDArray[np.float32]:
    """(n, D) of a column of lists; `first` is the number of its first row."""
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if column.null_count == len(column):
        raise _uneven(path, f"none in row {first}")
    if (lengths != lengths[:1]).any():
        usual = next(length for length in lengths.astype(float) if not np.isnan(length))
        wrong = int(np.flatnonzero(lengths != usual)[0])
        length = "none" if np.isnan(lengths[wrong]) else f"{lengths[wrong]:g}"
        raise _uneven(path, f"{length} in row {first + wrong}, {usual:g} in others")
    return _floats(column.flatten()).reshape(len(column), -1)


def _floats(column: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = column.to_numpy(zero_copy_only=False).astype(np.float32)
    return values


def _uneven(path: Path, found: str) -> DataError:
    return DataError(
        f"the embeddings of {path} are not of one width", expected="D numbers a row", found=found
    )


def _labelling(path: Path, file: Any, metadata: dict[str, Any], count: int) -> Labelling:
    names = file.schema_arrow.names
    known = ("id", "path", "label", "split", "hash", "group")
    column = {name: _column(file, name) for name in known if name in names}
    return parse_labelling(
        str(path),
        column.get("label"),
        count=count,
        classes=metadata.get("classes"),
        ids=column.get("id", column.get("path")),
        splits=column.get("split"),
        hashes=column.get("hash"),
        groups=column.get("group"),
    )


def _column(file: Any, name: str) -> NDArray[Any]:
    """A column as text or whole numbers; null is ``""``, or -1 among numbers."""
    batches = file.iter_batches(_ROWS, columns=[name])
    values = [value for batch in batches for value in batch.column(0).to_pylist()]
    if name == "group":
        # A number is a name here, and a missing one is no group.
        values = [str(value) if isinstance(value, int) else value for value in values]
    if any(isinstance(value, int) for value in values):
        values = [-1 if value is None else value for value in values]
        return np.array(values)
    return np.array(["" if value is None else value for value in values])


def _metadata(schema: Any) -> dict[str, Any]:
    """What `write_parquet` left beside the columns: classes in label order, shape of a feature map."""
    try:
        value = load_json((schema.metadata or {}).get(_METADATA, b"{}").decode())
        found = read_record(_Metadata, value)
    except ValueError:
        return {}
    known = {} if found.classes is None else {"classes": list(found.classes)}
    return {"shape": list(found.shape) if min(found.shape, default=0) > 0 else [], **known}


@dataclass(frozen=True)
class _Metadata:
    classes: tuple[str, ...] | None = None
    shape: tuple[int, ...] = ()


def write_parquet(
    path: Path, index: Index, shape: tuple[int, ...], blocks: Iterable[tuple[int, NDArray[Any]]]
) -> None:
    """Stream (first row, rows) blocks of float32 features with id, label, split and hash of each row, and
    its group where there are any."""
    arrow = load_pyarrow()
    width = int(np.prod(shape))
    texts = ("id", "label", "split", "hash", *(() if index.groups is None else ("group",)))
    fields = [(name, arrow.string()) for name in texts]
    schema = arrow.schema([*fields, ("features", arrow.list_(arrow.float32(), width))])
    record = {"classes": index.classes.tolist(), "shape": list(shape)}
    schema = schema.with_metadata({_METADATA: json.dumps(record).encode()})
    names = [*index.classes.tolist(), None]  # label -1, unlabelled, is the last
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for start, block in blocks:
            rows = slice(start, start + len(block))
            flat = arrow.array(np.ascontiguousarray(block, np.float32).reshape(-1))
            columns = [
                arrow.array(index.ids[rows].tolist(), arrow.string()),
                arrow.array([names[label] for label in index.labels[rows].tolist()], arrow.string()),
                arrow.array(index.splits[rows].tolist(), arrow.string()),
                arrow.array(index.hashes[rows].tolist(), arrow.string()),
                *([] if index.groups is None else [arrow.array(index.groups[rows].tolist(), arrow.string())]),
                arrow.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
