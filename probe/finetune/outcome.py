"""What came of a fine-tuning: the comparison with the frozen probe, the record of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from probe.datasets.dataset import VAL
from probe.errors import FitError
from probe.finetune.headstart import HeadStart
from probe.finetune.tuning import Trained, Tuning
from probe.images.path import POLICY
from probe.records import without_nan
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
from probe.train.loop import LoopResult

NETWORK = NETWORK_FILES[FINE_TUNED]


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


def judge(tuning: Tuning, trained: Trained, test: Predictions) -> Judgement:
    """The comparison with the frozen probe, and what a reader of the result has to know."""
    plan, result = tuning.plan, trained.whole
    frozen, passed_over = find_frozen(test, tuning.start, tuning.probes) if len(test.ids) else (None, [])
    comparison = _compare(test, frozen) if frozen is not None else None
    kept = [kept_text(result, pooled=tuning.network.head.pooled)] if result.start is not None else []
    cache = f"{'prefix cache' if plan.prefix_cache else 'no prefix cache'}: {plan.cache_reason}"
    extraction = tuning.material.extraction
    if extraction is not None and extraction.rows_copied:
        cache += f", {extraction.rows_copied:,} of {extraction.rows:,} rows copied"
    notes = (cache, *kept, *passed_over, *_notes(comparison, frozen, tuning.job.precision))
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


def kept_text(result: LoopResult, *, pooled: bool) -> str:
    """What the best epoch is, against the network before any training step; `pooled` is of the head."""
    rule, start = result.keep, result.start or {}
    if rule not in start:
        # The last epoch is kept, whatever the figures.
        rule = "val_loss"
        best = result.history[rule][result.kept_epoch - 1]
        return f"the last epoch is kept: {rule} {best:.4g}, {start[rule]:.4g} before any training"
    values = [value for value in result.history[rule] if np.isfinite(value)]
    best = (max if rule.endswith("accuracy") else min)(values, default=np.nan)
    if result.kept_epoch == 0:
        kept = "the frozen probe" if pooled else "the head on the frozen backbone"
        return (
            f"no gain: {kept} is kept, {rule} {start[rule]:.4g} before any training, {best:.4g} at best after"
        )
    return f"epoch {result.kept_epoch} is kept: {rule} {best:.4g}, {start[rule]:.4g} before any training"


def describe(tuning: Tuning, trained: Trained, test: Predictions) -> Record:
    """The result of a fine-tuning, but for its identity and the seconds."""
    job, material = tuning.job, tuning.material
    data, images, val = job.dataset, job.images, tuning.predict(VAL)
    judgement = judge(tuning, trained, test)
    weak = part_notes(test.labels, val.labels, data.classes, job.settings.keep != "last")
    return Record(
        kind=FINE_TUNED,
        head=tuning.plan.head,
        chosen={"epoch": trained.whole.kept_epoch},
        test=scores(test),
        val=scores(val),
        parts={name: len(part) for name, part in material.parts.items()},
        notes=(*judgement.notes, *weak),
        classes=tuple(data.classes),
        dataset=data.name,
        dataset_facts=dict(data.facts),
        store=material.store.name if material.store is not None else None,
        index=images.index().hash,
        backbone=replace(job.backbone, outputs=job.backbone.outputs[:1]).key_part(),
        pixels=images.pixels.key_part(),
        pixel_policy=POLICY,
        facts=_facts(tuning, trained, judgement),
    )


def _facts(tuning: Tuning, trained: Trained, judgement: Judgement) -> TuneFacts:
    backbone, material, start = tuning.job.backbone, tuning.material, tuning.start
    comparison, frozen, extraction = judgement.comparison, judgement.frozen, material.extraction
    return TuneFacts(
        network=NetworkFacts(NETWORK, backbone.preprocess, backbone.size, tuning.plan.trunk),
        history=without_nan(trained.whole.history),
        options=tuning.job.options(),
        plan=tuning.plan.to_json(),
        head_start=start.source if start is not None else None,
        head_history=without_nan(trained.head.history) if trained.head is not None else None,
        start=without_nan(trained.whole.start),
        stopped=trained.whole.stopped,
        training_seconds=round(trained.seconds, 3),
        extraction_seconds=extraction.seconds if extraction is not None else 0.0,
        rows_copied=extraction.rows_copied if extraction is not None else None,
        store_key=material.store.key if material.store is not None else None,
        weights_path=backbone.weights_path,
        comparison=comparison.to_json() if comparison else None,
        frozen_probe=FrozenProbe(frozen.run, frozen.name, frozen.precision) if frozen else None,
    )
