"""The stores of a home: where they lie, which is the newest, remove."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probe.config import Home, own_place
from probe.durable import WRITING, discard
from probe.errors import ReadOnlyError, StoreError, unknown_name
from probe.failpoints import reach
from probe.order import Rank, one_at_a_time, rank
from probe.scratch import scratch_folder, sweep
from probe.store.arrays import read_layout
from probe.store.files import LocalFiles
from probe.store.index import Current, Index, read_current, set_current, write_index
from probe.store.locks import alone, writing
from probe.store.manifest import MANIFEST
from probe.store.reader import KEY_LETTERS, Store, open_store
from probe.store.repair import is_sound, mend
from probe.whole import refuse_link


def slug(name: str) -> str:
    """`name` as one safe path component."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "data"


def store_path(home: Home, dataset: str, backbone: str, key: str) -> Path:
    """Where a store with this key lies: the folder that has it, whatever its name, else a new one."""
    for path in store_folders(home):
        if path.name.endswith(f"-{key[:KEY_LETTERS]}"):
            return own_place(home.stores, path.name)
    return home.stores / f"{slug(dataset)}-{slug(backbone)}-{key[:KEY_LETTERS]}"


def store_folders(home: Home) -> Iterator[Path]:
    """The folders of all stores, finished or not, sorted by name."""
    if home.stores.is_dir():
        for path in sorted(home.stores.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield path


def record_beside(path: Path, what: str) -> Path:
    """Where a record about a store lies that is no part of it: beside its folder, which is sealed."""
    return path.with_name(f"{path.name}.{what}.json")


def is_finished(path: Path) -> bool:
    return not path.is_symlink() and (path / MANIFEST).exists()


def put_index(path: Path, index: Index, origin: Mapping[str, Any] | None = None) -> str:
    """Add an index to a store, make it current and mark the store as the last used; returns its hash.

    `origin` says how the data set was opened, see `probe.datasets.dataset.Dataset`.
    """
    with writing(path):
        digest = write_index(LocalFiles(path), index)
        reach("index-written")
        mark_used(path, digest, origin)
    return digest


def mark_used(path: Path, digest: str, origin: Mapping[str, Any] | None = None) -> None:
    """Make one of a store's indexes current, and mark the store as the last used."""
    files = LocalFiles(path)
    with writing(path), one_at_a_time(path.parent):
        number = 1 + max((_current(folder).sequence or 0 for folder in path.parent.iterdir()), default=0)
        key = read_layout(path).key
        known = [other for other in _current(path, key).origins if other != origin]
        origins = (*known, origin) if origin else tuple(known)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        reach("use-counted")
        set_current(files, Current(digest, now, number, origins), key)


def _current(folder: Path, key: str | None = None) -> Current:
    """What is recorded of a store's use; nothing for what is no store, or a damaged one."""
    try:
        return read_current(LocalFiles(folder), key)
    except StoreError:
        return Current("", "", None)


def reuse_finished(path: Path, index: Index, origin: Mapping[str, Any] | None = None) -> bool:
    """Whether a finished store can serve as it is; it then takes `index` and is the newest.

    Every chunk is read once. A store that is damaged is mended and unsealed, so that the caller resumes it.
    StoreError where what lies there is another store than its name says.
    """
    if not is_finished(path):
        return False
    if not is_sound(path):
        reach("reuse-damaged")
        mend(path)
        if not is_finished(path):
            return False
    try:
        put_index(path, index, origin)
    except ReadOnlyError:
        # The store answers as it is, unless it was to have other labels.
        if read_current(LocalFiles(path), read_layout(path).key).index != index.hash:
            raise
    return True


def open_in_place(path: Path) -> Store:
    """`open_store` of a folder of a home, which is no link to that of another."""
    try:
        refuse_link(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read", found=error.strerror, hint="name the place that it leads to"
        ) from error
    return open_store(path)


def list_stores(home: Home) -> tuple[list[Store], list[tuple[Path, StoreError]]]:
    """Finished stores, the one last used first, and the folders that could not be opened with the reason."""
    stores, problems = [], []
    for path in store_folders(home):
        try:
            stores.append(open_in_place(path))
        except StoreError as error:
            problems.append((path, error))
    return sorted(stores, key=_rank, reverse=True), problems


def _rank(store: Store) -> Rank:
    return rank(store.sequence, store.used, store.name)


def store_folder(home: Home, name: str) -> Path:
    """The folder of one store, finished or not, directly inside the home's stores; UnknownNameError.

    By its full name: a part of it, or a data set, is not enough to delete a store by.
    """
    # What a killed removal left has no name any more by which it could be asked for.
    with suppress(OSError):
        sweep(home.stores, WRITING)
    folders = {path.name: path for path in store_folders(home)}
    if name not in folders:
        raise unknown_name("store", name, folders, home.stores)
    return folders[name]


def remove_store(home: Home, name: str) -> Path:
    """Delete a store's folder, as `store_folder` finds it, and the records beside it.

    StoreError while another process writes it.
    """
    path = store_folder(home, name)
    # Out of sight first: what a kill leaves is swept later, and not a store that looks like one.
    with alone(path), scratch_folder(path.parent, WRITING) as scratch:
        path.rename(scratch / path.name)
        reach("rm-renamed")
        discard(scratch / path.name)
        for record in path.parent.glob(record_beside(path, "*").name):
            record.unlink()
    return path
