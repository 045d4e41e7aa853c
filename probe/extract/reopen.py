"""From a finished store back to the backbone and the images that made it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from probe import backbones
from probe.backbones.backbone import NO_WEIGHTS, BackboneSpec
from probe.config import Home
from probe.datasets import reopen
from probe.datasets.dataset import Dataset
from probe.errors import StoreError
from probe.store import IMPORTED, Store


def has_images(store: Store) -> bool:
    """Whether its data set can be opened again: that of imported embeddings is not known."""
    return bool(store.manifest.spec["backbone"]["name"] != IMPORTED)


def has_network(store: Store) -> bool:
    """Whether its backbone can be fine-tuned: pixels and imported embeddings have none."""
    return has_images(store) and store.manifest.spec["backbone"]["weights"] != NO_WEIGHTS


def backbone_of(store: Store, home: Home) -> BackboneSpec:
    """The backbone of a store, its weights found on this machine.

    StoreError for imported embeddings, whose backbone is not known; else as `probe.backbones.recorded`.
    """
    _expect_extracted(store)
    manifest = store.manifest
    return backbones.recorded(manifest.spec["backbone"], manifest.facts.get("weights_path"), home)


def dataset_of(store: Store, home: Home) -> Dataset:
    """The images of a store in its own order, with the labels, splits and groups of its current index.

    DataError when the data set cannot be opened again, StoreError when images of the store are gone or have
    changed since.
    """
    _expect_extracted(store)
    dataset = reopen(store.origins[-1] if store.origins else {}, home)
    index = store.index
    order = np.argsort(dataset.ids)
    places = np.searchsorted(dataset.ids, index.ids, sorter=order)
    rows = order[np.minimum(places, len(order) - 1)]
    same = (dataset.ids[rows] == index.ids) & (dataset.hashes[rows] == index.hashes)
    if not same.all():
        raise StoreError(
            f"{dataset.name} is not what {store.name} was extracted from",
            expected=f"the same {len(index.ids):,} images",
            found=f"{int((~same).sum()):,} gone or changed, {index.ids[~same][0]} first",
            hint="extract it again",
        )
    return replace(
        dataset.take(rows),
        labels=index.labels,
        splits=index.splits,
        classes=tuple(index.classes.tolist()),
        groups=index.groups,
    )


def _expect_extracted(store: Store) -> None:
    if store.manifest.spec["backbone"]["name"] == IMPORTED:
        raise StoreError(
            f"{store.name} holds imported embeddings: neither their backbone nor their images are known",
            expected="a store made by probe extract",
            hint="probe extract --backbone NAME DATASET, or name another store (probe stores ls)",
        )
