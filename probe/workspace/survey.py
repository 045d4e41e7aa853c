"""Which features are good for these classes: what is asked for becomes a plan, and the plan one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.datasets import DatasetOptions
from probe.datasets.dataset import TEST, TRAIN, UNLABELLED, Dataset
from probe.errors import DataError, ProbeError, UsageError, WeightsError
from probe.heads import HEADS
from probe.registry import load_object
from probe.runs import Run
from probe.text import count_of, parse_share, wrapped
from probe.workspace.backbones import Choice, check_choice, choose
from probe.workspace.context import Context
from probe.workspace.data import read_images
from probe.workspace.extract import PRECISIONS, ExtractKeywords, Workers, extract, make_job
from probe.workspace.fit import FitKeywords, fit, fit_job
from probe.workspace.keywords import at_least, one_of

if TYPE_CHECKING:
    from probe.extract import ExtractJob
    from probe.store import Store
    from probe.survey.outputs import Offer
    from probe.survey.plan import Pass
    from probe.survey.result import Entry, Survey

WIDTH = 80
"""Columns of a plan."""

HEADS_TAKEN = ("logreg",)
"""Where no heads are asked for."""


@dataclass(frozen=True)
class SurveyKeywords:
    """What is surveyed, by the names and with the defaults of the options of ``probe survey``.

    Attributes
    ----------
    backbones : names, .keras or .onnx files, or fine-tuned runs.
    outputs : layers or stages; empty takes each backbone's pooled features.
    heads : names from ``probe heads``, with their defaults; empty takes ``logreg``.
    size : side of every network's input, pixels; None takes the backbone's own.
    preprocess : value convention of backbones that do not say theirs, as .keras files.
    weights : ``imagenet``, ``random`` or ``random:SEED``; saved models bring their own.
    precision, engine, exif : as ``probe extract`` takes them.
    budget : a race on at most this share of the image passes, ``"20%"`` or 0.2; None surveys all images.
    seed : of the order in which a race sees the images.
    """

    backbones: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    size: int | None = None
    preprocess: str | None = None
    weights: str = "imagenet"
    precision: str = "auto"
    engine: str = "auto"
    exif: bool = False
    budget: str | float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        at_least(0, seed=self.seed)
        if self.budget is not None:
            parse_share(self.budget, "--budget")
        one_of(PRECISIONS, precision=self.precision)
        for head in self.heads:
            HEADS[head]  # raises where there is none
        if not self.backbones:
            raise UsageError("no backbones are named", hint="--backbones A,B; probe backbones lists them")
        for kind in ("backbones", "outputs", "heads"):
            _expect_once(kind, getattr(self, kind))


def _expect_once(kind: str, names: Sequence[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UsageError(f"of the {kind} {twice[0]} is named twice", found=",".join(names))


@dataclass(frozen=True)
class Surveyed:
    """A backbone of a plan: its passes, or why there is none."""

    name: str
    offer: Offer
    heads: Mapping[str, tuple[str, ...]]
    passes: tuple[Pass, ...] = ()
    problem: str | None = None
    job: ExtractJob | None = None

    @property
    def fits(self) -> int:
        """Heads to fit; none where there will be no features."""
        return 0 if self.problem is not None else sum(map(len, self.heads.values()))


@dataclass(frozen=True)
class SurveyPlan:
    """What a survey computes, and what of it is there.

    Attributes
    ----------
    dataset : its images.
    backbones : in the order asked for.
    fits, fits_there : heads to fit in all, and those of them that are finished runs.
    notes : what is passed over.
    budget : of a race, as a share of all image passes; None without one.
    seed : of its order.
    """

    dataset: Dataset
    backbones: tuple[Surveyed, ...]
    fits: int
    fits_there: int
    notes: tuple[str, ...] = ()
    budget: float | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "dataset": self.dataset.name,
            "images": len(self.dataset),
            "backbones": [_backbone_record(backbone) for backbone in self.backbones],
            "fits": self.fits,
            "fits_there": self.fits_there,
            "notes": list(self.notes),
            **({} if self.budget is None else {"budget": self.budget}),
        }

    def lines(self) -> list[str]:
        """What will be done, for people."""
        lines = [f"survey of {self.dataset.name}: {count_of(len(self.dataset), 'image')}"]
        for backbone in self.backbones:
            lines.append(f"  {backbone.name}")
            if backbone.problem is not None:
                lines += wrapped(f"    fails: {backbone.problem}", WIDTH, indent=6)
            for one in backbone.passes if self.budget is None else ():
                lines += wrapped(f"    {_pass_text(one)}", WIDTH, indent=6)
        if self.budget is None:
            lines.append(f"  {count_of(self.fits, 'fit')}, {self.fits_there:,} of them there")
        else:
            passes = int(self.budget * len(self.dataset) * len(self.backbones))
            lines.append(f"  a race of {self.fits:,} candidates within {passes:,} image passes")
        return lines + [f"  {note}" for note in self.notes]


def _pass_text(one: Pass) -> str:
    names = ", ".join(one.outputs)
    if one.finished:
        return f"there: {names}"
    copied = f", {one.copied:,} copied" if one.copied else ""
    return f"to extract in one pass: {names} ({count_of(one.computed, 'image')} to compute{copied})"


def _backbone_record(backbone: Surveyed) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "outputs": list(backbone.offer.taken),
        "passes": [
            {
                "outputs": list(one.outputs),
                "finished": one.finished,
                "computed": one.computed,
                "copied": one.copied,
            }
            for one in backbone.passes
        ],
        "problem": backbone.problem,
    }


def plan_survey(
    context: Context, dataset: str, wanted: SurveyKeywords, options: DatasetOptions
) -> SurveyPlan:
    """Check backbones, outputs and heads, read the images, find the weights, and see what is there.

    A backbone whose weights cannot be had is planned with its `problem`. UsageError for what cannot be asked,
    DataError for images without labelled training and test parts.
    """
    from probe.extract import settle_engine
    from probe.survey.outputs import offers
    from probe.survey.plan import find_passes

    choices = {name: _choose(context, name, wanted) for name in wanted.backbones}
    defaults = {choice.name: choice.features for choice in choices.values()}
    _expect_once("backbones", [choice.name for choice in choices.values()])
    found = dict(zip(choices, offers(defaults, wanted.outputs, wanted.size, context.home), strict=True))
    for name, choice in choices.items():
        outputs = list(found[name].taken) or None
        check_choice(choice, outputs=outputs, precision=wanted.precision, engine=wanted.engine)
    asked = wanted.heads or HEADS_TAKEN
    heads = {name: _heads_of(offer, asked) for name, offer in found.items()}
    notes = [offer.note for offer in found.values() if offer.note] + _head_notes(asked, heads)
    images = read_images(context, dataset, options)
    _expect_parts(images)
    planned = []
    for name, choice in choices.items():
        surveyed = Surveyed(name, found[name], heads[name])
        try:
            job = make_job(context, images, choice, _extract_keywords(choice, found[name], wanted))
            passes = tuple(find_passes(job, context.home))
            surveyed = Surveyed(name, found[name], heads[name], passes, job=settle_engine(job, context.home))
        except WeightsError as error:
            surveyed = Surveyed(name, found[name], heads[name], problem=_reason(error))
        planned.append(surveyed)
    there = sum(1 for _ in _finished_runs(context, planned))
    fits = sum(surveyed.fits for surveyed in planned)
    budget = None if wanted.budget is None else parse_share(wanted.budget, "--budget")
    return SurveyPlan(images, tuple(planned), fits, there, tuple(notes), budget, wanted.seed)


def _choose(context: Context, name: str, wanted: SurveyKeywords) -> Choice:
    """The backbone, with the preprocessing asked for where it does not say its own."""
    from probe.backbones import find_row

    choice = choose(context, name, wanted.size, None)
    known = choice.preprocess or find_row(choice.name).preprocess
    return choice if known else Choice(choice.name, choice.size, wanted.preprocess, choice.features)


def _extract_keywords(choice: Choice, offer: Offer, wanted: SurveyKeywords) -> ExtractKeywords:
    from probe.backbones import find_row

    return ExtractKeywords(
        backbone=choice.name,
        outputs=offer.taken,
        weights=wanted.weights if find_row(choice.name).network else "imagenet",
        precision=wanted.precision,
        engine=wanted.engine,
        exif=wanted.exif,
    )


def _heads_of(offer: Offer, heads: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Output -> the heads that can be fitted on it."""
    from probe.backbones.outputs import is_map

    return {
        output: tuple(head for head in heads if is_map(output) or not HEADS[head].needs_map)
        for output in offer.taken
    }


def _head_notes(heads: Sequence[str], found: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Where a head is passed over; UsageError for one that no output is a map for."""
    notes = []
    for head in heads:
        outputs = [
            output for taken in found.values() for output, fitted in taken.items() if head not in fitted
        ]
        if outputs and all(head not in fitted for taken in found.values() for fitted in taken.values()):
            raise UsageError(
                f"{head} is fitted on feature maps, and no output is one",
                found=", ".join(dict.fromkeys(outputs)),
                hint="--outputs NAME:map",
            )
        if outputs:
            notes.append(f"{head} needs a map: passed over on {', '.join(dict.fromkeys(outputs))}")
    return notes


def _expect_parts(images: Dataset) -> None:
    for part in (TRAIN, TEST):
        if not np.any((images.splits == part) & (images.labels != UNLABELLED)):
            raise DataError(
                f"{images.name} has no labelled {part} images",
                expected="labelled training and test images",
                hint="--labels FILE, --split 0.7,0.1,0.2",
            )


def _finished_runs(context: Context, planned: Sequence[Surveyed]) -> Iterator[Run]:
    """The fits of a plan that are finished, as far as the labels in force of the stores tell."""
    from probe.fit import finished_fit
    from probe.store import open_store

    for surveyed in planned:
        for one in surveyed.passes:
            if not one.finished:
                continue
            store = open_store(one.job.path(context.home))
            if store.index_hash != one.job.index().hash:
                continue
            for output in one.outputs:
                for head in surveyed.heads[output]:
                    row, keywords = HEADS[head], FitKeywords(output=(output,))
                    job = fit_job(context, row, store, keywords, load_object(row.options)())
                    if run := finished_fit(job, context.home):
                        yield run


def survey(context: Context, plan: SurveyPlan) -> Survey:
    """Extract what is missing, fit what is not there, and compare all rows.

    What fails has its reason in its rows; what was finished before stays finished.
    """
    from probe.survey.result import make_survey

    if plan.budget is not None:
        return _race(context, plan, plan.budget)
    entries: list[Entry] = []
    unreadable: dict[str, int] = {}
    for surveyed in plan.backbones:
        name = surveyed.name
        if surveyed.problem is not None:
            entries += _failed(surveyed, surveyed.offer.taken, surveyed.problem)
        for one in surveyed.passes:
            context.say(f"{name}: {_pass_text(one)}")
            try:
                store, unread = _extract(context, one.job)
            except ProbeError as error:
                entries += _failed(surveyed, one.outputs, _reason(error))
                continue
            if unread:
                unreadable[name] = unread
            pairs = [(output, head) for output in one.outputs for head in surveyed.heads[output]]
            entries += [_fitted(context, name, store, output, head) for output, head in pairs]
    notes = [*plan.notes, *_unread_notes(unreadable)]
    return make_survey(plan.dataset.name, entries, notes, unreadable)


def _unread_notes(unreadable: Mapping[str, int]) -> list[str]:
    return [f"{name}: {count_of(count, 'image')} unread" for name, count in unreadable.items()]


def _race(context: Context, plan: SurveyPlan, budget: float) -> Survey:
    """Judge on growing parts of the images and drop what is worse, within the budget."""
    from probe.survey.race import Candidate
    from probe.survey.result import Entry, make_race, make_survey
    from probe.workspace.race import race

    able = [surveyed for surveyed in plan.backbones if surveyed.job is not None]
    candidates = [
        Candidate(surveyed.name, output, head)
        for surveyed in able
        for output, heads in surveyed.heads.items()
        for head in heads
    ]
    failed = [
        entry
        for surveyed in plan.backbones
        if surveyed.problem is not None
        for entry in _failed(surveyed, surveyed.offer.taken, surveyed.problem)
    ]
    if failed and len(candidates) < 2:
        alone = [Entry(*one, problem="there is nothing left to race against") for one in candidates]
        return make_survey(plan.dataset.name, [*alone, *failed], plan.notes)
    jobs = {surveyed.name: surveyed.job for surveyed in able if surveyed.job is not None}
    outcome, racers = race(context, plan.dataset, jobs, candidates, budget, plan.seed)
    outcome.failed.update({Candidate(one.backbone, one.output, one.head): str(one.problem) for one in failed})
    unread = racers.unreadable
    notes = [*plan.notes, *_unread_notes(unread)]
    if outcome.kept is not None:
        name, output, head = outcome.kept
        spec = plan.dataset.origin.get("spec", plan.dataset.name)
        notes.append(
            f"its figure on the test images: probe survey {spec} --backbones {name}"
            f" --outputs {output} --heads {head}"
        )
    return make_race(plan.dataset.name, outcome, racers.runs, racers.stores, notes, unread)


def _extract(context: Context, job: ExtractJob) -> tuple[Store, int]:
    """The filled store, and how many of its images could not be read although nobody said so before."""
    from pathlib import Path

    from probe.store import open_store

    result = extract(context, job, Workers())
    return open_store(Path(result.path)), result.surprises


def _fitted(context: Context, name: str, store: Store, output: str, head: str) -> Entry:
    from probe.survey.result import Entry

    row, keywords = HEADS[head], FitKeywords(output=(output,), reuse=True)
    try:
        run = fit(context, row, store, keywords, load_object(row.options)())
    except ProbeError as error:
        return Entry(name, output, head, problem=_reason(error))
    return Entry(name, output, head, run, store)


def _failed(surveyed: Surveyed, outputs: Sequence[str], problem: str) -> list[Entry]:
    from probe.survey.result import Entry

    return [
        Entry(surveyed.name, output, head, problem=problem)
        for output in outputs
        for head in surveyed.heads[output]
    ]


def _reason(error: ProbeError) -> str:
    return error.problem + (f" ({error.found})" if error.found else "")
