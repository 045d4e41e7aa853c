"""``probe heads``: the table of heads."""

from __future__ import annotations

import click

from probe.commands.options import (
    emit,
    json_option,
)
from probe.heads import HEADS
from probe.text import table


@click.command(name="heads")
@json_option
def command(as_json: bool) -> None:
    """Name the heads that `probe fit` knows."""
    rows = [{"head": row.name, "note": row.note} for row in HEADS.values()]
    emit(rows, as_json, lambda: table(("head", "what it is"), [(r["head"], r["note"]) for r in rows]))
