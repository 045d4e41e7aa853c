"""A survey within a budget: every look of a race is an extraction and fits on the images seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import TEST, TRAIN, UNLABELLED, VAL, Dataset
from probe.errors import ProbeError
from probe.heads import HEADS
from probe.heads.head import FitSize, Samples
from probe.registry import load_object
from probe.runs import Run
from probe.units import kept_together
from probe.workspace.context import Context
from probe.workspace.extract import Workers, extract
from probe.workspace.fit import FitKeywords, fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probe.extract import ExtractJob
    from probe.store import Store
    from probe.survey.expect import Curve
    from probe.survey.race import Candidate, Judged, Outcome

VALIDATION = 5
"""One image in so many of those that heads are fitted on is for their choices."""

NAME = "-race"
"""What the name of the data set of a race's stores and runs ends with."""


@dataclass
class Racers:
    """The candidates on one data set: extracts and fits what a look asks for.

    Attributes
    ----------
    jobs : backbone -> the job of its outputs on all images.
    order : (n,) the images of the race, labelled and in no test part, in its order.
    starts : (n,) place in the order at which the first image of each one's unit stands.
    runs, stores : candidate -> its last run; backbone -> its last store.
    unreadable : backbone -> images that could not be read although nobody said so before.
    """

    context: Context
    images: Dataset
    jobs: Mapping[str, ExtractJob]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    runs: dict[Candidate, Run]
    stores: dict[str, Store]
    unreadable: dict[str, int] = field(default_factory=dict)

    def judge(self, start: int, stop: int, candidates: Sequence[Candidate]) -> Judged:
        """Fit on the images before `start`, and judge on those from there to `stop`."""
        from probe.survey.race import Judged

        images, ids = self._part(start, stop)
        correct: dict[Candidate, NDArray[np.bool_]] = {}
        curves: dict[Candidate, Curve] = {}
        failed: dict[Candidate, str] = {}
        for backbone in dict.fromkeys(candidate.backbone for candidate in candidates):
            mine = [candidate for candidate in candidates if candidate.backbone == backbone]
            self.context.say(f"{backbone}: {len(mine)} in the race, {stop:,} images")
            try:
                job = replace(self.jobs[backbone], dataset=images)
                self.stores[backbone] = self._extract(backbone, job)
            except ProbeError as error:
                failed |= dict.fromkeys(mine, error.problem)
                continue
            for candidate in mine:
                try:
                    run = self.runs[candidate] = self._fit(candidate)
                except ProbeError as error:
                    failed[candidate] = error.problem
                else:
                    correct[candidate] = _correct(run, ids)
                    curves |= self._curve(candidate)
        groups = None if images.groups is None else images.groups[images.splits == TEST]
        return Judged(correct, failed, curves, groups)

    def _part(self, start: int, stop: int) -> tuple[Dataset, NDArray[np.str_]]:
        """The images seen so far with the newest block as their test part, and the ids of that."""
        rows = np.sort(self.order[self.starts < stop])
        place = np.empty(len(self.images), np.intp)
        place[self.order] = self.starts
        starts, classes = place[rows], len(self.images.classes)
        choosing = (starts >= classes) & (starts % VALIDATION == 0)
        splits = np.where(starts >= start, TEST, np.where(choosing, VAL, TRAIN))
        images = replace(self.images.take(rows), name=self.images.name + NAME, splits=splits)
        return images, images.ids[splits == TEST]

    def _extract(self, backbone: str, job: ExtractJob) -> Store:
        from probe.store import open_store

        # Never the newest store: it is a part of the images, with other splits.
        result = extract(self.context, replace(job, internal=True), Workers())
        if result.surprises:
            self.unreadable[backbone] = result.surprises
        return open_store(Path(result.path))

    def _fit(self, candidate: Candidate) -> Run:
        row = HEADS[candidate.head]
        keywords = FitKeywords(output=(candidate.output,), reuse=True)
        quiet = Context(self.context.home, quiet=True)
        return fit(quiet, row, self.stores[candidate.backbone], keywords, load_object(row.options)())

    def _curve(self, candidate: Candidate) -> dict[Candidate, Curve]:
        """Its learning curve on all images of its last store; none where they are too few."""
        from probe.fit.rows import DEFAULT_MEMORY, source_of
        from probe.survey.expect import learning_curve

        store, row = self.stores[candidate.backbone], HEADS[candidate.head]
        rows = np.sort(np.concatenate([store.rows(split) for split in (TRAIN, VAL, TEST)]))
        source, labels = source_of(store, (candidate.output,), rows, range(1)), store.index.labels[rows]
        size = FitSize(len(rows), 0, 0, source.shape[1], int(labels.max()) + 1)
        # A part of the rows is copied for every fit.
        there = 2 * source.nbytes + row.held_bytes(size, in_memory=True)
        features = source[:] if there <= DEFAULT_MEMORY else source
        place = dict(zip(self.images.ids[self.order].tolist(), self.starts.tolist(), strict=True))
        starts = np.array([place[name] for name in store.index.ids[rows].tolist()])
        samples = Samples(features, labels, source.map_shape, units=store.index.units()[rows])
        try:
            return {candidate: learning_curve(row, samples, starts)}
        except (ProbeError, ArithmeticError, np.linalg.LinAlgError):
            return {}


def _correct(run: Run, ids: NDArray[np.str_]) -> NDArray[np.bool_]:
    """(m,) whether each of `ids` was right; one that could not be read was not."""
    known = dict(zip(run.predictions.ids.tolist(), run.predictions.correct.tolist(), strict=True))
    return np.array([known.get(name, False) for name in ids.tolist()], bool)


def race(
    context: Context,
    images: Dataset,
    jobs: Mapping[str, ExtractJob],
    candidates: Sequence[Candidate],
    budget: float,
    seed: int,
) -> tuple[Outcome, Racers]:
    """Run a race of `candidates` within `budget`, a share of the passes of all images through all backbones.

    The images of the test part take no part in it. UsageError as `probe.survey.race.run_race`.
    """
    from probe.survey.race import Terms, race_order, run_race

    raced = np.flatnonzero((images.labels != UNLABELLED) & np.isin(images.splits, (TRAIN, VAL)))
    groups = None if images.groups is None else images.groups[raced]
    units = kept_together(images.hashes[raced], groups)
    order = race_order(images.labels[raced], units, seed)
    first = np.full(int(units.max()) + 1, len(order), np.intp)
    np.minimum.at(first, units[order], np.arange(len(order)))
    racers = Racers(context, images, jobs, raced[order], first[units[order]], {}, {})
    terms = Terms(len(images), len(raced), len(np.unique(images.labels[raced])), budget)
    return run_race(candidates, terms, racers.judge), racers
