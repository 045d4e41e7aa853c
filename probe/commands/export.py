"""``probe export``: a run as one model file."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.completion import runs
from probe.commands.options import emit, json_option, quiet_option
from probe.config import Home
from probe.workspace.context import Context
from probe.workspace.runs import take_run


@click.command(name="export")
@click.argument("run", shell_complete=runs)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["keras", "onnx"]),
    default="keras",
    show_default=True,
    help="ONNX needs the extra: pip install 'probe[onnx]'.",
)
@click.option(
    "--output-file",
    type=click.Path(path_type=Path),
    help="Where to write; by default RUN.keras or RUN.onnx here.",
)
@json_option
@quiet_option
@click.pass_obj
def command(home: Home, run: str, kind: str, output_file: Path | None, as_json: bool, quiet: bool) -> None:
    """Write a RUN (``latest`` for the newest) as one model: preprocessing, backbone and head.

    Of `probe finetune` and `probe baseline run` it is preprocessing and the trained network. It takes RGB
    pictures (B, S, S, 3) with values from 0 to 255 and gives class probabilities (B, C). The class names go
    into a JSON file beside it, and a model card for people. Heads that are no network (knn, majority) cannot
    be exported.
    """
    from probe.fit.export import export

    written = export(take_run(Context(home, quiet), run), home, kind, output_file)
    side = written.facts["input"]["shape"][1]
    emit(
        written.to_json(),
        as_json,
        lambda: [
            f"model     {written.model}",
            f"classes   {written.description}",
            f"card      {written.card}",
            f"input     RGB from 0 to 255, (batch, {side}, {side}, 3)",
            f"output    probabilities (batch, {len(written.facts['classes'])})",
        ],
    )
