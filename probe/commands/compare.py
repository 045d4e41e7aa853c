"""``probe compare``: is the difference between runs real?"""

from __future__ import annotations

import click

from probe.commands.options import emit, json_option
from probe.config import Home
from probe.errors import UsageError
from probe.runs import find_run


@click.command(name="compare")
@click.argument("runs", metavar="RUN RUN [RUN…]", nargs=-1)
@json_option
@click.pass_obj
def command(home: Home, runs: tuple[str, ...], as_json: bool) -> None:
    """Compare runs on the test images they share: paired bootstrap interval and exact McNemar test.

    Of three or more runs every pair is compared, with Holm's correction for looking so often. ``latest`` and
    ``latest:2`` name the newest run and the one before it.
    """
    from probe.fit import compare, compare_all

    if len(runs) < 2:
        raise UsageError("there is nothing to compare", expected="two runs or more", hint="probe runs ls")
    found = [find_run(home, name) for name in runs]
    if len({run.name for run in found}) < len(found):
        raise UsageError("a run is named twice", found=", ".join(run.name for run in found))
    if len(found) > 2:
        pairs = compare_all(found)
        record = {"runs": [run.name for run in found], "pairs": [pair.to_json() for pair in pairs]}
        shown = [
            f"{pair.comparison.verdict}; after correction p = {pair.p_adjusted:.2g}"
            + ("" if pair.shown else ", not shown")
            for pair in pairs
        ]
        emit(record, as_json, lambda: [*shown, f"({pairs[0].comparison.n:,} test images in common)"])
        return
    first, second = found
    comparison = compare(first, second)
    one = {"a": first.name, "b": second.name, **comparison.to_json()}
    emit(one, as_json, lambda: [comparison.verdict, f"({comparison.n:,} test images in common)"])
