"""``probe data``: the data sets that have a name."""

from __future__ import annotations

import click

from probe.commands.options import emit, json_option, table
from probe.datasets import DATASETS


@click.group(name="data")
def command() -> None:
    """Name the data sets and check them."""


@command.command()
@json_option
def ls(as_json: bool) -> None:
    """List the data sets that have a name; any folder or .npz works without one."""
    rows = [
        {
            "dataset": row.name,
            "images": row.images,
            "classes": row.classes,
            "megabytes": round(sum(file.bytes for file in row.files) / 1e6),
            "licence": row.licence,
            "summary": row.summary,
        }
        for row in DATASETS.values()
    ]
    header = ("data set", "images", "classes", "MB", "what it is")
    cells = [[row[key] for key in ("dataset", "images", "classes", "megabytes", "summary")] for row in rows]
    emit(rows, as_json, lambda: table(header, cells))
