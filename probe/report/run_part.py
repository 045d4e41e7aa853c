"""What a page shows of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.curves import draw_curves
from probe.datasets.dataset import TRAIN
from probe.drawing import inline_svg
from probe.errors import RunError
from probe.report import figures
from probe.report.neighbours import nearest
from probe.report.page import Cell, Confusions, Figure, Mistake, RunPart, Shown
from probe.report.sources import Source
from probe.report.units import percent
from probe.runs import Run, course_of
from probe.runs.record import FitFacts, MistakenImage, TrainFacts, TuneFacts
from probe.stats.calibration import ReliabilityBin, reliability, scaled
from probe.stats.confusion import Confusion, confusion
from probe.text import brief

WHOLE_MATRIX, PAIRS = 40, 200
"""Classes up to which the confusion matrix is shown whole; pairs that are listed of more."""
LISTED_CLASSES = 300
MISTAKES, NEIGHBOURS = 10, 4


def run_part(key: str, run: Run, labels: Mapping[str, str], source: Source | None) -> RunPart:
    record = run.record
    analysis, problems = None, []
    try:
        analysis = run.analysis
    except RunError as error:
        problems.append(error.problem)
    ranked = sorted(
        analysis.per_class if analysis else (),
        key=lambda row: (row.recall is None, row.recall or 0.0, -row.n),
    )
    return RunPart(
        key=key,
        name=run.name,
        label=labels[run.name],
        created=record.created,
        facts=_run_facts(run),
        notes=(*record.notes, *problems),
        test=record.test,
        val=record.val,
        val_used_for=record.val_used_for,
        classes=tuple(ranked[:LISTED_CLASSES]),
        classes_left_out=max(len(ranked) - LISTED_CLASSES, 0),
        confusions=_confusions(run) if analysis else None,
        figures=tuple(run_figures(run, key)),
        mistakes=_mistakes(analysis.confident_mistakes[:MISTAKES], source) if analysis else (),
    )


def _run_facts(run: Run) -> dict[str, str]:
    record, facts = run.record, run.record.facts
    told: dict[str, object] = {
        "head": record.head,
        "chosen": ", ".join(f"{name} {brief(value)}" for name, value in (record.chosen or {}).items()),
        "backbone": record.backbone_name,
        "store": record.store,
        "images": ", ".join(f"{part} {count:,}" for part, count in record.parts.items()),
        "made": record.created and record.created[:16].replace("T", " ") + " UTC",
        "seconds": record.seconds and f"{record.seconds:,.1f} s",
    }
    if isinstance(facts, FitFacts):
        told |= {"outputs": ", ".join(facts.output), "options": _options(facts.options)}
        if facts.seeds is not None:
            spread = f"mean {percent(facts.seeds.mean)}, standard deviation {percent(facts.seeds.spread)}"
            told["seeds"] = f"{spread} over {len(facts.seeds.accuracies)} seeds"
    if isinstance(facts, TuneFacts):
        told |= {"options": _options(facts.options), "stopped": facts.stopped}
    if isinstance(facts, TrainFacts):
        epochs = facts.epochs
        told |= {
            "epochs": f"scored {epochs.scored} of {epochs.run}: {epochs.rule}",
            "network": f"{facts.params:,} weights, precision {facts.precision}, seed {facts.seed}",
        }
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _options(options: Mapping[str, Any]) -> str:
    told = {name: value for name, value in options.items() if value not in (None, [], ())}
    return ", ".join(f"{name} {brief(value)}" for name, value in told.items())


def confusion_of(run: Run) -> Confusion:
    """The confusion matrix of a run's labelled test images."""
    known = run.predictions.labelled()
    return confusion(known.predicted, known.labels, len(run.record.classes))


def _confusions(run: Run) -> Confusions:
    matrix, names = confusion_of(run), run.record.classes
    sums, right = matrix.rows(), int(matrix.hits().sum())
    rows: tuple[tuple[Cell, ...], ...] = ()
    if len(names) <= WHOLE_MATRIX:
        rows = tuple(
            tuple(Cell(int(count), float(count / max(total, 1))) for count in row)
            for row, total in zip(np.asarray(matrix), sums, strict=True)
        )
    wrong = np.flatnonzero(matrix.labels != matrix.predicted)
    order = wrong[np.argsort(-matrix.counts[wrong], kind="stable")]
    pairs = tuple(
        (names[t], names[p], int(n), float(n / sums[t]))
        for t, p, n in zip(matrix.labels[order], matrix.predicted[order], matrix.counts[order], strict=True)
    )
    total = int(matrix.counts.sum())
    return Confusions(
        classes=tuple(names),
        rows=rows,
        row_sums=tuple(sums.tolist()),
        column_sums=tuple(matrix.called().tolist()),
        right=right,
        n=total,
        pairs=pairs[:PAIRS],
        more=sum(pair[2] for pair in pairs[PAIRS:]),
    )


def reliability_of(run: Run) -> dict[str, tuple[ReliabilityBin, ...]]:
    """Before and, where one was fitted, after the temperature: the bins of a run's test images."""
    analysis, facts = run.analysis, run.record.facts
    if analysis is None or not analysis.reliability:
        return {}
    found = {"as predicted": analysis.reliability}
    calibration = facts.calibration if isinstance(facts, FitFacts) else None
    if calibration is not None:
        known = run.predictions.labelled()
        better = scaled(known.probabilities, calibration.temperature)
        name = f"at temperature {calibration.temperature:.3g}"
        found[name] = tuple(reliability(better, known.labels, groups=known.groups))
    return found


def run_figures(run: Run, key: str) -> list[Figure]:
    """What can be drawn of one run: reliability, path of its settings, few-shot curve, training curves."""
    found: list[Figure] = []

    def add(kind: str, title: str, drawn: Any, caption: str) -> None:
        found.append(Figure(title, inline_svg(drawn, f"{key}-{kind}"), caption))

    record, facts = run.record, run.record.facts
    try:
        series, course = reliability_of(run), course_of(run)
    except RunError:
        series, course = {}, None
    if series:
        add("reliability", "Reliability", figures.draw_reliability(series), _calibration_text(run))
    tried = figures.tried_of(facts.path or (), record.chosen or {}) if isinstance(facts, FitFacts) else None
    if tried is not None:
        caption = f"{len(tried.settings)} values that were tried; the one that was kept is ringed."
        add(
            "path",
            f"Path of {tried.name if tried.name != 'c' else 'C'}",
            figures.draw_path({run.name: tried}),
            caption,
        )
    if isinstance(facts, FitFacts) and any(point.mean is not None for point in facts.curve or ()):
        caption = "Mean of the draws with its 95 % interval; every draw is a dot."
        add("few-shot", "Few-shot curve", figures.draw_few_shot({run.name: facts.curve or ()}), caption)
    if course is not None:
        add("curves", "Training", draw_curves({"this run": course}, stacked=True), "")
    return found


def _calibration_text(run: Run) -> str:
    test, facts = run.record.test, run.record.facts
    if test is None:
        return ""
    found = facts.calibration if isinstance(facts, FitFacts) else None
    if found is None:
        return f"Expected calibration error {percent(test.ece)}."
    return (
        f"Expected calibration error {percent(test.ece)} as predicted,"
        f" {percent(found.test_ece)} at temperature {found.temperature:.3g}."
    )


def _mistakes(mistakes: Sequence[MistakenImage], source: Source | None) -> tuple[Mistake, ...]:
    """The wrong images of the highest probability, with what lies nearest to them in training."""
    near = _neighbours([mistake.id for mistake in mistakes], source)
    return tuple(
        Mistake(
            Shown(mistake.id, None if source is None else source.picture(mistake.id)),
            mistake.true,
            mistake.called,
            mistake.probability,
            near.get(mistake.id, ()),
        )
        for mistake in mistakes
    )


def _neighbours(ids: Sequence[str], source: Source | None) -> dict[str, tuple[Shown, ...]]:
    if source is None or not ids:
        return {}
    index = source.store.index
    train = source.store.rows(TRAIN)
    train = train[index.labels[train] >= 0]
    wanted = np.unique(source.rows_of(ids))
    wanted = np.intersect1d(wanted[wanted >= 0], source.rows)
    if not len(train) or not len(wanted):
        return {}
    places, cosines = nearest(source.features(train), source.features(wanted), NEIGHBOURS)

    def shown(row: int, cosine: float) -> Shown:
        name = str(index.classes[index.labels[row]])
        return Shown(str(index.ids[row]), source.picture(str(index.ids[row])), (name, f"cosine {cosine:.3f}"))

    return {
        str(index.ids[row]): tuple(shown(int(train[p]), float(c)) for p, c in zip(near, cos, strict=True))
        for row, near, cos in zip(wanted.tolist(), places, cosines, strict=True)
    }
