"""What ``result.json`` holds, typed: what every kind of run says, and what only one kind says.

Files of older versions lack what was not said yet; such fields are None or empty, and the field says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from probe.errors import RunError
from probe.order import number_of
from probe.records import APART, LEFT_OUT, FieldError, plain, read_record, spelt
from probe.stats.calibration import ReliabilityBin
from probe.stats.classification import Metrics
from probe.stats.confusion import ClassRow, ConfusedPair

SCHEMA = 1
FIT, FINE_TUNED, BASELINE = "fit", "finetune", "baseline"
"""Kinds of runs: of `probe fit`, `probe finetune` and `probe baseline run`."""

History = Mapping[str, tuple[float | None, ...]]
"""Figure -> its value after every epoch, None where it is no number."""


@dataclass(frozen=True)
class Scores(Metrics):
    """The figures of one part.

    Attributes
    ----------
    fitted_on : the part that the head scored here was fitted on, where it is not the head that is kept.
    used_for : what was chosen on these images, empty for nothing; None where the run does not say.
    """

    fitted_on: str | None = field(default=None, metadata=LEFT_OUT)
    used_for: str | None = field(default=None, metadata=LEFT_OUT)

    def to_json(self) -> dict[str, Any]:
        return {**plain(self), "interval": self.interval_method}


@dataclass(frozen=True)
class _Class:
    name: str = field(metadata=spelt("class"))


@dataclass(frozen=True)
class ClassScores(ClassRow, _Class):
    """A `ClassRow` with the name of its class."""


@dataclass(frozen=True)
class _Pair:
    true: str
    called: str


@dataclass(frozen=True)
class Confused(ConfusedPair, _Pair):
    """A `ConfusedPair` with the names of the true class and of what it was called."""


@dataclass(frozen=True)
class MistakenImage:
    """A wrong image: its id, its class, what it was called, and the probability of that."""

    id: str
    true: str
    called: str
    probability: float


@dataclass(frozen=True)
class Analysis:
    """What the test predictions say beyond one number."""

    per_class: tuple[ClassScores, ...]
    most_confused: tuple[Confused, ...]
    confident_mistakes: tuple[MistakenImage, ...]
    reliability: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """The temperature fitted on `fitted_on` validation images, and the test figures it gives."""

    temperature: float
    test_ece: float
    test_log_loss: float
    fitted_on: int | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class SeedSpread:
    """Test accuracy over seeds, its spread and the Student-t interval of its mean."""

    accuracies: tuple[float, ...]
    mean: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """Test accuracy for one size of the training part.

    Attributes
    ----------
    size : ``shots 5``, ``fraction 0.1`` or ``all``.
    rows : training rows of a draw, the mean where draws of whole groups differ.
    accuracies : one per draw that could be fitted.
    mean : of the accuracies; None without any.
    low, high : 95 % t-interval of the mean over draws, inside [0, 1]; None for a single draw.
    problem : how many of the draws could not be fitted, and why; None where all could.
    """

    size: str
    rows: int
    accuracies: tuple[float, ...]
    mean: float | None
    low: float | None
    high: float | None
    problem: str | None = None


@dataclass(frozen=True)
class FitFacts:
    """What only a run of `probe fit` says.

    Attributes
    ----------
    output : the stored outputs that were fitted on, side by side.
    options : of the head.
    path : one row for every setting that was tried.
    fitted : of the head that is kept, how near the minimum its fit is; None where a fit does not state that.
    origin : how the data set was named.
    duplicates, label_conflicts, parted_groups : counts of the index; None where the run does not say.
    dropped_classes : classes left out for want of training rows.
    """

    output: tuple[str, ...]
    views: int = 0
    average_views: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    refit: bool = False
    path: tuple[Mapping[str, Any], ...] | None = None
    fitted: Mapping[str, Any] | None = field(default=None, metadata=LEFT_OUT)
    seeds: SeedSpread | None = None
    calibration: Calibration | None = field(default=None, metadata=LEFT_OUT)
    store_key: str | None = None
    origin: str | None = None
    weights_path: str | None = None
    duplicates: Mapping[str, int] | None = field(default=None, metadata=LEFT_OUT)
    label_conflicts: int | None = field(default=None, metadata=LEFT_OUT)
    parted_groups: Mapping[str, int] | None = field(default=None, metadata=LEFT_OUT)
    unreadable: int | None = field(default=None, metadata=LEFT_OUT)
    dropped_classes: tuple[Mapping[str, Any], ...] = ()
    curve: tuple[CurvePoint, ...] | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class NetworkFacts:
    """A fine-tuned network: its file, what it was trained to see, and the layer its embeddings come from."""

    file: str
    preprocess: str
    size: int
    features: str


@dataclass(frozen=True)
class FrozenProbe:
    """What a fine-tuning was compared with; `run` is None for the logistic regression it started from."""

    run: str | None
    source: str
    precision: str


@dataclass(frozen=True)
class TuneFacts:
    """What only a run of `probe finetune` says.

    Attributes
    ----------
    plan : what ``--dry-run`` prints.
    start : figures of the network before any training step.
    rows_copied : of the prefix cache, from other stores; None without a cache, or where the run does not say.
    comparison : with the frozen probe, as `probe.stats.paired.Comparison` writes it.
    """

    network: NetworkFacts
    history: History
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    head_start: str | None = None
    head_history: History | None = None
    start: Mapping[str, float | None] | None = None
    stopped: str | None = None
    training_seconds: float | None = None
    extraction_seconds: float | None = None
    rows_copied: int | None = field(default=None, metadata=LEFT_OUT)
    store_key: str | None = None
    weights_path: str | None = None
    comparison: Mapping[str, Any] | None = None
    frozen_probe: FrozenProbe | None = None


@dataclass(frozen=True)
class InputFacts:
    """What a network trained from scratch was trained to see: (pixels − mean) / scale.

    `mean` and `scale` have a number a channel, or one for every place, row by row and channels last.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True)
class Epochs:
    """Which epoch is scored, how many were run and planned, by which rule, and why training stopped."""

    scored: int
    run: int
    planned: int
    rule: str
    stopped: str | None


@dataclass(frozen=True)
class Published:
    """A figure of a study: `accuracy` as a fraction, the `part` it was measured on, a `label` among several.

    `seconds` is the study's own training time, on its own machine; `high` the upper end of a published range.
    """

    accuracy: float
    label: str = ""
    part: str = "test"
    seconds: int | None = None
    high: float | None = None


@dataclass(frozen=True)
class TrainFacts:
    """What only a run of `probe baseline run` says.

    Attributes
    ----------
    limit : images at most; None for all.
    published_on_this_data : the study's figures are of the same data at full length.
    """

    input: InputFacts
    epochs: Epochs
    history: History
    params: int
    trainable_params: int
    frozen_params: int
    seed: int
    precision: str
    limit: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    published_on_this_data: bool = False
    unreadable: int | None = field(default=None, metadata=LEFT_OUT)
    training_seconds: float | None = None


Facts = FitFacts | TuneFacts | TrainFacts

FACTS: Mapping[str, type[Facts]] = {FIT: FitFacts, FINE_TUNED: TuneFacts, BASELINE: TrainFacts}
"""Kind of run -> what only that kind says."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One result.

    Attributes
    ----------
    schema, run, sequence, created, files : what `probe.runs.write_run` adds: the form, the folder's name, the
        number by which the latest is known, the time, and the sha256 of every other file.
    head : the head of a fit, the head's network of a fine-tuning, the name of an experiment.
    classes : names in label order.
    dataset : its name; None where the store does not know.
    test, val : figures of a part; None without labelled images.
    parts : split -> labelled images.
    notes : what to know before a figure is believed, a sentence each.
    chosen : what was chosen on validation.
    store : that it was fitted on; None for one that read images.
    index : hash of ids, labels and splits.
    backbone, pixels : the identity of the backbone and of the pixel path, as stores record them.
    pixel_policy : by which version's rules the pixel path was chosen.
    identity : sha256 of all that decides a training or a fit; fits of older versions have none.
    analysis : of the test predictions, where it was recorded.
    facts : what only this kind of run says; None for a kind that this version does not know.
    """

    schema: int = SCHEMA
    run: str = ""
    sequence: int | None = field(default=None, metadata=LEFT_OUT)
    created: str | None = field(default=None, metadata=LEFT_OUT)
    kind: str
    head: str
    dataset: str | None = None
    store: str | None = None
    chosen: Mapping[str, Any] | None = None
    test: Scores | None = None
    val: Scores | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...]
    index: str | None = field(default=None, metadata=LEFT_OUT)
    dataset_facts: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] | None = field(default=None, metadata=LEFT_OUT)
    pixels: Mapping[str, Any] | None = field(default=None, metadata=LEFT_OUT)
    pixel_policy: str | None = field(default=None, metadata=LEFT_OUT)
    identity: str | None = field(default=None, metadata=LEFT_OUT)
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] | None = field(default=None, metadata=LEFT_OUT)
    analysis: Analysis | None = field(default=None, metadata=APART)
    facts: Facts | None = field(default=None, metadata=APART)

    @classmethod
    def from_json(cls, value: object) -> Record:
        """A record of what ``result.json`` holds, of any version; FieldError names what is wrong."""
        found = _todays_form(value)
        kind = FACTS.get(found["kind"]) if isinstance(found.get("kind"), str) else None
        record = read_record(cls, found)
        if record.backbone is not None and not isinstance(record.backbone.get("name"), str):
            raise FieldError("text", repr(record.backbone.get("name")), "backbone.name")
        return replace(
            record,
            analysis=read_record(Analysis, found) if _has_analysis(found) else None,
            facts=None if kind is None else read_record(kind, found),
        )

    def to_json(self) -> dict[str, Any]:
        """What ``result.json`` holds."""
        found = {**plain(self), **plain(self.facts or {}), **plain(self.analysis or {})}
        scored = {"test": self.test, "val": self.val}
        return found | {part: None if scores is None else scores.to_json() for part, scores in scored.items()}

    @property
    def backbone_name(self) -> str | None:
        return None if self.backbone is None else self.backbone["name"]

    @property
    def val_used_for(self) -> str:
        """What was chosen on the validation images; of a network what its rule for the epoch says."""
        if self.val is None:
            return ""
        if self.val.used_for is not None:
            return self.val.used_for
        match self.facts:
            case TrainFacts(epochs=epochs):
                chosen = "val_" in epochs.rule
            case TuneFacts(options=options):
                chosen = options.get("keep") != "last"
            case _:
                chosen = False
        return "choose the epoch" if chosen else ""


def damaged(path: Path, error: FieldError) -> RunError:
    """The error for a file of a run in which a value is not what it should be."""
    return RunError(
        f"{path} is damaged",
        expected=f"{error.expected} as {error.place}" if error.place else error.expected,
        found=error.found,
    )


def _has_analysis(found: Mapping[str, Any]) -> bool:
    needed = ("per_class", "most_confused", "confident_mistakes")
    return all(name in found for name in needed)


def _todays_form(value: object) -> dict[str, Any]:
    """What older versions spelt otherwise, as it is written now.

    A number or a time that is none counts as missing: it only orders the runs.
    """
    if not isinstance(value, Mapping):
        raise FieldError("an object", type(value).__name__)
    found = {**value, "sequence": number_of(value)}
    if not isinstance(found.get("created"), str):
        found["created"] = None
    if isinstance(found.get("output"), str):
        found["output"] = [found["output"]]
    return found
