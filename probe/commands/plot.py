"""``probe plot``: figures of runs."""

from __future__ import annotations

from pathlib import Path

import click

from probe.commands.options import emit, json_option
from probe.config import Home


@click.group(name="plot")
def command() -> None:
    """Figures of runs: training curves over one another."""


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("curves.png"),
    show_default=True,
    help="File to write: .png, .svg or .pdf.",
)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    help="Factor of the moving average that is drawn over the values; 0: none."
    "  [default: 0.8 over trainings of 25 epochs and more]",
)
@click.option("--title", default="", help="Above the figure.  [default: none]")
@json_option
@click.pass_obj
def curves(
    home: Home, names: tuple[str, ...], output: Path, smoothing: float | None, title: str, as_json: bool
) -> None:
    """Draw the training curves of runs over one another: loss and accuracy, training and validation.

    RUN is a name from `probe runs ls` or a part of it, a path, ``latest`` or ``latest:2``, of a run that was
    trained epoch by epoch (`probe finetune`, `probe baseline run`, `probe fit dense` and `conv`), or a folder
    of PROBE_HOME/sweeps, whose settings are drawn. The epoch that was kept is marked.
    """
    from probe.curves import SMOOTH_FROM, SMOOTHING, check_format, plot_curves
    from probe.report.overlay import find_courses

    check_format(output)
    courses = find_courses(home, names)
    plot_curves(
        courses,
        output,
        title=title,
        smoothing=SMOOTHING if smoothing is None else smoothing,
        # A factor that is asked for is used on short trainings too.
        smooth_from=SMOOTH_FROM if smoothing is None else 2,
    )
    record = {
        name: {"epochs": max(map(len, course.history.values()), default=0), "kept": course.kept}
        for name, course in courses.items()
    }
    emit({"file": str(output), "runs": record}, as_json, lambda: [str(output)])
