"""``probe data``: the data sets that have a name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from probe.commands.completion import data_set_names
from probe.commands.options import (
    emit,
    json_option,
    quiet_option,
    set_record,
    whole_dataset_options,
)
from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.check import check as check_row
from probe.errors import EXIT_DONE, EXIT_VERIFY
from probe.progress import Progress
from probe.text import count_of, few, rows_table
from probe.units import count_groups
from probe.workspace.context import Context
from probe.workspace.data import fetch as fetch_row
from probe.workspace.rows import dataset_facts, dataset_row


@click.group(name="data")
def command() -> None:
    """List, fetch and check the data sets that have a name."""


@command.command()
@json_option
@click.pass_obj
def ls(home: Home, as_json: bool) -> None:
    """List the data sets that have a name; any folder or .npz works without one."""
    rows = [dataset_facts(row, home) for row in DATASETS.values()]
    emit(rows, as_json, lambda: rows_table(map(dataset_row, rows)))


@command.command()
@click.argument("name", shell_complete=data_set_names)
@json_option
@quiet_option
@click.pass_obj
def fetch(home: Home, name: str, as_json: bool, quiet: bool) -> None:
    """Download the data set NAME, check its hash and unpack it; an interrupted download is resumed."""
    path = fetch_row(Context(home, quiet), DATASETS[name])
    emit({"dataset": name, "path": str(path)}, as_json, lambda: [f"{name}  {path}"])


@command.command()
@click.argument("name", shell_complete=data_set_names)
@whole_dataset_options
@json_option
@click.pass_obj
def check(home: Home, name: str, options: DatasetOptions, as_json: bool) -> int:
    """Count classes, images and splits of NAME against what is declared; exit code 3 when they differ."""
    with Progress(f"read {name}"):
        dataset = open_dataset(name, home, options)
    differences = check_row(DATASETS[name], dataset) if name in DATASETS else []
    record = {
        "dataset": dataset.name,
        "ok": not differences,
        "images": len(dataset),
        **set_record(dataset),
        "groups": count_groups(dataset.groups),
        "differences": [asdict(difference) for difference in differences],
        "facts": dict(dataset.facts),
        "notes": list(dataset.notes),
    }
    emit(record, as_json, lambda: _check_lines(record))
    return EXIT_DONE if record["ok"] else EXIT_VERIFY


def _check_lines(record: dict[str, Any]) -> list[str]:
    parts = ", ".join(f"{name} {count:,}" for name, count in record["parts"].items())
    differs = [(d["what"], d["expected"], d["found"]) for d in record["differences"]]
    return [
        f"{'ok' if record['ok'] else 'DIFFERS'}  {record['dataset']}",
        f"images   {record['images']:,} in {count_of(record['classes'], 'class', 'classes')}: {parts}",
        f"classes  {few(record['class_names']) or 'none'}",
        *([f"groups   {record['groups']:,}"] if record["groups"] else []),
        *(f"differs  {what}: expected {expected}, found {found}" for what, expected, found in differs),
        *(f"note     {line}" for line in record["notes"]),
    ]
