"""``probe reproduce``: a study, published against measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.commands.options import (
    emit,
    json_option,
    limit_option,
    note,
    quiet_option,
    wants_progress,
)
from probe.commands.training import epochs_option, precision_option, say_precision
from probe.commands.transfer import TransferCommands
from probe.config import Home
from probe.errors import UsageError
from probe.text import table


@click.command(name="reproduce")
@click.argument("study", required=False)
@click.option("--quick", is_flag=True, help="Scaled down: few epochs and images, to see everything work.")
@click.option(
    "--data-map",
    "mapped",
    multiple=True,
    metavar="NAME=DATASET",
    help="Use another data set in place of a study's, such as cifar10=fashion-mnist; repeatable."
    "  [default: none]",
)
@epochs_option
@limit_option
@precision_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report: .html or .md.  [default: none]",
)
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    study: str | None,
    quick: bool,
    mapped: Sequence[str],
    epochs: int | None,
    limit: int | None,
    precision: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run every experiment of a STUDY (by default of all) and print published against measured.

    STUDY is a name from `probe baseline list` before the slash, or one experiment. Every experiment is
    accounted for; what cannot be run here is said with the reason. What has been trained before with the same
    recipe and data is not repeated, so an interrupted reproduction goes on where it was.

    An experiment on a pretrained network is a few lines of `probe extract`, `probe fit` and `probe finetune`
    (`probe baseline show NAME`); they are run here one after the other.
    """
    from probe.report.reproduction import HEADINGS, cells, check_suffix, counts, write_report
    from probe.studies.reproduce import QUICK_EPOCHS, QUICK_LIMIT, Plan, recipes_of, reproduce

    if output is not None:
        check_suffix(output)
    recipes = recipes_of(study)
    plan = Plan(
        data=data_map(mapped),
        epochs=epochs or (QUICK_EPOCHS if quick else None),
        limit=limit or (QUICK_LIMIT if quick else None),
        precision=say_precision(precision, quiet),
    )
    if plan.scaled_down:
        note(f"scaled down: {plan.scaled_down}; the figures say nothing about the study", quiet)
    verdicts = []
    program = click.get_current_context().find_root().command
    transfer = TransferCommands(program, home, plan, precision, quiet)
    for verdict in reproduce(recipes, plan, home, transfer, progress=wants_progress(quiet)):
        name, _, measured, said, _ = cells(verdict)
        note(f"{name}: {measured if verdict.measured is not None else ''} {said}".replace("  ", " "), quiet)
        verdicts.append(verdict)
    if output is not None:
        title = f"probe reproduce {study or '(every study)'}"
        write_report(
            verdicts,
            output,
            title + (f", scaled down: {plan.scaled_down}" if plan.scaled_down else ""),
            home,
        )
    records = [_record(asdict(verdict)) for verdict in verdicts]
    emit(
        {"study": study, "scaled_down": plan.scaled_down or None, "rows": records},
        as_json,
        lambda: [
            *table(HEADINGS, [cells(verdict) for verdict in verdicts]),
            counts(verdicts),
            *([f"report    {output}"] if output else []),
        ],
    )


def data_map(pairs: Sequence[str]) -> dict[str, str]:
    """``["cifar10=fashion-mnist"]`` -> {"cifar10": "fashion-mnist"}."""
    found = {}
    for pair in pairs:
        name, equals, dataset = pair.partition("=")
        if not (name and equals and dataset):
            raise UsageError("--data-map is not a pair", expected="NAME=DATASET", found=pair)
        found[name] = dataset
    return found


def _record(verdict: dict[str, Any]) -> dict[str, Any]:
    curves = verdict["curves"]
    return {**verdict, "curves": None if curves is None else str(curves)}
