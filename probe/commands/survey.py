"""``probe survey``: backbones × outputs × heads on one data set, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from probe.commands.completion import data_sets, several_backbones, several_heads
from probe.commands.options import (
    comma_list,
    dataset_options,
    emit,
    emit_table,
    json_option,
    note,
    quiet_option,
    table_options,
)
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.errors import EXIT_DONE, EXIT_FAILED, EXIT_UNREADABLE
from probe.workspace.context import Context
from probe.workspace.keywords import read_keywords
from probe.workspace.survey import SurveyKeywords, plan_survey, survey


@click.command(name="survey")
@click.argument("dataset", shell_complete=data_sets)
@click.option(
    "--backbones",
    required=True,
    shell_complete=several_backbones,
    metavar="A,B,…",
    callback=comma_list,
    help="Names from `probe backbones`, .keras or .onnx files, or RUNs of `probe finetune`.",
)
@click.option(
    "--outputs",
    metavar="A,B,…",
    callback=comma_list,
    help="Layers or stages, NAME:map for a feature map; a backbone that lacks one does without."
    "  [default: the backbone's pooled features]",
)
@click.option(
    "--heads",
    shell_complete=several_heads,
    metavar="A,B,…",
    callback=comma_list,
    help="Names from `probe heads`.  [default: logreg]",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Side of every network's input, pixels.  [default: the backbone's own]",
)
@click.option(
    "--preprocess",
    help="Value convention of backbones that do not say theirs, as .keras files.  [default: none]",
)
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, random or random:SEED.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True
)
@click.option("--engine", default="auto", show_default=True, help="What computes the networks.")
@click.option("--exif", is_flag=True, help="Turn images as their EXIF orientation says.")
@click.option(
    "--budget",
    metavar="SHARE",
    help="Race on growing parts of the images, at most this share of all image passes, such as 20%."
    "  [default: no race, all images]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Order of the images in a race.")
@click.option("--dry-run", is_flag=True, help="Say what would be computed and what is there.")
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw accuracy against cost: a .png, .svg or .pdf file.  [default: none]",
)
@table_options
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    dataset: str,
    options: DatasetOptions,
    dry_run: bool,
    figure: Path | None,
    form: str | None,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> int:
    """Which features are good for the classes of DATASET: backbones × outputs × heads, in one table.

    A row has the test accuracy with its interval, and what the features cost. Rows that cannot be told from
    the best are marked: all pairs are tested on the same images, with Holm's correction, as `probe compare`
    does. Stores and fits that are there are used, so that the same command goes on where it was stopped. A
    backbone that cannot be had fails its rows, and not the survey (exit code 1). With --budget what is shown
    to be worse on a part of the images drops out, see docs/survey.md.
    """
    context, wanted = Context(home, quiet), read_keywords(SurveyKeywords, choices)
    if figure is not None:
        from probe.drawing import check_format

        check_format(figure)
    plan = plan_survey(context, dataset, wanted, options)
    if dry_run:
        emit(plan.to_json(), as_json, plan.lines)
        return EXIT_DONE
    for line in plan.lines():
        context.say(line)
    found = survey(context, plan)
    if form is not None:
        emit_table(found.table if form == "csv" else found.shown(), form)
    else:
        emit({**found.to_json(), "figure": figure and str(figure)}, as_json, found.lines)
    if figure is not None:
        note(f"figure {figure}: {found.figure(figure)} of {len(found.rows)} rows", quiet)
    if found.failed:
        return EXIT_FAILED
    return EXIT_UNREADABLE if found.unreadable else EXIT_DONE
