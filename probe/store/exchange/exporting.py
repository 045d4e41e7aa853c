"""A store's embeddings -> a file that other programs read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from probe.arrow import load_pyarrow
from probe.durable import replacing
from probe.errors import StoreError, UsageError
from probe.store.exchange.parquet import write_parquet
from probe.store.files import disk_errors
from probe.store.index import Index
from probe.store.reader import FeatureArray, Store


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote; ``to_json`` is what ``probe stores export --json`` prints.

    Attributes
    ----------
    dropped : rows of the store whose image could not be read; they are left out.
    files : what was written, the embeddings first.
    """

    store: str
    output: str
    rows: int
    dropped: int
    shape: tuple[int, ...]
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        lines = [f"file    {name}" for name in self.files]
        lines.append(f"rows    {self.rows:,} × {'×'.join(map(str, self.shape))}, output {self.output}")
        if self.dropped:
            lines.append(f"left out {self.dropped:,} rows whose image could not be read")
        return lines


@dataclass(frozen=True)
class _Content:
    """The rows that are exported: `features` are read unit by unit, `index` is theirs alone."""

    features: FeatureArray
    rows: NDArray[np.intp]
    index: Index
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.shape[1:]

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first exported row, rows) in order, one unit of the store at a time."""
        step = self.features.store.manifest.layout.unit_rows
        for start in range(0, len(self.rows), step):
            yield start, self.features.read(self.rows[start : start + step]).astype(self.dtype)


def export_store(
    store: Store, file: Path, file_format: str | None = None, output: str | None = None
) -> ExportResult:
    """Write one output of a store, in bounded memory, with id, label, split and content hash of every row.

    npz: features, ids, labels, splits, classes, hashes. parquet: id, label, split, hash and a list column
    features (float32). npy: the features, and everything else in ``<name>.labels.npz`` beside it. Where the
    store has groups, they are written too: groups, in parquet group. `probe stores import` reads all three
    back. Raises UsageError when a file is there already, StoreError when it cannot be written.
    """
    named = FORMAT_OF.get(file.suffix.lower(), "")
    if file_format and named and file_format != named:
        raise UsageError(f"{file} would hold {file_format}", expected=f"a name ending in .{file_format}")
    file_format = file_format or named
    if file_format not in FORMATS:
        raise UsageError(f"{file} does not say its format", expected="--format npz, npy or parquet")
    if file_format == "parquet":
        load_pyarrow()
    content = _content(store, output)
    files = [file, labels_file(file)] if file_format == "npy" else [file]
    for path in files:
        if path.exists():
            raise UsageError(f"{path} is there already", hint="remove it, or name another with --output-file")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}")
    with disk_errors(file.parent):
        for path, write in zip(files, FORMATS[file_format], strict=True):
            _whole(path, write, content)
    return ExportResult(
        store.name,
        content.features.name,
        len(content.rows),
        store.manifest.layout.rows - len(content.rows),
        content.shape,
        tuple(map(str, files)),
    )


def default_file(store: Store, file_format: str) -> Path:
    """Where an export goes that was told no file: the store's name in the working directory."""
    return Path(f"{store.name}.{file_format}")


def labels_file(file: Path) -> Path:
    """Beside an npy of features: who its rows are."""
    return file.with_name(f"{file.stem}.labels.npz")


def _content(store: Store, output: str | None) -> _Content:
    rows, index = store.rows(), store.index
    if not len(rows):
        raise StoreError(f"{store.name} has no row whose image was read")
    dtype = np.dtype(store.manifest.layout.values_dtype)
    return _Content(store.features(output), rows, index.take(rows), dtype)


def _whole(path: Path, write: Callable[[Path, _Content], None], content: _Content) -> None:
    """The file appears complete or not at all."""
    with replacing(path) as temporary:
        write(temporary, content)


def _write_features(stream: IO[bytes], content: _Content) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(content.dtype),
        "fortran_order": False,
        "shape": (len(content.rows), *content.shape),
    }
    np.lib.format.write_array_header_2_0(stream, header)
    for _, block in content.blocks():
        stream.write(block.tobytes())


def _npy(path: Path, content: _Content) -> None:
    with path.open("wb") as stream:
        _write_features(stream, content)


def _npz(path: Path, content: _Content) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as stream:
            _write_features(stream, content)
        _write_index(archive, content.index)


def _labels(path: Path, content: _Content) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        _write_index(archive, content.index)


def _write_index(archive: zipfile.ZipFile, index: Index) -> None:
    names = ("ids", "labels", "splits", "classes", "hashes")
    for name in names if index.groups is None else (*names, "groups"):
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, getattr(index, name), allow_pickle=False)


def _parquet(path: Path, content: _Content) -> None:
    write_parquet(path, content.index, content.shape, content.blocks())


FORMATS: Mapping[str, tuple[Callable[[Path, _Content], None], ...]] = {
    "npz": (_npz,),
    "npy": (_npy, _labels),
    "parquet": (_parquet,),
}
"""Format -> what writes each of its files."""

FORMAT_OF = {f".{name}": name for name in FORMATS}
