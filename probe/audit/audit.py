"""A store looked through for what is wrong with its data, and for what that does to the number."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from probe import __version__
from probe.audit.effects import Task, choose_c, find_effects, make_task
from probe.audit.features import chosen
from probe.audit.labels import FOLDS, HeldOut, hold_out, suspect_labels, told_apart
from probe.audit.material import AuditJob, Material, gather
from probe.audit.record import (
    EXACT,
    LABELS,
    NEAR,
    OUTLIERS,
    SEVERAL,
    Accuracy,
    Audit,
    Copies,
    Effect,
    Outlier,
    Pair,
    Unread,
    WrongLabel,
    keep,
    kept_of,
)
from probe.audit.similar import find_similar
from probe.config import Home
from probe.datasets.dataset import TEST, UNLABELLED, count_parts
from probe.progress import Progress, counting
from probe.store import Store
from probe.text import count_of

Rows = NDArray[np.intp]

MOST_CLASSES = 4000
"""Beyond, a table of all pairs takes more memory than what it says is worth."""

DEFAULT_C = 1e-3
"""Where there is no train part to choose by; what is chosen on embeddings is mostly near it."""


def audit(job: AuditJob, home: Home) -> Audit:
    """Look a store through and keep the record beside it.

    What cannot be looked at (labels where there are none, the number without a test part) is a note.
    StoreError for a damaged store, FitError for one without a picture, NotKeptError, which has the audit,
    where it cannot be written.
    """
    began = time.perf_counter()
    material = gather(job, home)
    similar = find_similar(material)
    units = similar.units(material)
    task = make_task(material, units)
    with Progress("judge labels", unit="steps", shown=job.progress) as bar, counting(bar):
        c = choose_c(task)
        held, judged = _hold_out(material, units, c)
        labels = _wrong_labels(material, held, judged)
        pairs, confused = _pairs(material, held, judged)
        sets = similar.several(material.index.labels)
        exact = [material.copies(rows, 0.0) for rows in similar.exact]
        near = [
            material.copies(rows, share) for rows, share in zip(similar.near, similar.closeness, strict=True)
        ]
        several = [material.copies(rows, 0.0) for rows in sets]
        unread = _unread(job.store)
        marked = {
            EXACT: _surplus(material, exact),
            NEAR: _surplus(material, near),
            SEVERAL: _joined(sets),
            LABELS: np.array(list(labels), np.intp),
            OUTLIERS: np.array(similar.far, np.intp),
        }
        whole, effects = _effects(task, c, marked, confused, unread)
    store, index = job.store, material.index
    found = Audit(
        store=store.name,
        key=store.key,
        index=store.index_hash,
        output=job.output or store.outputs[0],
        dataset=store.manifest.facts.get("dataset"),
        parts=count_parts(index.splits),
        classes=tuple(index.classes.tolist()),
        seed=job.seed,
        folds=FOLDS if held is not None else 0,
        c=c,
        whole=whole,
        rule=similar.rule,
        exact=tuple(exact),
        near=tuple(near),
        several=tuple(several),
        labels=tuple(labels.values()),
        outliers=tuple(
            Outlier(material.picture(row), times)
            for row, times in zip(similar.far, similar.times, strict=True)
        ),
        pairs=tuple(pairs),
        unreadable=tuple(unread),
        effects=tuple(effects),
        notes=tuple(material.notes),
        seconds=round(time.perf_counter() - began, 1),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    keep(found, store)
    return found


def _hold_out(material: Material, units: Rows, c: float | None) -> tuple[HeldOut | None, Rows]:
    """What folds of all labelled rows say of each, and these rows; None where there is nothing to fold."""
    labels = material.index.labels
    rows = np.flatnonzero(labels != UNLABELLED)
    present, numbers = np.unique(labels[rows], return_inverse=True)
    if len(present) < 2 or len(np.unique(units[rows])) < FOLDS:
        few = "no label" if not len(present) else "one class" if len(present) == 1 else "too few pictures"
        material.notes.append(f"labels and classes are not judged: there is {few}")
        return None, rows
    held = hold_out(
        chosen(material.features, rows),
        numbers,
        len(present),
        units[rows],
        DEFAULT_C if c is None else c,
        material.job.seed,
    )
    alone = [str(material.index.classes[present[number]]) for number in np.flatnonzero(~held.judged).tolist()]
    if alone:
        named = ", ".join(alone[:6]) + (", …" if len(alone) > 6 else "")
        material.notes.append(f"not judged, as all their pictures lie in one fold: {named}")
    return held, rows


def _wrong_labels(material: Material, held: HeldOut | None, rows: Rows) -> dict[int, WrongLabel]:
    """Row -> what is likely wrong with its label, the likeliest first."""
    if held is None:
        return {}
    present = np.unique(material.index.labels[rows])
    found = {}
    for place in suspect_labels(held.probabilities, held.labels, held.judged).tolist():
        said, row = held.probabilities[place], int(rows[place])
        instead = int(said.argmax())
        found[row] = WrongLabel(
            material.picture(row),
            float(said[held.labels[place]]),
            str(material.index.classes[present[instead]]),
            float(said[instead]),
        )
    return found


def _pairs(material: Material, held: HeldOut | None, rows: Rows) -> tuple[list[Pair], list[tuple[int, int]]]:
    """The pairs of classes that are told apart least, and the label numbers of those that are not."""
    if held is None:
        return [], []
    index = material.index
    present = np.unique(index.labels[rows]).tolist()
    if len(present) > MOST_CLASSES:
        material.notes.append(f"pairs of classes are not looked at: {len(present):,} are too many")
        return [], []
    told = told_apart(held, None if index.groups is None else index.groups[rows])
    names = [str(name) for name in index.classes.tolist()]
    pairs = [
        Pair(
            names[present[found.first]],
            names[present[found.second]],
            found.share,
            found.low,
            found.high,
            found.apart,
        )
        for found in told
    ]
    return pairs, [(present[found.first], present[found.second]) for found in told if not found.apart]


def _surplus(material: Material, sets: list[Copies]) -> Rows:
    """The rows of copies that are one too many."""
    place = {name: row for row, name in enumerate(material.index.ids.tolist())}
    return np.array(
        [place[picture.id] for copies in sets for picture in copies.pictures if picture != kept_of(copies)],
        np.intp,
    )


def _joined(sets: list[Rows]) -> Rows:
    return np.concatenate([np.empty(0, np.intp), *sets])


def _unread(store: Store) -> list[Unread]:
    return [Unread(name, reason) for name, (_, reason) in store.unreadable.items()]


def _effects(
    task: Task,
    c: float | None,
    marked: dict[str, Rows],
    confused: list[tuple[int, int]],
    unread: list[Unread],
) -> tuple[Accuracy | None, list[Effect]]:
    """See `find_effects`; a note where there is no number."""
    index, notes = task.material.job.store.index, task.material.notes
    if c is None:
        notes.append("no accuracy: there is no train part with two classes to fit on")
    elif not len(task.test):
        notes.append("no accuracy: there is no labelled test part")
    unknown = int(((task.labels != UNLABELLED) & (task.material.index.splits == TEST)).sum()) - len(task.test)
    if unknown and c is not None:
        notes.append(f"left out: {count_of(unknown, 'test picture')} of classes without one in train")
    in_test = int((np.isin(index.ids, [found.id for found in unread]) & (index.splits == TEST)).sum())
    if c is None:
        return None, []
    return find_effects(task, c, marked, confused, (len(unread), in_test))
