"""The stores of a home: find, list, remove."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from probe.config import Home
from probe.errors import StoreError, UnknownNameError
from probe.registry import unknown_name
from probe.store.files import LocalFiles
from probe.store.index import Index, set_current, write_index
from probe.store.manifest import MANIFEST
from probe.store.reader import Store, open_store
from probe.store.writer import is_whole


def slug(name: str) -> str:
    """`name` as one safe path component."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "data"


def store_path(home: Home, dataset: str, backbone: str, key: str) -> Path:
    """Where a store with this key lies: the folder that has it, whatever its name, else a new one."""
    for path in _folders(home):
        if path.name.endswith(f"-{key[:12]}"):
            return path
    return home.stores / f"{slug(dataset)}-{slug(backbone)}-{key[:12]}"


def _folders(home: Home) -> Iterator[Path]:
    if home.stores.is_dir():
        for path in sorted(home.stores.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield path


def is_finished(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def put_index(path: Path, index: Index) -> str:
    """Add an index to a store, make it current and mark the store as just used; returns its hash."""
    files = LocalFiles(path)
    digest = write_index(files, index)
    set_current(files, digest, datetime.now(UTC).isoformat(timespec="microseconds"))
    return digest


def reuse_finished(path: Path, index: Index) -> bool:
    """Whether a finished store can serve as it is; it then takes `index` and is the newest.

    A sealed store that has lost a chunk is unsealed, so that the caller resumes it.
    """
    if not is_finished(path):
        return False
    if not is_whole(path):
        LocalFiles(path).remove(MANIFEST)
        return False
    put_index(path, index)
    return True


def list_stores(home: Home) -> tuple[list[Store], list[tuple[Path, StoreError]]]:
    """Finished stores, newest first, and the folders that could not be opened with the reason."""
    stores, problems = [], []
    for path in _folders(home):
        try:
            stores.append(open_store(path))
        except StoreError as error:
            problems.append((path, error))
    return sorted(stores, key=lambda store: store.used, reverse=True), problems


def find_store(home: Home, name: str | None) -> Store:
    """A store by folder name, unique part of it, or path; without a name the newest that is not internal."""
    if name is None:
        return _newest(home)
    if (home.stores / name).is_dir() or Path(name).is_dir():
        return open_store(home.stores / name if (home.stores / name).is_dir() else Path(name))
    matches = [path for path in _folders(home) if name in path.name]
    if len(matches) == 1:
        return open_store(matches[0])
    if matches:
        raise UnknownNameError(
            f"{name!r} fits several stores", expected="one of " + ", ".join(path.name for path in matches)
        )
    raise unknown_name("store", name, [path.name for path in _folders(home)])


def _newest(home: Home) -> Store:
    stores, problems = list_stores(home)
    candidates = [store for store in stores if not store.manifest.layout.internal]
    if candidates:
        return candidates[0]
    found = f"{len(problems)} unfinished or damaged" if problems else "none"
    raise StoreError(
        f"there is no finished store in {home.stores}",
        found=found,
        hint="probe extract --backbone efficientnet-lite0 DATASET",
    )


def store_folder(home: Home, name: str) -> Path:
    """The folder of one store, finished or not, directly inside the home's stores; UnknownNameError."""
    folders = list(_folders(home))
    for path in folders:
        if path.name == name:
            return path
    raise unknown_name("store", name, [path.name for path in folders])


def remove_store(home: Home, name: str) -> Path:
    """Delete a store's folder, as `store_folder` finds it."""
    path = store_folder(home, name)
    shutil.rmtree(path)
    return path
