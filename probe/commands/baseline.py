"""``probe baseline``: the experiments of the studies by name, trained from scratch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from probe.commands.options import (
    dataset_options,
    emit,
    json_option,
    log_option,
    note,
    quiet_option,
    wants_progress,
)
from probe.commands.rules_text import optimiser_text, plateau_text, scored_text, stops_text
from probe.commands.training import (
    data_option,
    epochs_option,
    precision_option,
    say_precision,
    seeds_option,
)
from probe.commands.transfer_steps import step_lines, transfer_steps
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.report.runs import result_lines
from probe.studies.baselines import BASELINES, STUDIES
from probe.studies.recipe import Published, Ran, Recipe
from probe.text import table
from probe.workspace.context import Context
from probe.workspace.tracking import check_trackers, log_run


@click.group(name="baseline")
def command() -> None:
    """The experiments of the studies by name: list, show, run."""


@command.command(name="list")
@click.argument("study", required=False, type=click.Choice(STUDIES))
@json_option
@click.pass_obj
def list_command(home: Home, study: str | None, as_json: bool) -> None:
    """List the experiments, of one STUDY or of all."""
    recipes = [recipe for recipe in BASELINES.values() if study in (None, recipe.study)]
    rows = [
        {
            "baseline": recipe.name,
            "kind": recipe.kind,
            "data": recipe.data,
            "params": recipe.params,
            "published": [asdict(published) for published in recipe.published],
            "summary": recipe.summary,
            "recipe": _does(recipe, home)[-1],
        }
        for recipe in recipes
        if as_json
    ]
    cells = [
        (r.name, r.kind, r.data, f"{r.params:,}" if r.params else "–", published_text(r), r.summary)
        for r in recipes
    ]
    header = ("baseline", "kind", "data", "params", "published", "what it is")
    emit(rows, as_json, lambda: table(header, cells))


@command.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(home: Home, name: str, as_json: bool) -> None:
    """Show what an experiment is: network, counts, recipe, published figures, and how to run it."""
    from probe.studies.experiment import count_params

    recipe = BASELINES[name]
    counts = count_params(recipe)
    steps = _does(recipe, home)
    record = {
        "baseline": recipe.name,
        "summary": recipe.summary,
        "kind": recipe.kind,
        "data": recipe.data,
        "network": recipe.network or None,
        "params": counts.params,
        "trainable_params": counts.trainable,
        "frozen_params": counts.frozen,
        "recipe": steps[-1],
        "steps": steps,
        "sweep": {field: list(values) for field, values in recipe.sweep},
        "folds": recipe.folds,
        "published": [asdict(published) for published in recipe.published],
        "ran": None if recipe.ran is None else asdict(recipe.ran),
        "source": recipe.source,
        "ours": list(recipe.ours),
        "differs": list(recipe.differs),
        "commands": list(recipe.command_lines),
    }
    emit(record, as_json, lambda: _show_lines(recipe, record))


@command.command()
@click.argument("name")
@data_option
@epochs_option
@seeds_option
@precision_option
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from an interrupted training and do not repeat a finished one.",
)
@log_option
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def run(
    home: Home,
    name: str,
    options: DatasetOptions,
    data: str | None,
    epochs: int | None,
    seeds: int,
    precision: str,
    resume: bool,
    trackers: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Train an experiment from scratch; one run a seed.

    The published figure is printed beside the measured one. An interrupted training goes on after its last
    finished epoch when the same command is given again.
    """
    from probe.studies.experiment import Experiment, check_trainable, run_experiment, seed_summary, source_of

    recipe = BASELINES[name]
    check_trackers(trackers)
    check_trainable(recipe)
    source = source_of(recipe, home, data, options)
    chosen, progress = say_precision(precision, quiet), wants_progress(quiet)
    pixels = source.pixels(recipe.size, progress=progress)
    runs = []
    for seed in range(seeds):
        experiment = Experiment(recipe, pixels, seed, epochs, chosen, resume)
        told = _epoch_note(experiment.planned, quiet)
        done, reused = run_experiment(experiment, home, told, progress=progress)
        if reused:
            note(f"run {done.name} is this very training: not repeated (--no-resume trains again)", quiet)
        runs.append(done)
    seeds_record = seed_summary(runs)
    emit(
        {**runs[0].result, "seeds": seeds_record},
        as_json,
        lambda: [line for done in runs for line in result_lines(done)] + _seed_lines(seeds_record),
    )
    for done in runs:
        log_run(Context(home, quiet), done, trackers)


def _epoch_note(recipe: Recipe, quiet: bool) -> Callable[[int, Mapping[str, float]], None]:
    def told(epoch: int, figures: Mapping[str, float]) -> None:
        shown = ("loss", "accuracy", "val_loss", "val_accuracy")
        text = "  ".join(f"{name} {figures[name]:.4f}" for name in shown if name in figures)
        note(f"epoch {epoch}/{recipe.epochs}  {text}", quiet)

    return told


def published_text(recipe: Recipe) -> str:
    """The study's figures in a few characters."""
    if len(recipe.published) > 2:
        best = max(recipe.published, key=lambda published: published.accuracy)
        return f"{_figure(best)} ({best.label})"
    return ", ".join(map(_figure, recipe.published)) or "–"


def _figure(published: Published) -> str:
    high = "" if published.high is None else f" – {published.high:.4g}"
    return f"{published.accuracy:.4g}{high}"


def _does(recipe: Recipe, home: Home) -> list[dict[str, Any]]:
    """What is trained, and how: of a transfer experiment what each of its commands does."""
    if recipe.kind != "transfer":
        return [recipe.settings()]
    program = click.get_current_context().find_root().command
    return transfer_steps(program, recipe, home)


def _show_lines(recipe: Recipe, record: Mapping[str, Any]) -> list[str]:
    counts = [record[name] for name in ("params", "trainable_params", "frozen_params")]
    known = [f"{count:,}" if count is not None else "–" for count in counts]
    steps = record["steps"]
    does = _transfer_facts(steps) if recipe.kind == "transfer" else _training_facts(recipe)
    facts = [
        ("baseline", f"{recipe.name}: {recipe.summary}"),
        ("data", f"{recipe.data} at {steps[-1]['size']} px, {recipe.classes} classes"),
        ("params", f"{known[0]} ({known[1]} trainable, {known[2]} frozen)"),
        *does,
        *(
            ("published", f"{_figure(p)} on {p.part}{f' ({p.label})' if p.label else ''}{_took(p)}")
            for p in recipe.published
        ),
        ("ran there", _ran_text(recipe.ran) if recipe.ran else ""),
        ("source", recipe.source),
        *(("ours", line) for line in recipe.ours),
        *(("differs", line) for line in recipe.differs),
        *(("run with", line) for line in record["commands"]),
    ]
    return [f"{name:<10} {text}" for name, text in facts if text]


def _transfer_facts(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    facts = []
    for number, step in enumerate(steps, 1):
        first, *rest = step_lines(step)
        facts += [(f"{number} {step['command']}", first), *(("", line) for line in rest)]
    return facts


def _training_facts(recipe: Recipe) -> list[tuple[str, str]]:
    does = recipe.settings()
    return [
        ("network", recipe.network),
        ("pixels", f"normalised: {recipe.normalise}, augmentation: {recipe.augment}"),
        ("optimiser", optimiser_text(does["optimiser"])),
        ("training", f"{recipe.epochs} epochs at most, batch {recipe.batch_size}"),
        ("stops", stops_text(does["stops"])),
        ("plateau", plateau_text(does["reduce_lr"])),
        ("L2", f"{recipe.kernel_l2:g} on every kernel but the last" if recipe.kernel_l2 else ""),
        ("scored", scored_text(recipe.keep)),
        *(("sweep", f"{field}: {', '.join(values)}") for field, values in recipe.sweep),
        ("folds", f"{recipe.folds}-fold cross-validation" if recipe.folds else ""),
    ]


def _ran_text(ran: Ran) -> str:
    best = "" if ran.val_accuracy is None else f", validation accuracy {ran.val_accuracy:.4f} at best"
    return f"{ran.epochs} epochs{best}" + ("" if ran.best_epoch is None else f", in epoch {ran.best_epoch}")


def _took(published: Published) -> str:
    if published.seconds is None:
        return ""
    return f", trained in {published.seconds // 60}:{published.seconds % 60:02d} min there"


def _seed_lines(summary: Mapping[str, Any]) -> list[str]:
    if summary["spread"] is None:
        return []
    return [
        (
            f"seeds     {len(summary['runs'])} runs: test accuracy {summary['mean']:.4f}"
            f" ± {summary['spread']:.4f}; 95 % interval of the mean"
            f" {summary['low']:.4f} – {summary['high']:.4f}"
        )
    ]
