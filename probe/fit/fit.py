"""A head on a store: the choice on validation, the test split scored once, the result kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe.cluster import joblib_on
from probe.config import Home, canonical_json
from probe.datasets.dataset import TEST, TRAIN, VAL
from probe.errors import UsageError
from probe.fit.classes import choose_classes, dropped_notes
from probe.fit.curve import learning_curve, parse_sizes
from probe.fit.needs import Need
from probe.fit.rows import Choice, Part, index_bytes, load_parts
from probe.fit.weight import curve_notes, fold_notes, neighbour_notes
from probe.heads import HEADS
from probe.heads.class_rows import ClassRows
from probe.heads.head import FitOutcome, Head, averaged
from probe.heads.saving import save_head
from probe.progress import Progress, counting
from probe.registry import load_object
from probe.runs import (
    FIT,
    Predictions,
    Record,
    Run,
    Scores,
    analyse,
    calibrate,
    find_finished,
    scores,
    write_run,
)
from probe.runs.record import Calibration, CurvePoint, FitFacts, SeedSpread
from probe.runs.tables import write_history
from probe.runs.weight import part_notes
from probe.stats.intervals import mean_share_interval
from probe.store import Store, slug

IDENTITY_VERSION = 1


@dataclass(frozen=True)
class FitJob:
    """One head on one store.

    Attributes
    ----------
    choice : outputs, views and memory.
    options : the head's options dataclass; None takes its defaults.
    refit : fit the choice again on train + validation, where the head's row says that this is sound.
    average_views : average probabilities over the plain and all stored views: of the test part, and of the
        validation part wherever a choice rests on probabilities.
    shots, fractions : sizes of a learning curve, see `probe.fit.curve`; empty for none.
    repeats : draws of each size.
    jobs : fits of the curve at the same time.
    dask : address of a Dask cluster that fits the folds and the curve instead.
    progress : say on stderr how far fit and curve have come.
    drop_small_classes : leave out classes of fewer training rows; with 0 a class without any is an error.
    """

    store: Store
    head: str = "logreg"
    choice: Choice = field(default_factory=Choice)
    options: Any = None
    refit: bool = True
    average_views: bool = False
    shots: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    repeats: int = 5
    jobs: int = 1
    dask: str | None = None
    progress: bool = False
    drop_small_classes: int = 0

    def identity(self) -> str:
        """sha256 of all that decides the result: where it is computed, and how it is told, are left out."""
        options = load_object(HEADS[self.head].options)() if self.options is None else self.options
        settings = {
            "version": IDENTITY_VERSION,
            "store": self.store.key,
            "index": self.store.index_hash,
            "head": self.head,
            "options": {name: repr(value) for name, value in _plain(options).items()},
            "outputs": self.choice.outputs or self.store.outputs[:1],
            "views": self.choice.views,
            # Features on disk are read in another order than those in memory.
            "memory": self.choice.memory,
            "refit": self.refit and HEADS[self.head].refits,
            "average_views": self.average_views,
            "sizes": [self.shots, self.fractions, self.repeats] if self.shots or self.fractions else None,
            "drop_small_classes": self.drop_small_classes,
        }
        return hashlib.sha256(canonical_json(settings).encode()).hexdigest()


def finished_fit(job: FitJob, home: Home) -> Run | None:
    """The newest run of this very fit: of the same features, labels, splits, head and options."""
    return find_finished(home, job.identity())


def fit(job: FitJob, home: Home) -> Run:
    """Fit, score and keep. FitError when the data cannot be fitted on, UnknownNameError for a wrong name."""
    with joblib_on(job.dask, progress=job.progress):
        return _fit(job, home)


def _fit(job: FitJob, home: Home) -> Run:
    started = time.perf_counter()
    row, store = HEADS[job.head], job.store
    sizes = parse_sizes(job.shots, job.fractions)
    _check(job)
    kept, dropped = choose_classes(store, job.drop_small_classes)
    names = store.index.classes[kept].tolist()
    need = Need(row, job.options, curve=bool(sizes))
    parts = load_parts(store, job.choice, kept, need, averaged=job.average_views)
    val = parts[VAL].samples if len(parts[VAL]) else None
    classes = len(names)
    with Progress(f"fit {job.head}", unit=row.steps, shown=job.progress) as bar, counting(bar):
        outcome = row.fit(parts[TRAIN].samples, val, classes, job.options, refit=job.refit and row.refits)
    test = predict_part(outcome.head, parts[TEST])
    curve = None
    if sizes and len(parts[TEST]):
        three = (parts[TRAIN].samples, val, parts[TEST].samples)
        jobs = None if job.dask else job.jobs
        curve = tuple(
            learning_curve(
                row,
                job.options,
                three,
                classes,
                sizes,
                job.repeats,
                free=job.choice.memory - index_bytes(store) - _kept_bytes(parts.values(), outcome.head),
                jobs=jobs,
                progress=job.progress,
            )
        )
    notes = (
        *outcome.notes,
        *_notes(job, parts, names, bool(outcome.val_used_for)),
        *dropped_notes(dropped, job.drop_small_classes),
    )
    record = Record(
        kind=FIT,
        head=job.head,
        chosen=outcome.chosen,
        test=scores(test),
        val=_val_scores(outcome, parts[VAL]),
        parts={name: len(part) for name, part in parts.items()},
        notes=notes,
        classes=tuple(names),
        identity=job.identity(),
        analysis=analyse(test, names) if len(test.ids) else None,
        facts=_facts(job, outcome, parts, test, curve, dropped),
        seconds=round(time.perf_counter() - started, 3),
        **_provenance(store),
    )

    def write_more(folder: Path) -> None:
        save_head(outcome.head, folder)
        if outcome.history:
            write_history(outcome.history, folder)

    label = f"{job.head}-{slug(store.name.rsplit('-', 1)[0])}"
    return write_run(home, label, record, test, write_more)


def _kept_bytes(parts: Iterable[Part], head: Head) -> int:
    """What features in memory take, and a head with what it predicts by."""
    features = [each for part in parts for each in (part.samples.features, *part.samples.views)]
    there = sum(each.nbytes for each in features if isinstance(each, np.ndarray))
    return there + 2 * sum(array.nbytes for array in head.arrays().values())


def _check(job: FitJob) -> None:
    if job.choice.views and getattr(job.options, "cv", 0):
        raise UsageError(
            "--cv and --views exclude each other", hint="views of one image would lie in several folds"
        )
    if job.choice.views and (job.shots or job.fractions):
        raise UsageError("--views and a learning curve exclude each other")


def _notes(job: FitJob, parts: Mapping[str, Part], classes: list[str], chosen_on_val: bool) -> list[str]:
    """What to know before a figure of this run is believed."""
    labels = {name: part.samples.labels[: len(part)] for name, part in parts.items()}
    counts = {name: np.bincount(found, minlength=len(classes)) for name, found in labels.items()}
    found = part_notes(labels[TEST], labels[VAL], classes, chosen_on_val)
    folded = [parts[name].samples for name in (TRAIN, VAL) if name == TRAIN or job.refit]
    found += fold_notes(getattr(job.options, "cv", 0), folded, classes)
    found += neighbour_notes(job.options, len(parts[TRAIN].samples))
    if job.shots or job.fractions:
        has_test = bool(len(parts[TEST]))
        found += curve_notes(job.shots, job.fractions, job.repeats, counts[TRAIN], classes, has_test=has_test)
    return found


def _plain(options: Any) -> dict[str, Any]:
    return asdict(options) if is_dataclass(options) and not isinstance(options, type) else {}


def predict_part(head: Head, part: Part) -> Predictions:
    """Probabilities of one part, (n, C), averaged over its views; empty when the part is."""
    labels = part.samples.labels.astype(np.int32)
    if not len(part):
        return Predictions(part.ids, labels, np.empty((0, head.classes), np.float32), part.groups)
    return Predictions(part.ids, labels, averaged(head, part.samples), part.groups)


def _val_scores(outcome: FitOutcome, part: Part) -> Scores | None:
    if outcome.val_probabilities is None or not len(part):
        return None
    labels = part.samples.labels.astype(np.int32)
    found = scores(Predictions(part.ids, labels, outcome.val_probabilities, part.groups))
    # The head that is scored here was fitted on train; what has chosen it makes its figure a little too good.
    return None if found is None else replace(found, fitted_on=TRAIN, used_for=outcome.val_used_for)


def _seeds(outcome: FitOutcome, part: Part) -> SeedSpread | None:
    """Run-to-run spread over seeds, which is not the sampling error of the test images."""
    if len(outcome.seed_heads) < 2 or not len(part):
        return None
    runs = [predict_part(head, part) for head in outcome.seed_heads]
    accuracies = [float(run.correct.mean()) for run in runs]
    low, high = mean_share_interval(accuracies)
    return SeedSpread(
        tuple(accuracies), float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)), low, high
    )


def _calibration(outcome: FitOutcome, val: Part, test: Predictions) -> Calibration | None:
    if outcome.val_probabilities is None or not len(val) or not len(test.ids):
        return None
    return calibrate(outcome.val_probabilities, val.samples.labels, test)


def _facts(
    job: FitJob,
    outcome: FitOutcome,
    parts: Mapping[str, Part],
    test: Predictions,
    curve: tuple[CurvePoint, ...] | None,
    dropped: Sequence[ClassRows],
) -> FitFacts:
    """What only a fit says of itself, and what its store says of the data."""
    store = job.store
    facts: Mapping[str, Any] = store.manifest.facts
    return FitFacts(
        output=tuple(job.choice.outputs or store.outputs[:1]),
        views=job.choice.views,
        average_views=job.average_views,
        options=_plain(job.options),
        refit=job.refit and HEADS[job.head].refits,
        path=tuple(outcome.path),
        fitted=outcome.fitted,
        seeds=_seeds(outcome, parts[TEST]),
        calibration=_calibration(outcome, parts[VAL], test),
        store_key=store.key,
        origin=facts.get("origin", {}).get("spec"),
        weights_path=facts.get("weights_path"),
        duplicates=store.index.duplicates(),
        label_conflicts=len(store.index.label_conflicts()),
        parted_groups=store.index.parted_groups(),
        unreadable=store.manifest.unreadable_count,
        dropped_classes=tuple(asdict(rows) for rows in dropped),
        curve=curve,
    )


def _provenance(store: Store) -> dict[str, Any]:
    """What every result says of what it rests on: the data, the store, the index in force."""
    facts: Mapping[str, Any] = store.manifest.facts
    return {
        "store": store.name,
        "index": store.index_hash,
        "dataset": facts.get("dataset"),
        "dataset_facts": facts.get("dataset_facts", {}),
        "backbone": store.manifest.spec["backbone"],
        "pixels": store.manifest.spec["pixels"],
        "pixel_policy": facts.get("pixel_policy", store.manifest.spec["pixels"]["policy"]),
    }
