"""Which stores ``probe finetune`` takes its images and its backbone from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions
from probe.datasets.place import is_missing
from probe.store import Store, fits_a_store, is_store_name, newest_of
from probe.workspace.context import Context
from probe.workspace.stores import take_store


@dataclass(frozen=True)
class TuneStores:
    """``images``: the store whose images are taken, None where DATASET is a data set to be opened.

    ``backbone``: the store whose backbone is taken, None with --backbone.
    """

    images: Store | None
    backbone: Store | None


def choose_stores(
    context: Context,
    dataset: Store | str | None,
    store: Store | str | None,
    backbone: str | None,
    options: DatasetOptions,
) -> TuneStores:
    """What DATASET and --store mean, and what the newest store fills in; says which were taken.

    Raises what `probe.store.find_store` does.
    """
    from probe.extract import has_images, has_network

    if dataset is None:
        both = take_store(context, store, has_network if backbone is None else has_images)
        return TuneStores(both, None if backbone is not None else both)
    images = None
    if isinstance(dataset, Store) or _means_a_store(context.home, dataset, options):
        images = take_store(
            context, dataset, has_network if backbone is None and store is None else has_images
        )
    if backbone is not None:
        return TuneStores(images, None)
    if store is not None:
        return TuneStores(images, take_store(context, store, has_network))
    if images is not None:
        return TuneStores(images, images)
    of_dataset = newest_of(context.home, str(dataset), has_network)
    if of_dataset is None:
        return TuneStores(None, take_store(context, None, has_network))
    context.say(f"store {of_dataset.name} (the newest of {dataset})")
    return TuneStores(None, of_dataset)


def _means_a_store(home: Home, name: str, options: DatasetOptions) -> bool:
    """A data set that can be opened is one; whatever else fits a store is that store."""
    if is_store_name(home, name):
        return True
    if name in DATASETS:
        opens = options.source is not None or not is_missing(DATASETS[name], home)
    else:
        opens = ":" in name or "{" in name or Path(name).expanduser().exists()
    return not opens and fits_a_store(home, name)
