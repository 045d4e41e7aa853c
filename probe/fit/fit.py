"""A head on a store: the choice on validation, the test split scored once, the result kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.config import Home
from probe.datasets.dataset import TEST, TRAIN, VAL
from probe.fit.samples import Part, load_parts
from probe.heads import HEADS
from probe.heads.head import FitOutcome
from probe.heads.saving import save_head
from probe.runs import Predictions, Run, write_run
from probe.stats.classification import evaluate
from probe.store import Store, slug
from probe.versions import versions


@dataclass(frozen=True)
class FitJob:
    """One head on one output of one store.

    Attributes
    ----------
    output : name of a stored output; None takes the store's first.
    options : the head's options dataclass; None takes its defaults.
    refit : fit the choice again on train + validation, where the head's row says that this is sound.
    """

    store: Store
    head: str = "logreg"
    output: str | None = None
    options: Any = None
    refit: bool = True


def fit(job: FitJob, home: Home) -> Run:
    """Fit, score and keep. FitError when the data cannot be fitted on, UnknownNameError for a wrong name."""
    started = time.perf_counter()
    row = HEADS[job.head]
    parts = load_parts(job.store, job.output)
    val = parts[VAL].samples if len(parts[VAL]) else None
    classes = len(job.store.index.classes)
    outcome = row.fit(parts[TRAIN].samples, val, classes, job.options, refit=job.refit and row.refits)
    test = predict_part(outcome, parts[TEST])
    result = {
        "kind": "fit",
        "head": job.head,
        "output": job.output or job.store.outputs[0],
        "options": asdict(job.options)
        if is_dataclass(job.options) and not isinstance(job.options, type)
        else {},
        "refit": job.refit and row.refits,
        "chosen": outcome.chosen,
        "path": outcome.path,
        "test": scores(test),
        "val": _val_scores(outcome, parts[VAL]),
        "parts": {name: len(part) for name, part in parts.items()},
        "notes": list(outcome.notes),
        **provenance(job.store),
        "seconds": round(time.perf_counter() - started, 3),
    }

    def write_more(folder: Path) -> None:
        save_head(outcome.head, folder)

    label = f"{job.head}-{slug(job.store.name.rsplit('-', 1)[0])}"
    return write_run(home, label, result, test, write_more)


def predict_part(outcome: FitOutcome, part: Part) -> Predictions:
    """Probabilities of one part, (n, C); empty when the part is."""
    if len(part):
        probabilities = outcome.head.predict_proba(part.samples.features)
    else:
        probabilities = np.empty((0, outcome.head.classes), np.float32)
    return Predictions(part.ids, part.samples.labels.astype(np.int32), probabilities)


def scores(predictions: Predictions) -> dict[str, Any] | None:
    """All figures of `probe.stats`, or None when there is nothing to score."""
    if not len(predictions.ids):
        return None
    return evaluate(predictions.probabilities, predictions.labels).to_json()


def _val_scores(outcome: FitOutcome, part: Part) -> dict[str, Any] | None:
    if outcome.val_probabilities is None or not len(part):
        return None
    return scores(Predictions(part.ids, part.samples.labels.astype(np.int32), outcome.val_probabilities))


def provenance(store: Store) -> dict[str, Any]:
    """What a result rests on: the store, its key, the index in force and the versions."""
    facts: Mapping[str, Any] = store.manifest.facts
    return {
        "store": store.name,
        "store_key": store.key,
        "index": store.index_hash,
        "dataset": facts.get("dataset"),
        "dataset_facts": facts.get("dataset_facts", {}),
        "backbone": store.manifest.spec["backbone"],
        "pixels": store.manifest.spec["pixels"],
        "weights_path": facts.get("weights_path"),
        "classes": store.index.classes.tolist(),
        "unreadable": len(store.manifest.unreadable),
        "versions": versions(),
    }
