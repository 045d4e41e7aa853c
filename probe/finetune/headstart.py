"""The head before the trunk moves: a linear probe on stored embeddings, and what there is to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import BackboneSpec
from probe.config import Home
from probe.datasets.dataset import SPLITS, TEST, TRAIN, UNLABELLED, VAL, Dataset
from probe.extract import ExtractJob, extract
from probe.finetune.plan import Prepared
from probe.heads import HEADS
from probe.heads.class_rows import count_class_rows, expect_training_rows
from probe.heads.head import Samples
from probe.heads.linear import LinearHead
from probe.heads.logreg import LogregOptions
from probe.progress import Progress
from probe.runs import Predictions, Record, Run, list_runs
from probe.runs.record import FitFacts
from probe.store import Store, list_stores, open_store

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
    precision : of the features that it was fitted on.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    source: str
    test: Predictions
    precision: str = "fp32"


def same_images(run_or_store_backbone: Mapping[str, Any], backbone: BackboneSpec) -> bool:
    """Whether a recorded backbone computes what `backbone` does, whatever its outputs and precision."""
    return all(run_or_store_backbone.get(name) == getattr(backbone, name) for name in _IDENTITY)


_IDENTITY = ("name", "weights", "size", "preprocess")


def find_probes(home: Home, job: ExtractJob) -> list[Run]:
    """The frozen probes of a data set on a backbone: those of its precision first, then the newest first.

    A frozen probe is the plain logistic regression of `probe fit` on the pooled output that ``job.backbone``
    names first, alone and without views, on the same rows, labels, splits and pixels. Other heads, weighted
    classes, other outputs and averaged views are something else, however they score.
    """
    runs, _ = list_runs(home)
    index, pixels = job.index().hash, job.spec().pixels
    found = [run for run in runs if _is_probe(run.record, job.backbone, index, pixels)]
    return sorted(found, key=lambda run: _precision(run) != job.backbone.precision)


def _precision(run: Run) -> object:
    return (run.record.backbone or {}).get("precision")


def _is_probe(record: Record, backbone: BackboneSpec, index: str, pixels: Mapping[str, Any]) -> bool:
    facts = record.facts
    return (
        isinstance(facts, FitFacts)
        and record.head == LOGREG
        and isinstance((record.chosen or {}).get("c"), int | float)
        and record.test is not None
        and record.index == index
        and record.pixels == pixels
        and same_images(record.backbone or {}, backbone)
        and facts.output == (backbone.outputs[0],)
        and not facts.views
        and not facts.average_views
        and not facts.dropped_classes
        and facts.options.get("class_weight") is None
    )


def find_start(
    ready: Prepared, home: Home, probes: Sequence[Run], *, progress: bool = False
) -> HeadStart | None:
    """Where the default head starts; None for other heads, and where heads are to start untrained."""
    job = ready.job
    if not ready.head.pooled or not job.settings.head_epochs:
        return None
    store = embeddings(job.images, home, progress=progress)
    with Progress("head start", shown=progress):
        return fit_start(store, job.backbone.outputs[0], job.dataset, probes[0] if probes else None)


def embeddings(job: ExtractJob, home: Home, *, progress: bool = False) -> Store:
    """A store with the pooled features that the job's backbone names first, extracted if need be.

    One of another precision serves where there is none of this one.
    """
    backbone, wanted = job.backbone, job.spec()
    stores = sorted(
        list_stores(home)[0],
        key=lambda store: store.manifest.spec["backbone"].get("precision") != backbone.precision,
    )
    for store in stores:
        spec = store.manifest.spec
        if (
            same_images(spec["backbone"], backbone)
            and spec["images"] == wanted.images
            and spec["pixels"] == wanted.pixels
            and backbone.outputs[0] in store.outputs
        ):
            return store
    return open_store(Path(extract(job, home, progress=progress).path))


def fit_start(store: Store, output: str, dataset: Dataset, probe: Run | None) -> HeadStart:
    """The linear classifier to start from: with the C of `probe`, fitted on the training part alone.

    A run that was fitted again on train + validation has seen the validation part, by which the best epoch
    will be chosen; fitting once more costs seconds.
    """
    readable = np.zeros(len(dataset), bool)
    readable[store.rows()] = True
    expect_training_rows(count_class_rows(dataset.labels, dataset.splits, readable, dataset.classes))
    parts = _parts(store, output, dataset)
    chosen = FEW_C if probe is None else (float((probe.record.chosen or {})["c"]),)
    val = parts[VAL][1] if len(parts[VAL][1]) else None
    options = LogregOptions(c=chosen if val is not None else chosen[len(chosen) // 2 :][:1])
    outcome = HEADS[LOGREG].fit(parts[TRAIN][1], val, len(dataset.classes), options, refit=False)
    head = outcome.head
    assert isinstance(head, LinearHead)
    c = f"C = {outcome.chosen['c']:.3g}"
    source = f"{c}, chosen on {store.name}" if probe is None else f"C of {probe.name}"
    ids, test, groups = parts[TEST]
    predictions = Predictions(ids, test.labels, head.predict_proba(test.features), groups)
    precision = store.manifest.spec["backbone"]["precision"]
    return HeadStart(*fold(head), f"{source}, fitted on the training part", predictions, precision)


def fold(head: LinearHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(weights, bias) with which x W + b is ((x − mean) / scale) W' + b'; in float64, as the sums cancel."""
    weights = head.weights.astype(np.float64) / head.scale.astype(np.float64)[:, None]
    bias = head.bias.astype(np.float64) - head.mean.astype(np.float64) @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _parts(store: Store, output: str, dataset: Dataset) -> dict[str, tuple[NDArray[np.str_], Any, Any]]:
    """Split -> (ids, samples, groups), labelled and split as `dataset`, whose rows are the store's."""
    features, readable = store.features(output), store.rows()
    parts = {}
    for split in SPLITS:
        mine = (dataset.splits[readable] == split) & (dataset.labels[readable] != UNLABELLED)
        rows = readable[mine]
        values = features.flat(rows)
        groups = None if dataset.groups is None else dataset.groups[rows]
        parts[split] = (dataset.ids[rows], Samples(values, dataset.labels[rows].astype(np.int32)), groups)
    return parts
