"""The frozen prefix as an embedding: extracted once into an internal store, where that pays."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from probe.backbones.outputs import map_of
from probe.config import Home
from probe.errors import StoreError
from probe.extract import ExtractJob, ExtractResult, Views, extract
from probe.finetune.cut import Cut
from probe.store import HalfRangeError, Store, open_store, remove_store, verify_store

DTYPES = ("float16", "float32")
"""What a cache is stored in: the second where a value does not fit the first."""
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


def _existing(home: Home) -> Path:
    return next(path for path in (home.root.resolve(), *home.root.resolve().parents) if path.exists())


def prefix_job(images: ExtractJob, cut: Cut, views: Views | None, dtype: str) -> ExtractJob:
    """The extraction that fills the internal store: of the crossing tensors the places that are read."""
    outputs = tuple(map_of(name, cut.steps[name]) for name in cut.crossing)
    backbone = replace(images.backbone, outputs=outputs)
    return replace(images, backbone=backbone, dtype=dtype, views=views, internal=True)


def extract_prefix(
    images: ExtractJob, cut: Cut, home: Home, *, views: Views | None = None, progress: bool = False
) -> tuple[Store, ExtractResult]:
    """The internal store of the crossing tensors, extracted, resumed or reused; and what that took.

    float16, or float32 where a value does not fit. StoreError when a store found there is damaged.
    """
    job = prefix_job(images, cut, views, DTYPES[0])
    try:
        result = extract(job, home, progress=progress)
    except HalfRangeError:
        remove_store(home, job.path(home).name)
        job = replace(job, dtype=DTYPES[1])
        result = extract(job, home, progress=progress)
    store = open_store(job.path(home))
    if result.reused:
        # Rows are mapped, past zarr's checksums: what was not written just now is checked once, here.
        check = verify_store(store.path, full=True)
        if not check.ok:
            raise StoreError(
                f"the prefix cache {store.name} is damaged",
                found=check.problems[0],
                hint=f"probe stores rm {store.name}, then the same command",
            )
    return store, result
