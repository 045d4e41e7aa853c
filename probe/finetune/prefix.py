"""The frozen prefix as an embedding: extracted once into an internal store, then read in any order."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probe.backbones.backbone import BackboneSpec
from probe.config import Home
from probe.datasets.dataset import SPLITS, TRAIN, VAL, Dataset
from probe.errors import StoreError
from probe.extract import ExtractJob, HalfRangeError, Views, extract
from probe.finetune.cut import Cut
from probe.images.augment import Augment
from probe.store import Store, open_store, remove_store, store_path, verify_store
from probe.train.inputs import ArrayInputs, Part

DISK_SHARE = 0.9
"""How much of the free disk a cache may take."""


@dataclass(frozen=True)
class CacheChoice:
    """Whether the frozen part is extracted once, the bytes that takes, and why or why not."""

    used: bool
    bytes: int
    reason: str


def choose_cache(
    cut: Cut,
    shapes: Mapping[str, tuple[int, ...]],
    images: int,
    home: Home,
    *,
    wanted: bool,
    augmented: bool,
    views: int,
    memory: int | None,
) -> CacheChoice:
    """Decide between the prefix cache and ordinary training.

    Parameters
    ----------
    shapes : crossing layer -> shape of one image.
    augmented, views : whether training pictures are changed, and how many stored views of each are asked for.
    memory : most bytes the cache may have; None for what the disk allows.
    """
    values = sum(int(np.prod(shape)) for shape in shapes.values())
    size = images * values * (1 + views) * np.dtype(np.float16).itemsize
    crossing = f"{len(shapes)} tensor{'s' if len(shapes) > 1 else ''}, {values:,} values an image"
    needs = f"it would need {size / 1e9:,.2f} GB ({crossing})"
    free = int(DISK_SHARE * shutil.disk_usage(_existing(home)).free)
    if not wanted:
        return CacheChoice(False, size, "not wanted")
    if not cut.has_prefix:
        return CacheChoice(False, 0, "nothing below the cut could be computed once")
    if augmented and not views:
        return CacheChoice(
            False, size, "every epoch draws new pictures; --views K stores K of each and keeps the cache"
        )
    if memory is not None and size > memory:
        return CacheChoice(False, size, f"{needs}, --memory allows {memory / 1e9:,.2f} GB")
    if size > free:
        return CacheChoice(False, size, f"{needs}, the disk has {free / 1e9:,.2f} GB to spare")
    return CacheChoice(True, size, f"{crossing}, {size / 1e9:,.3f} GB")


def _existing(home: Home) -> Any:
    return next(path for path in (home.root.resolve(), *home.root.resolve().parents) if path.exists())


def extract_prefix(
    dataset: Dataset,
    backbone: BackboneSpec,
    cut: Cut,
    home: Home,
    *,
    exif: bool,
    views: Views | None,
    progress: bool = False,
) -> tuple[Store, float]:
    """The internal store of the crossing tensors, extracted, resumed or reused; and the seconds it took.

    float16, or float32 where a value does not fit. StoreError when a store found there is damaged.
    """
    outputs = tuple(f"{name}:map" for name in cut.crossing)
    job = ExtractJob(
        dataset, replace(backbone, outputs=outputs), exif=exif, dtype="float16", views=views, internal=True
    )
    try:
        result = extract(job, home, progress=progress)
    except HalfRangeError:
        remove_store(home, store_path(home, dataset.name, backbone.name, job.spec().key).name)
        job = replace(job, dtype="float32")
        result = extract(job, home, progress=progress)
    store = open_store(store_path(home, dataset.name, backbone.name, job.spec().key))
    if result.reused:
        # Rows are mapped, past zarr's checksums: what was not written just now is checked once, here.
        check = verify_store(store.path, full=True)
        if not check.ok:
            raise StoreError(
                f"the prefix cache {store.name} is damaged",
                found=check.problems[0],
                hint=f"probe stores rm {store.name}, then the same command",
            )
    return store, result.seconds


def cached_parts(store: Store, view: int = 0) -> dict[str, Part]:
    """Train, val and test of the crossing tensors, mapped; `view` is of the training part."""
    labels = store.index.labels
    parts = {}
    for split in SPLITS:
        rows = store.rows(split)
        shown = view if split == TRAIN else 0
        arrays = tuple(store.features(output, shown).mapped(rows) for output in store.outputs)
        parts[split] = Part(arrays if len(arrays) > 1 else arrays[0], labels[rows])
    return parts


class ViewedInputs:
    """`Inputs` over a cache with K views: epoch by epoch the training part shows its next view."""

    def __init__(self, store: Store, *, batch_size: int, seed: int) -> None:
        val = cached_parts(store)[VAL]
        parts = [cached_parts(store, view)[TRAIN] for view in range(1, store.view_count + 1)]
        self._views = [
            ArrayInputs(part, val if len(val) else None, batch_size=batch_size, seed=seed) for part in parts
        ]

    @property
    def steps(self) -> int:
        return self._views[0].steps

    def training(self, epoch: int) -> Any:
        return self._views[epoch % len(self._views)].training(epoch)

    def validation(self) -> Any | None:
        return self._views[0].validation()


def views_of(augment: Augment, count: int, seed: int) -> Views | None:
    """`count` stored views of the training part, None for none."""
    return Views(count, augment, seed) if count and augment.changes_pixels else None
