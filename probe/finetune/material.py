"""What a fine-tuning reads: rows of the prefix cache, or pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import preprocess
from probe.config import Home
from probe.datasets.dataset import SPLITS, TRAIN, UNLABELLED, VAL
from probe.finetune.plan import Prepared, TuneJob
from probe.finetune.prefix import ViewedInputs, cached_parts, extract_prefix, views_of
from probe.store import Store
from probe.train.inputs import ArrayInputs, Inputs, Part
from probe.train.pixels import open_pictures


@dataclass(frozen=True)
class Material:
    """What the loop reads, and the parts in order for scoring.

    `parts` are in memory, mapped or decoded on demand; `prepare` turns their batches into network inputs.
    """

    inputs: Inputs
    parts: Mapping[str, Part]
    ids: Mapping[str, NDArray[np.str_]]
    prepare: Any
    groups: Mapping[str, NDArray[np.str_] | None]
    store: Store | None = None
    seconds: float = 0.0


def _usable(job: TuneJob) -> NDArray[np.bool_]:
    return (job.dataset.labels != UNLABELLED) & np.isin(job.dataset.splits, SPLITS)


def labelled(job: TuneJob) -> TuneJob:
    """The job on those rows that have a label and a split."""
    return replace(job, dataset=job.dataset.take(np.flatnonzero(_usable(job))))


def count_parts(job: TuneJob) -> dict[str, int]:
    """Split -> labelled images, readable or not."""
    usable = _usable(job)
    return {split: int((usable & (job.dataset.splits == split)).sum()) for split in SPLITS}


def open_material(job: TuneJob, ready: Prepared, home: Home, progress: bool) -> Material:
    """The prefix cache, extracted if need be, or the pictures, as the plan says."""
    if ready.cache.used:
        return _cached(job, ready, home, progress)
    return _plain(job)


def _cached(job: TuneJob, ready: Prepared, home: Home, progress: bool) -> Material:
    settings = job.settings
    views = views_of(settings.augment, settings.views, settings.seed)
    store, seconds = extract_prefix(
        job.dataset, job.backbone, ready.cut, home, exif=job.exif, views=views, progress=progress
    )
    parts = cached_parts(store)
    inputs: Inputs
    if views is not None:
        inputs = ViewedInputs(store, batch_size=settings.batch_size, seed=settings.seed)
    else:
        inputs = _array_inputs(job, parts, None)
    rows = {split: store.rows(split) for split in SPLITS}
    ids = {split: store.index.ids[mine] for split, mine in rows.items()}
    named = store.index.groups
    groups = {split: None if named is None else named[mine] for split, mine in rows.items()}
    return Material(inputs, parts, ids, None, groups, store, seconds)


def _plain(job: TuneJob) -> Material:
    convention = preprocess.convention(job.backbone.preprocess)

    def prepare_pixels(pixels: Any) -> Any:
        from probe.tensorflow_setup import tf

        return convention.apply(tf.cast(pixels, tf.float32))

    parts, ids, groups = {}, {}, {}
    named = job.dataset.groups
    for split in SPLITS:
        rows = np.flatnonzero(job.dataset.splits == split)
        readable, pictures = open_pictures(job.dataset, rows, job.backbone.size, exif=job.exif)
        parts[split] = Part(pictures, job.dataset.labels[readable])
        ids[split] = job.dataset.ids[readable]
        groups[split] = None if named is None else named[readable]
    return Material(_array_inputs(job, parts, prepare_pixels), parts, ids, prepare_pixels, groups)


def _array_inputs(job: TuneJob, parts: Mapping[str, Part], prepare_batch: Any) -> Inputs:
    return ArrayInputs(
        parts[TRAIN],
        parts[VAL] if len(parts[VAL]) else None,
        batch_size=job.settings.batch_size,
        seed=job.settings.seed,
        prepare=prepare_batch,
        augment=job.settings.augment if prepare_batch is not None else None,
    )
