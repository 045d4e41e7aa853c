"""From what a user calls a store to the store: a name or a part of it, a path, ``latest``, or a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from probe.config import Home
from probe.datasets.folder import short_name
from probe.errors import StoreError, UnknownNameError, ambiguous_name, unknown_name
from probe.order import places_back
from probe.store.catalog import list_stores, open_in_place, store_folders
from probe.store.reader import Store, open_store
from probe.store.writer import is_store

OTHER_HOME = "another home is named by --home or PROBE_HOME"


Serves = Callable[[Store], bool]
"""Whether a command can use a store; the newest is the newest that it can."""


def find_store(home: Home, name: str | None, serves: Serves | None = None) -> Store:
    """The finished store that `name` means.

    In this order: ``latest`` (also None) or ``latest:2`` among the stores that are not internal and that
    serve; a folder name; the path of a store; a data set, by the path or name it was extracted by, of which
    the newest store is taken; the unique part of a folder name.

    Raises StoreError when there is none or it cannot be opened, UnknownNameError when nothing or several
    things are called so.
    """
    back = places_back(name)
    if name is None or back is not None:
        return _newest(home, back or 1, serves)
    folders = {path.name: path for path in store_folders(home)}
    if name in folders:
        return open_in_place(folders[name])
    if name and is_store(Path(name)):
        return open_store(Path(name))
    usable = _usable(home)
    found = stores_of(name, usable)
    if found:
        return _nth(found, serves, 1, f"of {name}")
    return _by_part(home, name, folders, usable)


def is_store_name(home: Home, name: str) -> bool:
    """Whether `name` is that of one store, whatever data sets are called: ``latest``, a name or a path."""
    called = any(path.name == name for path in store_folders(home))
    return places_back(name) is not None or called or (bool(name) and is_store(Path(name)))


def fits_a_store(home: Home, name: str) -> bool:
    """Whether `find_store` knows one or several stores by `name`."""
    fits = any(name and name in path.name for path in store_folders(home))
    return fits or is_store_name(home, name) or bool(stores_of(name, _usable(home)))


def newest_of(home: Home, dataset: str, serves: Serves | None = None) -> Store | None:
    """The newest store extracted from what `dataset` means here that serves; None without one."""
    found = _exactly_of(dataset, _usable(home))
    return next((store for store in found if serves is None or serves(store)), None)


def stores_of(name: str, stores: Sequence[Store]) -> list[Store]:
    """Those of `stores` that were extracted from the data set `name`, in their order.

    A path or a name as it was given to ``probe extract`` goes first; then the name that the data set got,
    unless several data sets got it: UnknownNameError.
    """
    if not name:
        return []
    exact = _exactly_of(name, stores)
    if exact or Path(name).name != name:
        return exact
    called = [store for store in stores if store.manifest.facts.get("dataset") in (name, short_name(name))]
    if len({_specs(store)[-1] for store in called if _specs(store)}) > 1:
        raise ambiguous_name("store", name, {store.name: distinguish(store) for store in called})
    return called


def _exactly_of(name: str, stores: Sequence[Store]) -> list[Store]:
    place = str(Path(name).expanduser().resolve())
    return [store for store in stores if not {name, place}.isdisjoint(_specs(store))]


def _specs(store: Store) -> list[str]:
    """What its data set was called whenever it was extracted, paths absolute; the last is the last."""
    return [str(origin["spec"]) for origin in store.origins if "spec" in origin]


def distinguish(store: Store) -> dict[str, Any]:
    """What tells a store from others of a similar name."""
    backbone, layout = store.manifest.spec["backbone"], store.manifest.layout
    return {
        "backbone": backbone["name"],
        "weights": str(backbone["weights"])[:24],
        "pixels": backbone["size"],
        "precision": backbone["precision"],
        "engine": backbone.get("engine"),
        "preprocess": backbone["preprocess"],
        "outputs": "+".join(store.outputs),
        "views": store.view_count,
        "rows": layout.rows,
        "dtype": layout.dtype,
        "decoding": store.manifest.spec["pixels"]["policy"],
        "of": " and ".join(_specs(store)) or None,
        "used": store.used,
    }


def _usable(home: Home) -> list[Store]:
    return [store for store in list_stores(home)[0] if not store.manifest.layout.internal]


def _nth(stores: Sequence[Store], serves: Serves | None, back: int, which: str) -> Store:
    """The `back`-th of `stores` that serves, of all where none does: the command says what it lacks."""
    # They are asked in turn, as an answer may cost reading.
    able = list(islice((store for store in stores if serves is None or serves(store)), back)) or stores[:back]
    if len(able) < back:
        raise UnknownNameError(
            f"there are no {back} stores {which}" + ("" if serves is None else " that serve"),
            found=f"{len(able)}",
            hint="probe stores ls",
        )
    return able[-1]


def _newest(home: Home, back: int, serves: Serves | None) -> Store:
    stores, where = _usable(home), home.stores.resolve()
    if stores:
        return _nth(stores, serves, back, f"in {where}")
    problems = list_stores(home)[1]
    raise StoreError(
        f"there is no finished store in {where}",
        found=f"{len(problems)} unfinished or damaged" if problems else "none",
        hint=f"probe extract --backbone efficientnet-lite0 DATASET; {OTHER_HOME}",
    )


def _by_part(home: Home, name: str, folders: dict[str, Path], usable: list[Store]) -> Store:
    parts = [path for path in folders.values() if name and name in path.name]
    finished = [store for store in usable if store.path in parts]
    if len(finished) == 1:
        return finished[0]
    if finished:
        raise ambiguous_name("store", name, {store.name: distinguish(store) for store in finished})
    if len(parts) == 1:
        return open_in_place(parts[0])
    if parts:
        raise ambiguous_name("store", name, {path.name: {} for path in parts})
    path = Path(name).expanduser()
    if name and path.exists():
        raise StoreError(
            f"{path.resolve()} is no store, and there is none of it in {home.stores.resolve()}",
            expected="a store, or a data set that was extracted",
            found=f"stores of {_datasets(usable)}" if usable else "no finished store",
            hint=f"probe extract --backbone efficientnet-lite0 {name}; {OTHER_HOME}",
        )
    raise unknown_name("store", name, folders, home.stores)


def _datasets(stores: list[Store]) -> str:
    return ", ".join(dict.fromkeys(str(store.manifest.facts.get("dataset")) for store in stores))
