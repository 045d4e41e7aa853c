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
    """Compare runs on the test images they share: score test and the interval that belongs to it.

    Of three or more runs every pair is compared, with Holm's correction for looking so often in test and
    interval. Images of one group count as the group they are. ``latest`` and ``latest:2`` name the newest run
    and the one before it.
    """
    from probe.fit import compare, compare_all, compared_on

    if len(runs) < 2:
        raise UsageError("there is nothing to compare", expected="two runs or more", hint="probe runs ls")
    found = [find_run(home, name) for name in runs]
    if len({run.name for run in found}) < len(found):
        raise UsageError("a run is named twice", found=", ".join(run.name for run in found))
    if len(found) > 2:
        pairs, notes = compare_all(found), compared_on(found)
        several = {"runs": [run.name for run in found], "pairs": [pair.to_json() for pair in pairs]}
        verdicts = [pair.comparison.verdict for pair in pairs]
        emit({**several, "notes": notes}, as_json, lambda: [*verdicts, *_lines(notes)])
        return
    first, second = found
    comparison, notes = compare(first, second), compared_on(found)
    one = {"a": first.name, "b": second.name, **comparison.to_json(), "notes": notes}
    emit(one, as_json, lambda: [comparison.verdict, *_lines(notes)])


def _lines(notes: list[str]) -> list[str]:
    return [f"({note})" for note in notes]
