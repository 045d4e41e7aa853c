"""What came of a fine-tuning: predictions, the comparison with the frozen probe, the record of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from probe.datasets.dataset import TEST, VAL
from probe.extract import ExtractJob
from probe.runs import FINE_TUNED, NETWORK_FILES, Predictions, Run, pair_predictions, scores
from probe.stats.paired import Comparison, compare_predictions
from probe.train.assembly import Assembly
from probe.train.data import batches
from probe.train.headstart import HeadStart
from probe.train.loop import LoopResult, probabilities
from probe.train.material import Material
from probe.train.plan import Prepared, TuneJob
from probe.versions import versions

KIND = FINE_TUNED
NETWORK = NETWORK_FILES[KIND]


def predict(network: Assembly, material: Material, name: str, job: TuneJob) -> Predictions:
    """Probabilities of one part, (n, C); empty when the part is."""
    part = material.parts[name]
    if len(part):
        found = probabilities(network.model, batches(part, job.settings.batch_size, material.prepare))
    else:
        found = np.empty((0, len(job.dataset.classes)), np.float32)
    return Predictions(material.ids[name], part.labels.astype(np.int32), found)


def judge(test: Predictions, start: HeadStart | None, probe: Run | None, ready: Prepared) -> dict[str, Any]:
    """``comparison`` with the frozen probe on the same test images, None without one, and ``notes``."""
    frozen = _frozen_predictions(start, probe)
    comparison = _compare(test, frozen, probe)
    return {
        "comparison": comparison.to_json() if comparison else None,
        "notes": _notes(comparison, frozen, probe, ready),
    }


def _frozen_predictions(start: HeadStart | None, probe: Run | None) -> Predictions | None:
    if probe is not None:
        return probe.predictions
    return start.test if start is not None else None


def _compare(tuned: Predictions, frozen: Predictions | None, probe: Run | None) -> Comparison | None:
    if frozen is None or not len(tuned.ids):
        return None
    name = f"the frozen probe ({probe.name})" if probe is not None else "the frozen probe"
    left, right = pair_predictions(tuned, frozen, "fine-tuning", name)
    return compare_predictions(
        left.correct, right.correct, groups=left.groups, name_a="fine-tuning", name_b=name
    )


def _notes(
    comparison: Comparison | None, frozen: Predictions | None, probe: Run | None, ready: Prepared
) -> list[str]:
    notes = [f"{'prefix cache' if ready.cache.used else 'no prefix cache'}: {ready.cache.reason}"]
    if comparison is not None:
        notes.append(comparison.verdict)
        if probe is not None and probe.result.get("refit"):
            notes.append("the frozen probe was fitted on train and validation, fine-tuning on train alone")
    elif frozen is None:
        notes.append("no frozen probe to compare with: probe extract, then probe fit logreg")
    return notes


def describe(
    job: TuneJob,
    ready: Prepared,
    material: Material,
    result: LoopResult,
    head_result: LoopResult | None,
    predictions: Mapping[str, Predictions],
    start: HeadStart | None,
) -> dict[str, Any]:
    """The ``result.json`` of the run, but for what `judge` says and the seconds."""
    data, settings = job.dataset, job.settings
    backbone = replace(job.backbone, outputs=job.backbone.outputs[:1], precision=settings.precision)
    return {
        "kind": KIND,
        "head": ready.plan.head,
        "chosen": {"epoch": result.kept_epoch},
        "options": json.loads(json.dumps(asdict(settings))),
        "plan": ready.plan.to_json(),
        "network": {
            "file": NETWORK,
            "preprocess": job.backbone.preprocess,
            "size": job.backbone.size,
            "features": ready.plan.trunk,
        },
        "head_start": start.source if start is not None else None,
        "head_history": dict(head_result.history) if head_result is not None else None,
        "history": dict(result.history),
        "stopped": result.stopped,
        "training_seconds": round(result.seconds + (head_result.seconds if head_result else 0), 3),
        "extraction_seconds": material.seconds,
        "test": scores(predictions[TEST]),
        "val": scores(predictions[VAL]),
        "parts": {name: len(part) for name, part in material.parts.items()},
        "store": material.store.name if material.store is not None else None,
        "store_key": material.store.key if material.store is not None else None,
        "index": ExtractJob(data, job.backbone, exif=job.exif).index().hash,
        "dataset": data.name,
        "dataset_facts": dict(data.facts),
        "backbone": backbone.key_part(),
        "pixels": ExtractJob(data, job.backbone, exif=job.exif).spec().pixels,
        "weights_path": job.backbone.weights_path,
        "classes": list(data.classes),
        "versions": versions(),
    }
