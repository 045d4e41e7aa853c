"""Where the files of a registered data set lie: fetched, installed, or pointed at with ``--from``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from probe.config import Home
from probe.datasets.layout import find_base, layout_error
from probe.datasets.row import DatasetRow
from probe.datasets.unpack import SUFFIXES, is_archive, unpack
from probe.errors import DataError, UsageError
from probe.hashing import file_stamp


def data_folder(row: DatasetRow, home: Home) -> Path:
    """Where ``probe data fetch`` puts a set. The folder exists only when everything in it is complete."""
    return home.datasets / (row.folder or row.name)


def is_fetched(row: DatasetRow, home: Home) -> bool:
    return data_folder(row, home).is_dir()


def installed_folder(row: DatasetRow) -> Path | None:
    """Where a package of the operating system has put the set, None where it has not."""
    folder = Path(row.installed)
    return find_base(folder, row.markers) if row.installed and folder.is_dir() else None


def is_here(row: DatasetRow, home: Home) -> bool:
    """Whether the set opens without being fetched or pointed at."""
    return is_fetched(row, home) or installed_folder(row) is not None


def is_missing(row: DatasetRow, home: Home) -> bool:
    """Whether ``probe data fetch`` is what it takes to open the set."""
    return bool(row.files) and not is_here(row, home)


def find_data(row: DatasetRow, home: Home, source: Path | None) -> Path:
    """The folder that holds one of the row's markers.

    `source` is an unpacked folder, an archive, or a folder with the publisher's archives. Archives are
    unpacked once, into a folder of their own below ``PROBE_HOME/datasets``. Raises UsageError and DataError.
    """
    root = _resolve(row, home, source)
    base = find_base(root, row.markers) if row.markers else root
    if base is None and source is not None and source.is_dir():
        archives = _archives_in(row, source)
        if archives:
            root = _unpacked(row, home, archives)
            base = find_base(root, row.markers)
    if base is None:
        raise layout_error(row, root, "the files are not laid out as expected", " or ".join(row.markers))
    return base


def _resolve(row: DatasetRow, home: Home, source: Path | None) -> Path:
    if source is None:
        folder = data_folder(row, home)
        if folder.is_dir():
            return folder
        installed = installed_folder(row)
        if installed is not None:
            return installed
        raise DataError(
            f"the data set {row.name} is not on this machine",
            expected=f"its files in {folder}",
            hint=_how_to_get(row),
        )
    if not source.exists():
        raise UsageError(f"there is nothing at {source}", expected="an archive or an unpacked folder")
    if source.is_dir():
        return source
    if is_archive(source):
        return _unpacked(row, home, [source, *_companions(row, source)])
    if find_base(source.parent, row.markers) is None:
        raise UsageError(
            f"{source} is no archive of {row.name}",
            expected=f"an unpacked folder, or an archive ({', '.join(SUFFIXES)})",
        )
    return source.parent


def _how_to_get(row: DatasetRow) -> str:
    point = f"point at it with --from PATH (archive or unpacked folder): {row.source or row.summary}"
    if not row.files:
        return point
    size = sum(file.bytes for file in row.files)
    size_text = f" ({size / 1e6:,.0f} MB)" if size else ""
    return f"probe data fetch {row.name}{size_text}, or {point}"


def _companions(row: DatasetRow, source: Path) -> list[Path]:
    """The other archives of a set of several, when they lie beside the one that was named."""
    others = [source.with_name(file.name) for file in row.files if file.name != source.name]
    known = any(file.name == source.name for file in row.files)
    return [path for path in others if known and is_archive(path) and path.is_file()]


def _archives_in(row: DatasetRow, folder: Path) -> list[Path]:
    paths = [folder / file.name for file in row.files]
    return [path for path in paths if is_archive(path) and path.is_file()]


def _unpacked(row: DatasetRow, home: Home, archives: list[Path]) -> Path:
    stamps = ["\0".join(map(str, (path.resolve(), *file_stamp(path)))) for path in archives]
    stamp = hashlib.sha256(os.fsencode("\n".join(stamps))).hexdigest()[:12]
    target = home.datasets / "from" / f"{row.folder or row.name}-{stamp}"
    if not target.is_dir():
        unpack(archives, target)
    return target
