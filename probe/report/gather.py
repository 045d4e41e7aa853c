"""From runs and stores to what a page shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from probe.audit import read as read_audit
from probe.config import Home
from probe.curves import draw_curves
from probe.drawing import inline_svg
from probe.errors import FitError, RunError, StoreError
from probe.report import figures
from probe.report.again import extract_line, run_line
from probe.report.audit_part import audit_part
from probe.report.overlay import labels_of
from probe.report.page import AuditPart, Difference, Figure, MapPart, Page, Shown, SideBySide
from probe.report.run_part import run_part
from probe.report.sources import Source, source_of_run, source_of_store
from probe.report.store_part import card, map_part
from probe.report.units import percent
from probe.runs import Predictions, Run, compare, compare_all, compared_on, course_of, paired
from probe.runs.record import FitFacts
from probe.stats.paired import Comparison
from probe.store import Store

LISTED_IDS, SIDE_BY_SIDE = 500, 12


def gather(home: Home, runs: Sequence[Run], stores: Sequence[Store], *, map_method: str, title: str) -> Page:
    """Everything a page shows of some runs and stores.

    What is missing (a store, a data set, predictions) costs what rests on it, and is said in the notes.
    """
    notes: list[str] = []
    sources: dict[str, Source] = {store.key: source_of_store(store, home) for store in stores}
    of_run: dict[str, Source] = {}
    for run in runs:
        try:
            source = source_of_run(run, home)
        except StoreError as error:
            notes.append(f"{run.name}: no map and no pictures, since {error.problem}.")
        else:
            of_run[run.name] = sources.setdefault(source.store.key, source)
    notes += [
        f"{source.store.name}: no pictures, since {source.no_pictures}."
        for source in sources.values()
        if source.no_pictures
    ]
    labels = labels_of(runs)
    audits, not_audited = _audits(list(sources.values()), notes)
    comparisons, comparison_notes = _compared(runs, labels, notes)
    lines = [*(extract_line(s.store) for s in sources.values())]
    lines += [run_line(run, of_run[run.name].store if run.name in of_run else None) for run in runs]
    if len(runs) > 1:
        lines.append("probe compare " + " ".join(run.name for run in runs))
    return Page(
        title=title or _title(runs, stores),
        subtitle=_subtitle(runs, stores),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        runs=tuple(run_part(f"run-{n}", run, labels, of_run.get(run.name)) for n, run in enumerate(runs, 1)),
        comparisons=comparisons,
        comparison_notes=comparison_notes,
        side_by_side=_side_by_side(runs, labels, of_run) if len(runs) > 1 else None,
        overlays=_overlays(runs, labels) if len(runs) > 1 else (),
        maps=_maps([source for source in sources.values() if len(source.rows)], runs, of_run, map_method),
        cards=tuple(map(card, sources.values())),
        audits=audits,
        not_audited=not_audited,
        commands=tuple(line for line in lines if line),
        versions=dict(runs[0].record.versions) if runs else stores[0].manifest.facts.get("versions", {}),
        notes=tuple(notes),
    )


def _title(runs: Sequence[Run], stores: Sequence[Store]) -> str:
    if not runs:
        return ", ".join(dict.fromkeys(str(store.manifest.facts.get("dataset")) for store in stores))
    data = ", ".join(dict.fromkeys(str(run.record.dataset) for run in runs))
    if len(runs) > 1:
        return f"{data}: {len(runs)} runs compared"
    record = runs[0].record
    return f"{data}: {record.head}" + (f" on {record.backbone_name}" if record.backbone_name else "")


def _subtitle(runs: Sequence[Run], stores: Sequence[Store]) -> str:
    names = [*(run.name for run in runs), *(store.name for store in stores)]
    return ", ".join(names)


def _maps(
    sources: Sequence[Source], runs: Sequence[Run], of_run: Mapping[str, Source], method: str
) -> tuple[MapPart, ...]:
    """The map of every store, with what its runs called the images."""
    labels = labels_of(runs)
    return tuple(
        map_part(
            source,
            [run for run in runs if of_run.get(run.name) is source],
            labels,
            method,
            len(sources),
        )
        for source in sources
    )


def _audits(sources: Sequence[Source], notes: list[str]) -> tuple[tuple[AuditPart, ...], tuple[str, ...]]:
    """What the audits of stores have found, and the stores without one."""
    found: list[AuditPart] = []
    missing: list[str] = []
    for source in sources:
        try:
            audit = read_audit(source.store)
        except StoreError as error:
            notes.append(f"The audit of {source.store.name} is not shown: {error.problem}.")
            continue
        if audit is not None:
            found.append(audit_part(audit, source))
        elif not source.store.manifest.layout.internal:
            missing.append(source.store.name)
    return tuple(found), tuple(missing)


def _compared(
    runs: Sequence[Run], labels: Mapping[str, str], notes: list[str]
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """The comparisons of `probe compare`, by the labels of the runs; a note where they cannot be paired."""
    if len(runs) < 2:
        return (), ()
    try:
        found = [compare(*runs)] if len(runs) == 2 else [pair.comparison for pair in compare_all(runs)]
        told = tuple(compared_on(runs))
    except (FitError, RunError) as error:
        notes.append(f"The runs are not compared: {error.problem}.")
        return (), ()
    return tuple(replace(c, name_a=labels[c.name_a], name_b=labels[c.name_b]) for c in found), told


def _side_by_side(
    runs: Sequence[Run], labels: Mapping[str, str], of_run: Mapping[str, Source]
) -> SideBySide | None:
    """The first two runs, image by image."""
    first, second = runs[:2]
    try:
        a, b = paired([first, second])
    except (FitError, RunError):
        return None
    source = of_run.get(first.name) or of_run.get(second.name)
    names = first.record.classes
    only_a, only_b = np.flatnonzero(a.correct & ~b.correct), np.flatnonzero(b.correct & ~a.correct)

    def most_certain(rows: NDArray[np.intp], wrong: Predictions) -> NDArray[np.intp]:
        return rows[np.argsort(-wrong.probabilities[rows].max(axis=1), kind="stable")]

    def told(rows: NDArray[np.intp]) -> tuple[Difference, ...]:
        return tuple(
            Difference(
                Shown(str(a.ids[row]), None if source is None else source.picture(str(a.ids[row]))),
                names[a.labels[row]],
                _called(a, row, names),
                _called(b, row, names),
            )
            for row in rows[:SIDE_BY_SIDE].tolist()
        )

    only_a, only_b = most_certain(only_a, b), most_certain(only_b, a)
    return SideBySide(
        first=labels[first.name],
        second=labels[second.name],
        n=len(a.ids),
        only_first=told(only_a),
        only_second=told(only_b),
        only_first_ids=tuple(a.ids[only_a[:LISTED_IDS]].tolist()),
        only_second_ids=tuple(a.ids[only_b[:LISTED_IDS]].tolist()),
        both_wrong=int((~a.correct & ~b.correct).sum()),
        only_first_count=len(only_a),
        only_second_count=len(only_b),
    )


def _called(predictions: Predictions, row: int, names: Sequence[str]) -> str:
    label = int(predictions.predicted[row])
    return f"{names[label]} ({percent(float(predictions.probabilities[row, label]))})"


def _overlays(runs: Sequence[Run], labels: Mapping[str, str]) -> tuple[Figure, ...]:
    """Curves of several runs over one another, where two or more have them."""
    found = []
    fits = {labels[run.name]: run.record.facts for run in runs if isinstance(run.record.facts, FitFacts)}
    curves = {name: facts.curve for name, facts in fits.items() if facts.curve}
    if len(curves) > 1:
        found.append(Figure("Few-shot curves", inline_svg(figures.draw_few_shot(curves), "all-few-shot")))
    courses = {labels[run.name]: course for run in runs if (course := course_of(run)) is not None}
    if len(courses) > 1:
        found.append(Figure("Training", inline_svg(draw_curves(courses, stacked=True), "all-curves")))
    return tuple(found)
