"""What came of a fine-tuning: predictions, the comparison with the frozen probe, the record of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probe.datasets.dataset import TEST, VAL
from probe.errors import FitError
from probe.extract import ExtractJob
from probe.finetune.assembly import Assembly
from probe.finetune.headstart import HeadStart
from probe.finetune.material import Material
from probe.finetune.plan import Prepared, TuneJob
from probe.images.path import POLICY
from probe.records import plain, without_nan
from probe.runs import (
    FINE_TUNED,
    NETWORK_FILES,
    Predictions,
    Record,
    Run,
    RunError,
    pair_predictions,
    scores,
)
from probe.runs.record import FitFacts, FrozenProbe, NetworkFacts, TuneFacts
from probe.runs.weight import part_notes
from probe.stats.paired import Comparison, compare_predictions
from probe.train.inputs import batches
from probe.train.loop import LoopResult, probabilities

NETWORK = NETWORK_FILES[FINE_TUNED]


def predict(network: Assembly, material: Material, name: str, job: TuneJob) -> Predictions:
    """Probabilities of one part, (n, C); empty when the part is."""
    part = material.parts[name]
    if len(part):
        found = probabilities(network.model, batches(part, job.settings.batch_size, material.prepare))
    else:
        found = np.empty((0, len(job.dataset.classes)), np.float32)
    return Predictions(material.ids[name], part.labels.astype(np.int32), found, material.groups[name])


@dataclass(frozen=True)
class Frozen:
    """The frozen probe that a fine-tuning is put beside.

    Attributes
    ----------
    name : which one, for people.
    run : its run; None for the logistic regression that the head started from.
    precision : of the features it stands on.
    refit : it was fitted on train and validation.
    """

    name: str
    run: str | None
    test: Predictions
    precision: str
    refit: bool


def find_frozen(
    test: Predictions, start: HeadStart | None, probes: Sequence[Run]
) -> tuple[Frozen | None, list[str]]:
    """The first of `probes` that has predicted the very images of `test`, else the head start, else None.

    Also why probes before it could not be taken, a sentence each.
    """
    notes: list[str] = []
    for probe in probes:
        problem = _cannot_be_paired(test, probe)
        if problem is None:
            facts, backbone = probe.record.facts, probe.record.backbone or {}
            refit = isinstance(facts, FitFacts) and facts.refit
            name = f"the frozen probe ({probe.name})"
            return Frozen(name, probe.name, probe.predictions, str(backbone.get("precision")), refit), notes
        notes.append(f"{probe.name} is not the frozen probe compared with: {problem}")
    if start is None:
        return None, notes
    name = "the frozen probe (the head start)"
    return Frozen(name, None, start.test, start.precision, refit=False), notes


def _cannot_be_paired(test: Predictions, probe: Run) -> str | None:
    try:
        theirs = probe.predictions
        pair_predictions(test, theirs, "fine-tuning", probe.name)
    except (RunError, FitError) as error:
        return error.problem
    if len(theirs.ids) != len(test.ids) or not np.isin(test.ids, theirs.ids).all():
        return "it predicted other test images"
    return None


@dataclass(frozen=True)
class Judgement:
    """What is said of a result beside the frozen probe.

    Attributes
    ----------
    comparison : on the same test images; None without a probe or without such images.
    """

    comparison: Comparison | None
    frozen: Frozen | None
    notes: tuple[str, ...]


def judge(
    test: Predictions,
    start: HeadStart | None,
    probes: Sequence[Run],
    ready: Prepared,
    result: LoopResult,
    precision: str,
) -> Judgement:
    """The comparison with the frozen probe, and what a reader of the result has to know."""
    frozen, passed_over = find_frozen(test, start, probes) if len(test.ids) else (None, [])
    comparison = _compare(test, frozen) if frozen is not None else None
    kept = [kept_text(result, ready)] if result.start is not None else []
    cache = f"{'prefix cache' if ready.cache.used else 'no prefix cache'}: {ready.cache.reason}"
    notes = (cache, *kept, *passed_over, *_notes(comparison, frozen, precision))
    return Judgement(comparison, frozen, notes)


def _compare(tuned: Predictions, frozen: Frozen) -> Comparison:
    left, right = pair_predictions(tuned, frozen.test, "fine-tuning", frozen.name)
    return compare_predictions(
        left.correct, right.correct, groups=left.groups, name_a="fine-tuning", name_b=frozen.name
    )


def _notes(comparison: Comparison | None, frozen: Frozen | None, precision: str) -> list[str]:
    if comparison is None or frozen is None:
        return ["no frozen probe to compare with: probe extract, then probe fit logreg"]
    notes = [comparison.verdict]
    if frozen.refit:
        notes.append("the frozen probe was fitted on train and validation, fine-tuning on train alone")
    if frozen.precision != precision:
        notes.append(f"the frozen probe stands on features in {frozen.precision}, fine-tuning on {precision}")
    return notes


def kept_text(result: LoopResult, ready: Prepared) -> str:
    """What the best epoch is, against the network before any training step."""
    rule, start = result.keep, result.start or {}
    if rule not in start:
        # The last epoch is kept, whatever the figures.
        rule = "val_loss"
        best = result.history[rule][result.kept_epoch - 1]
        return f"the last epoch is kept: {rule} {best:.4g}, {start[rule]:.4g} before any training"
    values = [value for value in result.history[rule] if np.isfinite(value)]
    best = (max if rule.endswith("accuracy") else min)(values, default=np.nan)
    if result.kept_epoch == 0:
        kept = "the frozen probe" if ready.head.pooled else "the head on the frozen backbone"
        return (
            f"no gain: {kept} is kept, {rule} {start[rule]:.4g} before any training, {best:.4g} at best after"
        )
    return f"epoch {result.kept_epoch} is kept: {rule} {best:.4g}, {start[rule]:.4g} before any training"


def describe(
    job: TuneJob,
    ready: Prepared,
    material: Material,
    result: LoopResult,
    head_result: LoopResult | None,
    predictions: Mapping[str, Predictions],
    start: HeadStart | None,
    judgement: Judgement,
) -> Record:
    """The result of a fine-tuning, but for its identity and the seconds."""
    data, settings = job.dataset, job.settings
    backbone = replace(job.backbone, outputs=job.backbone.outputs[:1], precision=settings.precision)
    images = ExtractJob(data, job.backbone, exif=job.exif)
    labels = {name: found.labels for name, found in predictions.items()}
    weak = part_notes(labels[TEST], labels[VAL], data.classes, settings.keep != "last")
    return Record(
        kind=FINE_TUNED,
        head=ready.plan.head,
        chosen={"epoch": result.kept_epoch},
        test=scores(predictions[TEST]),
        val=scores(predictions[VAL]),
        parts={name: len(part) for name, part in material.parts.items()},
        notes=(*judgement.notes, *weak),
        classes=tuple(data.classes),
        dataset=data.name,
        dataset_facts=dict(data.facts),
        store=material.store.name if material.store is not None else None,
        index=images.index().hash,
        backbone=backbone.key_part(),
        pixels=images.pixels.key_part(),
        pixel_policy=POLICY,
        facts=_facts(job, ready, material, result, head_result, start, judgement),
    )


def _facts(
    job: TuneJob,
    ready: Prepared,
    material: Material,
    result: LoopResult,
    head_result: LoopResult | None,
    start: HeadStart | None,
    judgement: Judgement,
) -> TuneFacts:
    comparison, frozen = judgement.comparison, judgement.frozen
    return TuneFacts(
        network=NetworkFacts(NETWORK, job.backbone.preprocess, job.backbone.size, ready.plan.trunk),
        history=without_nan(result.history),
        options=plain(job.settings),
        plan=ready.plan.to_json(),
        head_start=start.source if start is not None else None,
        head_history=without_nan(head_result.history) if head_result is not None else None,
        start=without_nan(result.start),
        stopped=result.stopped,
        training_seconds=round(result.seconds + (head_result.seconds if head_result else 0), 3),
        extraction_seconds=material.seconds,
        store_key=material.store.key if material.store is not None else None,
        weights_path=job.backbone.weights_path,
        comparison=comparison.to_json() if comparison else None,
        frozen_probe=FrozenProbe(frozen.run, frozen.name, frozen.precision) if frozen else None,
    )
