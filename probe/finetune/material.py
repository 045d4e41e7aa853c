"""What a fine-tuning reads: rows of the prefix cache, or pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import preprocess
from probe.config import Home
from probe.datasets.dataset import SPLITS, TRAIN, VAL
from probe.extract import ExtractResult
from probe.finetune.plan import Prepared, TuneJob
from probe.finetune.prefix import extract_prefix
from probe.store import Store
from probe.train.inputs import ArrayInputs, Inputs, Part
from probe.train.pixels import open_pictures


@dataclass(frozen=True)
class Material:
    """What the loop reads, and the parts in order for scoring.

    `parts` are in memory, mapped or decoded on demand; `prepare` turns their batches into network inputs.
    `extraction` is that of the prefix cache.
    """

    inputs: Inputs
    parts: Mapping[str, Part]
    ids: Mapping[str, NDArray[np.str_]]
    prepare: Any
    groups: Mapping[str, NDArray[np.str_] | None]
    store: Store | None = None
    extraction: ExtractResult | None = None


def open_material(ready: Prepared, home: Home, *, devices: int = 1, progress: bool = False) -> Material:
    """The prefix cache, extracted if need be, or the pictures, as the plan says.

    No batch has fewer rows than there are `devices` that divide it.
    """
    job = ready.job.on_labelled_rows()
    least = max(1, devices)
    return _cached(job, ready, home, least, progress) if ready.plan.prefix_cache else _plain(job, least)


def _cached(job: TuneJob, ready: Prepared, home: Home, least: int, progress: bool) -> Material:
    views = job.settings.stored_views
    store, extraction = extract_prefix(job.images, ready.cut, home, views=views, progress=progress)
    parts = cached_parts(store)
    inputs = _inputs(job, parts, least) if views is None else ViewedInputs(job, store, least)
    rows = {split: store.rows(split) for split in SPLITS}
    ids = {split: store.index.ids[mine] for split, mine in rows.items()}
    named = store.index.groups
    groups = {split: None if named is None else named[mine] for split, mine in rows.items()}
    return Material(inputs, parts, ids, None, groups, store, extraction)


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

    def __init__(self, job: TuneJob, store: Store, least: int) -> None:
        self.least = least
        numbers = range(1, store.view_count + 1)
        self._views = [_inputs(job, cached_parts(store, view), least) for view in numbers]

    @property
    def steps(self) -> int:
        return self._views[0].steps

    def training(self, epoch: int) -> Any:
        return self._views[epoch % len(self._views)].training(epoch)

    def validation(self) -> Any | None:
        return self._views[0].validation()


def _plain(job: TuneJob, least: int) -> Material:
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
    return Material(_inputs(job, parts, least, prepare_pixels), parts, ids, prepare_pixels, groups)


def _inputs(job: TuneJob, parts: Mapping[str, Part], least: int, prepare_batch: Any = None) -> Inputs:
    return ArrayInputs(
        parts[TRAIN],
        parts[VAL] if len(parts[VAL]) else None,
        batch_size=job.settings.batch_size,
        seed=job.settings.seed,
        prepare=prepare_batch,
        augment=job.settings.augment if prepare_batch is not None else None,
        least=least,
    )
