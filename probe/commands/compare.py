"""``probe compare``: is the difference between two runs real?"""

from __future__ import annotations

import click

from probe.commands.options import emit, json_option
from probe.config import Home
from probe.runs import find_run


@click.command(name="compare")
@click.argument("a", metavar="RUN")
@click.argument("b", metavar="RUN")
@json_option
@click.pass_obj
def command(home: Home, a: str, b: str, as_json: bool) -> None:
    """Compare two runs on the test images they share: paired bootstrap interval and exact McNemar test."""
    from probe.fit import compare

    first, second = find_run(home, a), find_run(home, b)
    found = compare(first, second)
    record = {"a": first.name, "b": second.name, **found.to_json()}
    emit(record, as_json, lambda: [found.verdict, f"({found.n:,} test images in common)"])
