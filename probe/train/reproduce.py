"""The experiments of a study, one after the other, with a verdict on every published figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.config import Home
from probe.datasets import DATASETS
from probe.datasets.place import is_fetched
from probe.errors import ProbeError, UsageError
from probe.registry import unknown_name
from probe.runs import Run
from probe.stats.intervals import mean_interval, wilson
from probe.train.baselines import BASELINES, STUDIES
from probe.train.experiment import CURVES, Draw, Experiment, run_experiment
from probe.train.pixels import DataSource, load_pixels, source_of
from probe.train.recipe import Published, Recipe
from probe.train.sweep import CellResult
from probe.train.sweep_job import SweepJob, sweep

INSIDE, ABOVE, BELOW = "inside", "above", "below"
NOT_RUN, NO_FIGURE = "not run", "no published figure"

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
    curves : picture of its training.
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
    curves: Path | None = None


def recipes_of(study: str | None) -> list[Recipe]:
    """The experiments of a study, or of all; the name of one experiment gives that one."""
    if study is None:
        return list(BASELINES.values())
    if study in STUDIES:
        return [recipe for recipe in BASELINES.values() if recipe.study == study]
    if "/" in study:
        return [BASELINES[study]]
    raise unknown_name("study", study, STUDIES)


def reproduce(recipes: Sequence[Recipe], plan: Plan, home: Home, draw: Draw) -> Iterator[Verdict]:
    """Run what can be run here, and account for every experiment; verdicts come as they are reached.

    A training or a cell that was finished before with the same identity is not repeated. An experiment whose
    data is not here, or cannot be used, is a verdict that says so and not an error.
    """
    unused = set(plan.data) - {recipe.data for recipe in recipes}
    if unused:
        raise UsageError(
            f"--data-map names {', '.join(sorted(unused))}, which no experiment here uses",
            expected=", ".join(sorted({recipe.data for recipe in recipes})),
        )
    for recipe in recipes:
        if recipe.kind == "transfer":
            yield from _transfer(recipe, home)
            continue
        source = source_of(recipe, home, plan.data.get(recipe.data), limit=plan.limit)
        try:
            yield from (_sweep if recipe.kind == "sweep" else _train)(recipe, source, plan, home, draw)
        except ProbeError as error:
            commands = (*_fetching(source.spec, home), f"probe {_verb(recipe)} {recipe.name}")
            yield from _not_run(recipe, source.spec, error.problem, commands)


def _train(recipe: Recipe, source: DataSource, plan: Plan, home: Home, draw: Draw) -> Iterator[Verdict]:
    experiment = Experiment(recipe, source, epochs=plan.epochs, precision=plan.precision)
    run, reused = run_experiment(experiment, home, draw)
    for published in recipe.published or (None,):
        part = published.part if published else "test"
        scores: Mapping[str, Any] | None = run.result["val" if part == "validation" else "test"]
        if scores is None:
            yield from _not_run(recipe, source.spec, f"there is no {part} part to score", ())
            return
        found = scores["accuracy"], scores["accuracy_low"], scores["accuracy_high"]
        why = _join(_scale(recipe, source, plan), _epoch_text(run), "trained before" if reused else "")
        yield _verdict(recipe, source, plan, published, found, part, why, run.name, run.path / CURVES)


def _sweep(recipe: Recipe, source: DataSource, plan: Plan, home: Home, draw: Draw) -> Iterator[Verdict]:
    job = SweepJob(
        recipe,
        source,
        grid=dict(recipe.sweep),
        folds=recipe.folds,
        epochs=plan.epochs,
        precision=plan.precision,
    )
    done = sweep(job, home, draw)
    published = {figure.label: figure for figure in recipe.published}
    tested = load_pixels(source, recipe.size).data.test
    for row in done.rows:
        cells = [cell for cell in done.results if cell.setting == row.setting]
        part, found = _sweep_figure(cells, recipe.folds, len(tested) if tested is not None else 0)
        why = _join(
            _scale(recipe, source, plan),
            f"mean of {len(cells)} folds" if recipe.folds else "",
            f"{done.reused} of {len(done.results)} cells trained before" if done.reused else "",
        )
        figure = published.get(row.setting)
        yield _verdict(
            recipe,
            source,
            plan,
            figure,
            found,
            part,
            why,
            done.folder.name,
            done.folder / CURVES,
            row.setting,
        )


def _sweep_figure(
    cells: Sequence[CellResult], folds: int, tested: int
) -> tuple[str, tuple[float, float, float]]:
    """The part a setting is judged on, and accuracy, lower and upper end: of folds by their spread."""
    if folds:
        values = [cell.val_accuracy for cell in cells if cell.val_accuracy is not None]
        return "validation", (sum(values) / len(values), *mean_interval(values))
    accuracy = cells[0].test_accuracy or 0.0
    return "test", (accuracy, *wilson(round(accuracy * tested), tested))


def _transfer(recipe: Recipe, home: Home) -> Iterator[Verdict]:
    here = is_fetched(DATASETS[recipe.data], home)
    state = "run its commands" if here else f"the data set {recipe.data} is not on this machine"
    commands = (*_fetching(recipe.data, home), *recipe.commands)
    return _not_run(recipe, recipe.data, f"a transfer experiment: {state}", commands)


def _fetching(spec: str, home: Home) -> tuple[str, ...]:
    """The command that brings a registered data set here, where that is what is missing."""
    missing = spec in DATASETS and bool(DATASETS[spec].files) and not is_fetched(DATASETS[spec], home)
    return (f"probe data fetch {spec}",) if missing else ()


def _not_run(recipe: Recipe, data: str, why: str, commands: tuple[str, ...]) -> Iterator[Verdict]:
    for published in recipe.published or (None,):
        yield Verdict(
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
        )


def _verdict(
    recipe: Recipe,
    source: DataSource,
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
        data=source.spec,
        published=published.accuracy if published else None,
        published_high=published.high if published else None,
        measured=measured,
        low=low,
        high=high,
        verdict=judge(published, low, high),
        comparable=published is not None and source.spec == recipe.data and not plan.scaled_down,
        why=why,
        commands=(f"probe {_verb(recipe)} {recipe.name}",),
        run=run,
        curves=curves,
    )


def judge(published: Published | None, low: float, high: float) -> str:
    """Where the measured interval lies with respect to the published figure or range."""
    if published is None:
        return NO_FIGURE
    if low > (published.high or published.accuracy):
        return ABOVE
    return BELOW if high < published.accuracy else INSIDE


def _scale(recipe: Recipe, source: DataSource, plan: Plan) -> str:
    other = f"on {source.spec} in place of {recipe.data}" if source.spec != recipe.data else ""
    return _join(other, f"scaled down: {plan.scaled_down}" if plan.scaled_down else "")


def _epoch_text(run: Run) -> str:
    epochs = run.result["epochs"]
    return f"{epochs['rule']}, {epochs['scored']} of {epochs['run']}"


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _verb(recipe: Recipe) -> str:
    return "sweep" if recipe.kind == "sweep" else "baseline run"
