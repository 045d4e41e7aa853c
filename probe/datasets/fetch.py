"""``probe data fetch``: download, check, unpack, and only then let it exist."""

from __future__ import annotations

import shutil
from pathlib import Path

from probe.config import Home
from probe.datasets.place import data_folder
from probe.datasets.row import DatasetRow
from probe.datasets.unpack import UNPACKING, is_archive, unpack
from probe.durable import link, settle_once
from probe.errors import DataError, DownloadError
from probe.internet import Progress, RemoteFile, download
from probe.scratch import hold, lock_of, scratch_folder, sweep, sweep_one


def download_bytes(row: DatasetRow) -> int:
    """What has to be fetched for a row, as far as it is known."""
    return sum(file.bytes for file in row.files)


def fetch(row: DatasetRow, home: Home, *, progress: Progress | None = None, pause: float = 1.0) -> Path:
    """Bring the files of `row` to ``PROBE_HOME/datasets/<folder>`` and return that folder.

    A folder that is there is complete and is returned at once. An interrupted download goes on where it
    stopped; what is left of one is removed once the set is there. Raises DataError: no address, not
    reachable, another size or another hash than the pinned one, or another process is fetching the same.
    """
    target = data_folder(row, home)
    downloads = home.datasets / f".fetching-{target.name}"
    if target.is_dir():
        sweep_one(downloads)
        sweep(home.datasets, UNPACKING)
        return target
    if not row.files:
        raise DataError(
            f"{row.name} cannot be fetched by a program",
            hint=f"get it by hand and point at it with --from PATH: {row.source or row.summary}",
        )
    try:
        home.mark()
        home.datasets.mkdir(parents=True, exist_ok=True)
        with hold(lock_of(downloads)) as free:
            if not free:
                raise DataError(f"another process is fetching {row.name}", hint="wait for it to end")
            if target.is_dir():
                return target
            downloads.mkdir(exist_ok=True)
            paths = [_fetch_file(row, file, downloads, progress, pause) for file in row.files]
            _put(paths, target)
            shutil.rmtree(downloads)
            lock_of(downloads).unlink()
    except OSError as error:
        raise DataError(
            f"{row.name} cannot be stored in {home.datasets}",
            found=error.strerror or str(error),
            hint="free some room, or set PROBE_HOME to another disk",
        ) from error
    return target


def _put(paths: list[Path], target: Path) -> None:
    """Archives are unpacked into the new folder `target`; other files become its own as they are."""
    archives = [path for path in paths if is_archive(path)]
    if archives:
        unpack(archives, target)
        return
    with scratch_folder(target.parent, UNPACKING) as scratch:
        part = scratch / "part"
        part.mkdir()
        for path in paths:
            # A kill before the folder is whole then costs no transfer.
            link(path, part / path.name)
        settle_once(part, target)


def _fetch_file(
    row: DatasetRow, file: RemoteFile, folder: Path, progress: Progress | None, pause: float
) -> Path:
    try:
        return download(file, folder, progress=progress, pause=pause)
    except DownloadError as error:
        doubt = f" ({'; '.join(row.caveats)})" if row.caveats else ""
        by_hand = f"fetch the file by hand and use --from{doubt}"
        raise DataError(
            error.problem,
            expected=error.expected,
            found=error.found,
            hint=f"{error.hint}; or {by_hand}" if error.hint else by_hand,
        ) from error
