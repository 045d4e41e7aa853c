"""The experiments of a study, each with a verdict on every published figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from probe.config import Home
from probe.curves import CURVES, Course
from probe.datasets import DATASETS, DatasetOptions
from probe.datasets.place import is_missing
from probe.errors import ProbeError, UsageError, unknown_name
from probe.records import APART, plain, read_record
from probe.runs import Run, course_of
from probe.runs.record import TrainFacts, TuneFacts
from probe.stats.intervals import mean_share_interval, wilson
from probe.studies.baselines import BASELINES, STUDIES
from probe.studies.experiment import Experiment, run_experiment, source_of
from probe.studies.recipe import Published, Ran, Recipe
from probe.studies.sweep import CellResult, SweepRow
from probe.studies.sweep_job import SweepJob, sweep
from probe.train.pixels import DataSource

INSIDE, ABOVE, BELOW = "inside", "above", "below"
NOT_RUN, NO_FIGURE = "not run", "no published figure"

Transfer = Callable[[Recipe, str], Run]
"""Runs the command lines of a transfer experiment on the data set named, and returns the run of the last one.

It comes from above, where commands are; `Plan` scales it down as it does the trainings.
"""

QUICK_EPOCHS, QUICK_LIMIT = 2, 1000
"""What ``--quick`` trains: enough to see every experiment work, not to say anything about its figure."""


@dataclass(frozen=True)
class Plan:
    """How a study is run.

    Attributes
    ----------
    data : data set of a recipe -> the one that is used in its place.
    epochs, limit : at most so many epochs and images; None for the recipe's own.
    """

    data: Mapping[str, str] = field(default_factory=dict)
    epochs: int | None = None
    limit: int | None = None
    precision: str = "fp32"

    @property
    def scaled_down(self) -> str:
        """What was scaled down, for a reader; empty when nothing was."""
        parts = [f"{self.epochs} epochs at most"] if self.epochs else []
        parts += [f"{self.limit:,} images at most"] if self.limit else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """One published figure, or one experiment without any, and what was measured for it.

    Attributes
    ----------
    label : which figure of several, a setting of a sweep for instance.
    part : what the accuracy is of, ``test`` or ``validation``.
    published, published_high : the study's accuracy, or the range it reports; None where it reports none.
    measured, low, high : accuracy and its 95 % interval; None when it was not run.
    verdict : ``inside`` (the interval holds the published figure), ``above`` or ``below`` it; ``not run``;
        ``no published figure``.
    comparable : measured on the study's own data at full length; otherwise the verdict says nothing about it.
    why : the reason, where there is one to give.
    commands : what the user can run for it.
    run : folder name of the run or of the sweep.
    curves : picture of its training, where there is one.
    there, here : how the study's own training went and how this one did, where that is known.
    """

    experiment: str
    summary: str
    label: str
    part: str
    data: str
    published: float | None
    published_high: float | None
    measured: float | None
    low: float | None
    high: float | None
    verdict: str
    comparable: bool
    why: str
    commands: tuple[str, ...]
    run: str | None = None
    curves: Path | None = field(default=None, metadata=APART)
    there: Ran | None = None
    here: Ran | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which `from_json` makes the verdict again."""
        return {**plain(self), "curves": None if self.curves is None else str(self.curves)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Verdict:
        """FieldError for what is no verdict."""
        curves = record["curves"]
        return replace(read_record(cls, record), curves=None if curves is None else Path(curves))


def recipes_of(study: str | None) -> list[Recipe]:
    """The experiments of a study, or of all; the name of one experiment gives that one."""
    if study is None:
        return list(BASELINES.values())
    if study in STUDIES:
        return [recipe for recipe in BASELINES.values() if recipe.study == study]
    if "/" in study:
        return [BASELINES[study]]
    raise unknown_name("study", study, STUDIES)


def check_plan(recipes: Sequence[Recipe], plan: Plan) -> None:
    """UsageError where data is named that no experiment uses."""
    unused = set(plan.data) - {recipe.data for recipe in recipes}
    if unused:
        raise UsageError(
            f"--data-map names {', '.join(sorted(unused))}, which no experiment here uses",
            expected=", ".join(sorted({recipe.data for recipe in recipes})),
        )


def not_here(recipe: Recipe, plan: Plan, home: Home) -> list[Verdict]:
    """The verdicts on an experiment whose data set is not on this machine; none where it is.

    Its commands would fetch it; a reproduction does not download gigabytes unasked.
    """
    data = plan.data.get(recipe.data, recipe.data)
    fetching = _fetching(data, home)
    why = f"the data set {data} is not on this machine"
    return not_run(recipe, data, why, (*fetching, *recipe.command_lines)) if fetching else []


def verdicts_of(
    recipe: Recipe, plan: Plan, home: Home, transfer: Transfer, *, progress: bool = False
) -> list[Verdict]:
    """Run one experiment in this process.

    A training, a cell or a fine-tuning that was finished before with the same identity is not repeated. What
    cannot be used, data or weights that are not here among it, is a verdict that says so and not an error.
    `transfer` runs the experiments that are command lines.
    """
    if gone := not_here(recipe, plan, home):
        return gone
    data = plan.data.get(recipe.data, recipe.data)
    source = source_of(recipe, home, data, DatasetOptions(limit=plan.limit))
    try:
        if recipe.kind == "transfer":
            run = transfer(recipe, data)
            return _scored(recipe, data, plan, run, _head_text(run))
        return (_sweep if recipe.kind == "sweep" else _train)(recipe, source, plan, home, progress)
    except ProbeError as error:
        return not_run(recipe, data, error.problem, recipe.command_lines)


def _train(recipe: Recipe, source: DataSource, plan: Plan, home: Home, progress: bool) -> list[Verdict]:
    pixels = source.pixels(recipe.size, progress=progress)
    experiment = Experiment(recipe, pixels, epochs=plan.epochs, precision=plan.precision)
    run, reused = run_experiment(experiment, home, progress=progress)
    said = _join(_epoch_text(run), "trained before" if reused else "")
    return _scored(recipe, source.spec, plan, run, said)


def _scored(recipe: Recipe, data: str, plan: Plan, run: Run, said: str) -> list[Verdict]:
    """A run beside each published figure, on the part that the figure is of."""
    verdicts = []
    here = _ran(course_of(run))
    for published in recipe.published or (None,):
        part = published.part if published else "test"
        scores = run.val if part == "validation" else run.test
        if scores is None:
            verdicts.append(_figure_not_run(recipe, published, data, f"there is no {part} part to score", ()))
            continue
        found = scores.accuracy, *scores.interval
        why = _join(_scale(recipe, data, plan), said)
        verdict = _verdict(recipe, data, plan, published, found, part, why, run.name, run.path / CURVES)
        verdicts.append(replace(verdict, here=here))
    return verdicts


def _ran(course: Course | None) -> Ran | None:
    """Epochs, and the best validation accuracy with the first epoch of it; None without a history."""
    if course is None:
        return None
    known = {epoch: v for epoch, v in enumerate(course.history.get("val_accuracy", ()), 1) if v is not None}
    best = max(known, key=lambda epoch: known[epoch], default=None)
    epochs = max(map(len, course.history.values()), default=0)
    return Ran(epochs, None if best is None else known[best], best)


def _sweep(recipe: Recipe, source: DataSource, plan: Plan, home: Home, progress: bool) -> list[Verdict]:
    job = SweepJob(
        recipe,
        source,
        grid=dict(recipe.sweep),
        folds=recipe.folds,
        epochs=plan.epochs,
        precision=plan.precision,
    )
    done = sweep(job, home, progress=progress)
    published = {figure.label: figure for figure in recipe.published}
    verdicts = []
    for row in done.rows:
        cells = [cell for cell in done.results if cell.setting == row.setting]
        part, found = _fold_figure(cells) if recipe.folds else _test_figure(row, recipe, source)
        why = _join(
            _scale(recipe, source.spec, plan),
            f"mean of {len(cells)} folds" if recipe.folds else "",
            f"{done.reused} of {len(done.results)} cells trained before" if done.reused else "",
        )
        figure, folder = published.get(row.setting), done.folder
        curves = folder / CURVES
        verdict = _verdict(
            recipe, source.spec, plan, figure, found, part, why, folder.name, curves, row.setting
        )
        # The mean of several trainings has no epochs of its own.
        here = _ran(Course(cells[0].history)) if len(cells) == 1 else None
        verdicts.append(replace(verdict, here=here))
    return verdicts


def _fold_figure(cells: Sequence[CellResult]) -> tuple[str, tuple[float, float, float]]:
    """The part that folds are judged on, and mean, lower and upper end, by the spread of the folds."""
    values = [cell.val_accuracy for cell in cells if cell.val_accuracy is not None]
    return "validation", (sum(values) / len(values), *mean_share_interval(values))


def _test_figure(row: SweepRow, recipe: Recipe, source: DataSource) -> tuple[str, tuple[float, float, float]]:
    """The part that a setting without folds is judged on, and accuracy, lower and upper end."""
    accuracy = row.test_accuracy or 0.0
    if row.test_low is not None and row.test_high is not None:
        return "test", (accuracy, row.test_low, row.test_high)
    # A cell of a version that did not keep how many images it was tested on, or one that was tested on none.
    tested = source.training_data(recipe.size).test
    count = 0 if tested is None else len(tested)
    return "test", (accuracy, *wilson(round(accuracy * count), count))


def _fetching(spec: str, home: Home) -> tuple[str, ...]:
    """The command that brings a registered data set here, where that is what is missing."""
    missing = spec in DATASETS and is_missing(DATASETS[spec], home)
    return (f"probe data fetch {spec}",) if missing else ()


def not_run(recipe: Recipe, data: str, why: str, commands: tuple[str, ...]) -> list[Verdict]:
    """A verdict for each published figure that says why there is none."""
    figures = recipe.published or (None,)
    return [_figure_not_run(recipe, published, data, why, commands) for published in figures]


def _figure_not_run(
    recipe: Recipe, published: Published | None, data: str, why: str, commands: tuple[str, ...]
) -> Verdict:
    return Verdict(
        experiment=recipe.name,
        summary=recipe.summary,
        label=published.label if published else "",
        part=published.part if published else "test",
        data=data,
        published=published.accuracy if published else None,
        published_high=published.high if published else None,
        measured=None,
        low=None,
        high=None,
        verdict=NOT_RUN,
        comparable=False,
        why=why,
        commands=commands,
        there=recipe.ran,
    )


def _verdict(
    recipe: Recipe,
    data: str,
    plan: Plan,
    published: Published | None,
    found: tuple[float, float, float],
    part: str,
    why: str,
    run: str,
    curves: Path,
    label: str = "",
) -> Verdict:
    measured, low, high = found
    return Verdict(
        experiment=recipe.name,
        summary=recipe.summary,
        label=published.label if published else label,
        part=part,
        data=data,
        published=published.accuracy if published else None,
        published_high=published.high if published else None,
        measured=measured,
        low=low,
        high=high,
        verdict=judge(published, low, high),
        comparable=published is not None and data == recipe.data and not plan.scaled_down,
        why=why,
        commands=recipe.command_lines,
        run=run,
        curves=curves if curves.is_file() else None,
        there=recipe.ran,
    )


def judge(published: Published | None, low: float, high: float) -> str:
    """Where the measured interval lies with respect to the published figure or range."""
    if published is None:
        return NO_FIGURE
    if low > (published.high or published.accuracy):
        return ABOVE
    return BELOW if high < published.accuracy else INSIDE


def _scale(recipe: Recipe, data: str, plan: Plan) -> str:
    other = f"on {data} in place of {recipe.data}" if data != recipe.data else ""
    return _join(other, f"scaled down: {plan.scaled_down}" if plan.scaled_down else "")


def _epoch_text(run: Run) -> str:
    facts = run.record.facts
    assert isinstance(facts, TrainFacts)  # it was trained from scratch just now, or before
    return f"{facts.epochs.rule}, {facts.epochs.scored} of {facts.epochs.run}"


def _head_text(run: Run) -> str:
    """The head that was fitted, or the epoch of a fine-tuning that is scored."""
    facts = run.record.facts
    if not isinstance(facts, TuneFacts):
        return f"a {run.record.head} head"
    kept = (run.record.chosen or {})["epoch"]
    return f"epoch {kept} of {len(facts.history['loss'])}" + ("" if kept else ", no gain from training")


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
