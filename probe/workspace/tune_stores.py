"""Which stores ``probe finetune`` takes its images and its backbone from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions
from probe.datasets.place import is_missing
from probe.store import Store, find_store, fits_a_store, is_store_name, newest_of
from probe.workspace.context import Context
from probe.workspace.stores import say_store


@dataclass(frozen=True)
class TuneStores:
    """``images``: the store whose images are taken, None where DATASET is a data set to be opened.

    ``backbone``: the store whose backbone is taken, None with --backbone.
    """

    images: Store | None
    backbone: Store | None


def choose_stores(
    context: Context,
    dataset: str | None,
    store: str | None,
    backbone: str | None,
    options: DatasetOptions,
) -> TuneStores:
    """What DATASET and --store mean, and what the newest store fills in; says which were taken.

    Raises what `probe.store.find_store` does.
    """
    from probe.extract import has_images, has_network

    home = context.home
    if dataset is None:
        both = find_store(home, store, has_network if backbone is None else has_images)
        say_store(context, both.name, store)
        return TuneStores(both, None if backbone is not None else both)
    images = None
    if _means_a_store(home, dataset, options):
        images = find_store(home, dataset, has_network if backbone is None and store is None else has_images)
        say_store(context, images.name, dataset)
    if backbone is not None:
        return TuneStores(images, None)
    if store is not None:
        base = find_store(home, store, has_network)
        say_store(context, base.name, store)
    elif images is not None:
        base = images
    elif (of_dataset := newest_of(home, dataset, has_network)) is not None:
        base = of_dataset
        context.say(f"store {base.name} (the newest of {dataset})")
    else:
        base = find_store(home, None, has_network)
        say_store(context, base.name, None)
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
