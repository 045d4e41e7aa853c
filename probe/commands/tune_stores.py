"""Which stores ``probe finetune`` takes its images and its backbone from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.commands.options import note, say_store
from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions
from probe.datasets.place import is_missing
from probe.store import Store, find_store, fits_a_store, is_store_name, newest_of


@dataclass(frozen=True)
class TuneStores:
    """``images``: the store whose images are taken, None where DATASET is a data set to be opened.

    ``backbone``: the store whose backbone is taken, None with --backbone.
    """

    images: Store | None
    backbone: Store | None


def choose_stores(
    home: Home,
    dataset: str | None,
    store: str | None,
    backbone: str | None,
    options: DatasetOptions,
    quiet: bool,
) -> TuneStores:
    """What DATASET and --store mean, and what the newest store fills in; says which were taken.

    Raises what `probe.store.find_store` does.
    """
    from probe.extract import has_images, has_network

    if dataset is None:
        both = find_store(home, store, has_network if backbone is None else has_images)
        say_store(both.name, store, quiet)
        return TuneStores(both, None if backbone is not None else both)
    images = None
    if _means_a_store(home, dataset, options):
        images = find_store(home, dataset, has_network if backbone is None and store is None else has_images)
        say_store(images.name, dataset, quiet)
    if backbone is not None:
        return TuneStores(images, None)
    if store is not None:
        base = find_store(home, store, has_network)
        say_store(base.name, store, quiet)
    elif images is not None:
        base = images
    elif (of_dataset := newest_of(home, dataset, has_network)) is not None:
        base = of_dataset
        note(f"store {base.name} (the newest of {dataset})", quiet)
    else:
        base = find_store(home, None, has_network)
        say_store(base.name, None, quiet)
    return TuneStores(images, base)


def _means_a_store(home: Home, name: str, options: DatasetOptions) -> bool:
    """A data set that can be opened is one; whatever else fits a store is that store."""
    if is_store_name(home, name):
        return True
    if name in DATASETS:
        opens = options.source is not None or not is_missing(DATASETS[name], home)
    else:
        opens = ":" in name or "{" in name or Path(name).expanduser().exists()
    return not opens and fits_a_store(home, name)
