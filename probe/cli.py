"""The ``probe`` program: finds the command, and turns errors into a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from probe import __version__
from probe.commands.console import any_console, echo, say_error
from probe.commands.settings import command_context, is_on, read_settings, to_say
from probe.config import CONFIG_FILE, DEFAULT_HOME, read_config
from probe.errors import EXIT_FAILED, ProbeError, unknown_name
from probe.registry import load_object
from probe.signals import EXIT_UNHEARD, exit_code, wants_json

COMMANDS = {
    "extract": "Run a backbone over a data set once and store its embeddings.",
    "fit": "Fit a head on a store: logreg and others; the test split is scored once.",
    "survey": "Which features are good for these classes: backbones, outputs, heads in one table.",
    "finetune": "Train the upper part of a backbone from the cache of the lower.",
    "stores": "List, show, verify, repair, export, import and remove stores of embeddings.",
    "audit": "Say what is wrong with the data of a store, and what it does to the number.",
    "compare": "Say whether the difference between two runs is real.",
    "predict": "Predict new images with a run.",
    "export": "Write a run as one Keras or ONNX model, from pixels to probabilities.",
    "baseline": "Train the experiments of the studies from scratch, by name.",
    "sweep": "Train a recipe over a grid of its fields, with seeds and folds.",
    "reproduce": "Run a study and print published against measured.",
    "report": "Write one page to look at: figures, classes, mistakes, a map of the embeddings.",
    "plot": "Draw single figures of runs and stores: curves, confusion, map and others.",
    "points": "Write images as points for embedding-atlas, FiftyOne, DuckDB, TensorBoard.",
    "runs": "List, show and remove results.",
    "data": "List, fetch and check the data sets that have a name.",
    "backbones": "Name the backbones and their stages.",
    "heads": "Name the heads.",
    "doctor": "Say what this machine has and what probe would use.",
}
"""Name -> one line of help. The code is ``probe.commands.NAME:command``, imported only when it is called."""

COMPLETES = "_PROBE_COMPLETE"
"""Set where a shell asks for completions (click); the home is then the one that is set, too."""


class LazyGroup(click.Group):
    """Commands are imported when they are called, so that ``--help`` costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        command: click.Command = load_object(f"probe.commands.{name}:command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click would end with the code of a failure.
            raise click.exceptions.Exit(_unheard()) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
    },
)
@click.version_option(__version__, prog_name="probe")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(DEFAULT_HOME),
    show_default=True,
    help="Folder for data sets, weights, stores and runs (PROBE_HOME).",
)
@click.pass_context
def cli(ctx: click.Context, home: Path) -> None:
    """Extract image embeddings once, then fit, compare and fine-tune in seconds.

    \b
    probe extract --backbone efficientnet-lite0 photos/    images -> embeddings
    probe fit logreg                                       embeddings -> an honest number

    Options may also be set as PROBE_<COMMAND>_<OPTION> in the environment or in probe.toml.
    """
    from probe.config import Home

    ctx.obj = Home(home)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: the one place where an error becomes a message and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    any_console()
    try:
        code = run(arguments)
    except (KeyboardInterrupt, click.Abort) as stop:
        code = _failed(click.Abort(), exit_code(stop), arguments)
    except BrokenPipeError:
        code = _unheard()
    except (ProbeError, click.ClickException) as error:
        code = _failed(error, error.exit_code, arguments)
    except Exception as error:  # noqa: BLE001 - a traceback is not for users
        if os.environ.get("PROBE_DEBUG"):
            traceback.print_exc()
        code = _failed(error, EXIT_FAILED, arguments)
    sys.exit(code)


def _unheard() -> int:
    """The exit code where the reader of our output went away (``| head``): nobody is told anything more."""
    # Python would complain again at shutdown.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_UNHEARD


def _failed(error: Exception, code: int, arguments: list[str]) -> int:
    say_error(error, code, as_json=wants_json(arguments) or _json_is_set(arguments))
    return code


def _json_is_set(arguments: list[str]) -> bool:
    """Whether ``probe.toml`` or the environment asks for JSON; not where just they are what is wrong."""
    try:
        called = command_context(cli, arguments)
        settings = read_settings(cli, read_config(Path(CONFIG_FILE)), os.environ)
    except (ProbeError, click.ClickException):
        return False
    return called is not None and is_on(settings, called, "json")


def run(arguments: list[str] | None = None) -> int:
    """Run a command in this process; errors pass. Returns the exit code of one that finished."""
    words = sys.argv[1:] if arguments is None else arguments
    defaults: dict[str, Any] = {}
    called = command_context(cli, words)
    if called is not None or COMPLETES in os.environ:
        settings = read_settings(cli, read_config(Path(CONFIG_FILE)), os.environ)
        for line in to_say(settings, called) if called is not None else ():
            echo(line, err=True)
        defaults = settings.default_map()
    result = cli.main(words, prog_name="probe", standalone_mode=False, default_map=defaults)
    return result if isinstance(result, int) else 0
