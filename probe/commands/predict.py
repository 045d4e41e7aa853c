"""``probe predict``: a run on new images."""

from __future__ import annotations

import csv
import json
import sys

import click

from probe.commands.completion import runs
from probe.commands.options import follow_links_option, note, quiet_option
from probe.config import Home
from probe.errors import EXIT_DONE, EXIT_UNREADABLE
from probe.plain import cell, one_line
from probe.workspace.context import Context
from probe.workspace.predict import predict_each
from probe.workspace.runs import take_run


@click.command(name="predict")
@click.argument("run", shell_complete=runs)
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line in place of CSV.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Local processes, one per GPU when there are several.",
)
@follow_links_option
@quiet_option
@click.pass_obj
def command(
    home: Home, run: str, paths: tuple[str, ...], as_json: bool, jobs: int, follow_links: bool, quiet: bool
) -> int:
    """Predict images with a RUN of `probe fit`, `probe finetune` or `probe baseline run`.

    RUN is ``latest`` for the newest. PATHS are image files, folders, .txt lists of files (relative to the
    list's folder), and - for standard input, one path a line. Prints id, class, probability and the five most
    probable classes; a text that a spreadsheet would take for a formula has a ' before it. Images that cannot
    be read are named on stderr and end the command with exit code 4.
    """
    from probe.fit import STDIN

    context = Context(home, quiet)
    stdin = sys.stdin.buffer if STDIN in paths else None
    predictions = predict_each(
        context, take_run(context, run), paths, follow_links=follow_links, jobs=jobs, stdin=stdin
    )
    unreadable = 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, prediction in enumerate(predictions):
        if prediction.problem is not None:
            unreadable += 1
            note(f"{prediction.id}: {prediction.problem}")
        if as_json:
            click.echo(json.dumps(prediction.to_json()))
            continue
        if number == 0:
            writer.writerow(("id", "class", "probability", "top5"))
        top5 = ";".join(f"{name}={value:.4f}" for name, value in prediction.top5)
        row = (shown(prediction.id), shown(prediction.label), prediction.probability, shown(top5))
        writer.writerow(row)
    return EXIT_UNREADABLE if unreadable else EXIT_DONE


def shown(text: str | None) -> str:
    """A cell of the table: no formula, and on a terminal one line without control characters."""
    text = text or ""
    return str(cell(one_line(text) if sys.stdout.isatty() else text))
