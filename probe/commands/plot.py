"""``probe plot``: single figures of runs and stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from probe.commands.completion import runs
from probe.commands.options import emit, json_option, map_option
from probe.config import Home
from probe.workspace.context import Context


@click.group(name="plot")
def command() -> None:
    """Single figures for papers, in one style: .png, .svg or .pdf as the file is called."""


def _file_option(default: str) -> Callable[[Any], Any]:
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        help="File to write: .png, .svg or .pdf.",
    )


_title_option = click.option(
    "--title", default="", show_default=False, help="Above the figure.  [default: none]"
)


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN...", shell_complete=runs)
@_file_option("curves.png")
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    help="Factor of the moving average that is drawn over the values; 0: none."
    "  [default: 0.8 over trainings of 25 epochs and more]",
)
@_title_option
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
    from probe.curves import SMOOTH_FROM, SMOOTHING, plot_curves
    from probe.drawing import check_format
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


def _add(name: str, metavar: str, text: str, *options: Callable[[Any], Any]) -> None:
    """A command that draws one figure of `probe.report.plots`."""

    @json_option
    @_title_option
    @_file_option(f"{name}.png")
    @click.argument("names", nargs=-1, metavar=metavar, shell_complete=runs)
    @click.pass_obj
    def drawn(home: Home, names: tuple[str, ...], output: Path, as_json: bool, **how: str) -> None:
        from probe.workspace.plot import plot

        written = plot(Context(home), name, names, output, **how)
        emit({"file": str(written)}, as_json, lambda: [str(written)])

    for option in options:
        drawn = option(drawn)
    command.command(name=name, help=text)(drawn)


_colour_option = click.option(
    "--colour",
    type=click.Choice(["class", "split", "correct"]),
    default="class",
    show_default=True,
    help="What points are coloured by; `correct` is of the test images of a RUN.",
)

_add("confusion", "[RUN]", "Draw the confusion matrix of the test images of a RUN (by default the newest).")
_add(
    "map",
    "[RUN|STORE]",
    "Draw the embeddings of a STORE, or of that of a RUN (by default the newest), in two dimensions.",
    map_option,
    _colour_option,
)
_add(
    "path",
    "[RUN]...",
    "Draw accuracy over the values that RUNs have tried, such as C; the kept one is ringed.",
)
_add("few-shot", "[RUN]...", "Draw test accuracy over the number of training images (`probe fit --shots`).")
_add(
    "reliability",
    "[RUN]...",
    "Draw accuracy over confidence: of one RUN before and after temperature, of several as they predicted.",
)
_add(
    "per-class",
    "[RUN]",
    "Draw the share of the test images that is right, class by class, with its interval.",
)
_add("samples", "[RUN|STORE]", "Draw training images of a STORE, or of that of a RUN, a row a class.")
