"""``probe backbones``: the table of backbones."""

from __future__ import annotations

import click

from probe.backbones import BACKBONES
from probe.commands.options import (
    emit,
    json_option,
)
from probe.text import table


@click.command(name="backbones")
@json_option
def command(as_json: bool) -> None:
    """Name the backbones, their input, width, stages and weights.

    Any other keras.applications name and any .keras file can be given to --backbone as well.
    """
    rows = [
        {
            "backbone": row.name,
            "size": row.size,
            "width": row.width,
            "preprocess": row.preprocess,
            "stages": dict(row.stages),
            "licence": row.licence,
            "note": row.note,
        }
        for row in BACKBONES.values()
    ]
    header = ("backbone", "size", "width", "preprocess", "what it is")
    cells = [[row[key] for key in ("backbone", "size", "width", "preprocess", "note")] for row in rows]
    emit(rows, as_json, lambda: table(header, cells))
