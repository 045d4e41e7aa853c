"""Parquet files with encoded pictures and a label column, as Hugging Face's hub and many exports have them.

A parquet file gives its rows in groups that may be larger than memory, and in order only. So the column of
pictures is copied once, piece by piece, to an Arrow file in the cache, which is mapped and gives any row. Its
checksum lies beside it, and is looked at whenever the table is opened.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from probe.arrow import load_pyarrow
from probe.config import own_place
from probe.datasets.columns import LABEL_NAMES, Columns, choose_columns, number_classes, parted
from probe.datasets.folder import short_name
from probe.datasets.listing import Listing, string_array
from probe.datasets.sources import MAX_FILE_BYTES, place_among
from probe.durable import discard, replacing
from probe.errors import DataError
from probe.hashing import file_checksum, file_stamp
from probe.whole import open_file, read_whole

SUFFIX, CHECKSUM = ".parquet", ".crc32c"
RECORD_BYTES = 64
"""A checksum takes 8."""
ROWS_AT_ONCE = 64
BUFFER_BYTES = 1 << 20


def find_parquet(folder: Path) -> list[Path]:
    """The parquet files in `folder` and the folders in it, sorted by name."""
    return sorted((*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")))


def has_pictures(path: Path) -> bool:
    """Whether a parquet file has a column of encoded pictures; DataError where it is none."""
    return bool(_candidates(_schema(path))[0])


def read_parquet(root: Path, cache: Path, asked: Sequence[str] = ()) -> Listing:
    """One file, or a folder of files whose names say the split; row ids ``file/000000``.

    `asked` names the columns, see `choose_columns`. Raises DataError and UsageError.
    """
    files = find_parquet(root) if root.is_dir() else [root]
    schema = _schema(files[0])
    columns = choose_columns(str(root), schema.names, *_candidates(schema), asked)
    base = root if root.is_dir() else root.parent
    ids, values, parts, copies = [], [], [], []
    for path in files:
        labels, count = _labels(path, columns)
        name = path.relative_to(base).with_suffix("").as_posix()
        ids += [f"{name}/{row:06d}" for row in range(count)]
        values += labels
        parts += [name if root.is_dir() else ""] * count
        copies.append(_copied(path, columns.image, cache))
    numbers, classes = number_classes(str(root), values, _class_names(schema, columns.label))
    listing = Listing(
        name=short_name(root.stem if root.is_file() else root.resolve().name),
        ids=string_array(ids),
        labels=numbers,
        splits=np.full(len(ids), "", "<U5"),
        classes=classes,
        source=TableSource(tuple(copies), tuple(files)),
        notes=columns.notes(schema.names),
    )
    return parted(listing, parts)


@dataclass(frozen=True)
class TableSource:
    """Row `i` of Arrow files with one column of bytes, one file after the other; nothing is held in memory.

    `origin` names the files they were copied from, so that their hashes can be remembered.
    """

    files: tuple[Path, ...]
    origin: tuple[Path, ...] = ()

    def read(self, row: int) -> bytes:
        ends, columns = self._tables
        part, inside = place_among(ends, row)
        raw = columns[part][inside].as_py()
        if not raw:
            raise OSError(errno.ENODATA, "the row has no picture")
        if len(raw) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"the picture is larger than {MAX_FILE_BYTES // 2**20} MiB")
        return bytes(raw)

    @cached_property
    def _tables(self) -> tuple[list[int], list[Any]]:
        arrow = load_pyarrow()
        mapped = [arrow.ipc.open_file(arrow.memory_map(str(file))) for file in self.files]
        columns = [file.read_all().column(0) for file in mapped]
        return np.cumsum([len(column) for column in columns]).tolist(), columns

    def __getstate__(self) -> dict[str, Any]:
        # A mapped table would be copied whole to another process, which can map it itself.
        return {"files": self.files, "origin": self.origin}


def _schema(path: Path) -> Any:
    arrow = load_pyarrow()
    try:
        # A pipe would be waited for.
        open_file(path, follow=True).close()
        return arrow.parquet.read_schema(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a parquet file", found=str(error).partition("\n")[0]
        ) from error


def _candidates(schema: Any) -> tuple[list[str], list[str]]:
    """The columns that hold pictures and those that hold labels."""
    types = load_pyarrow().types
    images = [field.name for field in schema if _is_picture(field.type)]
    declared = _features(schema)
    named = [name for name in schema.names if declared.get(name, {}).get("_type") == "ClassLabel"]
    plain = [
        field.name
        for field in schema
        if field.name.lower() in LABEL_NAMES
        and (types.is_integer(field.type) or types.is_floating(field.type) or _is_text(field.type))
    ]
    return images, named or plain


def _is_picture(kind: Any) -> bool:
    types = load_pyarrow().types
    if types.is_struct(kind):
        return "bytes" in [field.name for field in kind] and _is_picture(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text(kind: Any) -> bool:
    types = load_pyarrow().types
    value = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(value) or types.is_large_string(value))


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's `datasets` recorded of the columns in the file's own metadata."""
    try:
        recorded = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found = recorded.get("info", {}).get("features", {}).items()
    except (ValueError, AttributeError, RecursionError):
        return {}
    return {name: known for name, known in found if isinstance(known, dict)}


def _class_names(schema: Any, label: str | None) -> tuple[str, ...]:
    names = _features(schema).get(label or "", {}).get("names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _labels(path: Path, columns: Columns) -> tuple[list[Any], int]:
    """The label of every row of a file, and how many rows it has."""
    arrow = load_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            count = int(file.metadata.num_rows)
            if columns.label is None:
                return [None] * count, count
            return file.read([columns.label]).column(0).to_pylist(), count
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is not of the same columns as the other files, or damaged",
            expected=f"the columns {columns.image}" + (f" and {columns.label}" if columns.label else ""),
            found=str(error).partition("\n")[0],
        ) from error


def _copied(path: Path, image: str, cache: Path) -> Path:
    """The Arrow file with the pictures of one parquet file, made where it is not there as it was made."""
    owner = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    state = f"{image}\0{file_stamp(path)}"
    folder = own_place(cache, "tables")
    copy = folder / f"{owner}-{hashlib.sha256(state.encode()).hexdigest()[:16]}.arrow"
    record = copy.with_suffix(CHECKSUM)
    if not _is_whole(copy, record):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"{owner}-*"):
            discard(stale)
        with replacing(copy) as partial:
            _copy(path, image, partial)
            checksum = _checksum(partial)
        with replacing(record) as partial:
            partial.write_bytes(checksum)
    return copy


def _is_whole(copy: Path, record: Path) -> bool:
    """Whether a copy has the checksum that was written after it."""
    try:
        return read_whole(record, RECORD_BYTES) == _checksum(copy)
    except (OSError, ValueError):
        return False


def _checksum(copy: Path) -> bytes:
    """crc32c of a file as 8 hex digits."""
    return b"%08x" % file_checksum(copy, google_crc32c.extend)


def _copy(path: Path, image: str, target: Path) -> None:
    arrow = load_pyarrow()
    schema = arrow.schema([(image, arrow.large_binary())])
    try:
        with (
            arrow.parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file,
            arrow.OSFile(str(target), "wb") as sink,
            arrow.ipc.new_file(sink, schema) as writer,
        ):
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[image], use_threads=False):
                column = batch.column(0)
                raw = column.field("bytes") if arrow.types.is_struct(column.type) else column
                writer.write_batch(arrow.record_batch([raw.cast(arrow.large_binary())], schema=schema))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read whole", found=str(error).partition("\n")[0]) from error
