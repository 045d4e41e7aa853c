"""The head before the trunk moves: a linear probe on stored embeddings, and what there is to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import BackboneSpec
from probe.config import Home
from probe.datasets.dataset import SPLITS, TEST, TRAIN, UNLABELLED, VAL, Dataset
from probe.extract import ExtractJob, extract
from probe.heads import HEADS
from probe.heads.head import Samples
from probe.heads.linear import LinearHead
from probe.heads.logreg import LogregOptions
from probe.heads.saving import load_head
from probe.runs import Predictions, Run, list_runs
from probe.store import Store, images_digest, list_stores, open_store, store_path

LOGREG = "logreg"
FEW_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""What is tried when no run says which C: the head only has to start well, training goes on from it."""


@dataclass(frozen=True)
class HeadStart:
    """A linear classifier on pooled features, fitted on the training part alone.

    Attributes
    ----------
    weights, bias : (D, C) and (C,) float32 on features as they come, the standardisation folded in.
    source : where it comes from, for people.
    test : its own predictions of the test part.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    source: str
    test: Predictions


def same_images(run_or_store_backbone: Mapping[str, Any], backbone: BackboneSpec) -> bool:
    """Whether a recorded backbone computes what `backbone` does, whatever its outputs and precision."""
    mine = backbone.key_part()
    return all(run_or_store_backbone.get(name) == mine[name] for name in _IDENTITY)


_IDENTITY = ("name", "weights", "size", "preprocess")


def find_probe(home: Home, backbone: BackboneSpec, index_hash: str) -> Run | None:
    """The newest `probe fit` run of this backbone on these rows, labels and splits; logreg goes first."""
    runs, _ = list_runs(home)
    fitting = [
        run
        for run in runs
        if run.result.get("kind") == "fit"
        and run.result.get("index") == index_hash
        and run.result.get("test") is not None
        and same_images(run.result.get("backbone") or {}, backbone)
    ]
    return next((run for run in fitting if run.result.get("head") == LOGREG), fitting[0] if fitting else None)


def embeddings(
    dataset: Dataset, backbone: BackboneSpec, home: Home, *, exif: bool, progress: bool = False
) -> Store:
    """A store with the pooled features ``backbone.outputs[0]`` of the data set, extracted if need be."""
    images = images_digest(dataset.ids, dataset.hashes)
    for store in list_stores(home)[0]:
        spec = store.manifest.spec
        if (
            same_images(spec["backbone"], backbone)
            and spec["images"] == images
            and spec["pixels"]["exif"] == exif
            and backbone.outputs[0] in store.outputs
        ):
            return store
    job = ExtractJob(dataset, backbone, exif=exif)
    extract(job, home, progress=progress)
    return open_store(store_path(home, dataset.name, backbone.name, job.spec().key))


def fit_start(store: Store, output: str, dataset: Dataset, probe: Run | None) -> HeadStart:
    """The linear classifier to start from.

    A run that was fitted again on train + validation has seen the validation part, by which the best epoch
    will be chosen: its C is taken and the fit repeated on the training part, which costs seconds.
    """
    parts = _parts(store, output, dataset)
    usable = (
        probe is not None and probe.result.get("head") == LOGREG and probe.result.get("output") == [output]
    )
    if usable and probe is not None and not probe.result["refit"]:
        head, source = load_head(probe.path), f"the head of {probe.name}"
    else:
        chosen = (float(probe.result["chosen"]["c"]),) if usable and probe is not None else FEW_C
        val = parts[VAL][1] if len(parts[VAL][1]) else None
        options = LogregOptions(c=chosen if val is not None else chosen[len(chosen) // 2 :][:1])
        outcome = HEADS[LOGREG].fit(parts[TRAIN][1], val, len(dataset.classes), options, refit=False)
        head = outcome.head
        source = (
            f"C of {probe.name}, fitted on the training part"
            if usable and probe is not None
            else f"logreg on {store.name}"
        )
    assert isinstance(head, LinearHead)
    ids, test = parts[TEST]
    return HeadStart(*fold(head), source, Predictions(ids, test.labels, head.predict_proba(test.features)))


def fold(head: LinearHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(weights, bias) with which x W + b is ((x − mean) / scale) W' + b'; in float64, as the sums cancel."""
    weights = head.weights.astype(np.float64) / head.scale.astype(np.float64)[:, None]
    bias = head.bias.astype(np.float64) - head.mean.astype(np.float64) @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _parts(store: Store, output: str, dataset: Dataset) -> dict[str, tuple[NDArray[np.str_], Any]]:
    """Split -> (ids, samples), with the labels and splits of `dataset`, whose rows are the store's."""
    features, readable = store.features(output), store.rows()
    parts = {}
    for split in SPLITS:
        mine = (dataset.splits[readable] == split) & (dataset.labels[readable] != UNLABELLED)
        rows = readable[mine]
        values = features.read(rows).reshape(len(rows), -1)
        parts[split] = (dataset.ids[rows], Samples(values, dataset.labels[rows].astype(np.int32)))
    return parts
