"""The command lines of a transfer experiment, run in this process one after the other.

It is the commands that run, with all that they do. What the environment and ``probe.toml`` say of their
options is left out: an experiment is what its lines say.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import note
from probe.config import Home, canonical_json, own_place
from probe.order import one_at_a_time
from probe.runs import Run, open_run

if TYPE_CHECKING:
    from probe.studies.recipe import Recipe
    from probe.studies.reproduce import Plan

EPOCHS = ("epochs", "head_epochs")


@dataclass(frozen=True)
class TransferCommands:
    """Runs transfer experiments; a `probe.studies.reproduce.Transfer`.

    Attributes
    ----------
    program : ``probe`` itself, which has the commands.
    plan : how far they are scaled down: images and epochs.
    precision : as ``--precision`` takes it; heads have none.
    """

    program: click.Command
    home: Home
    plan: Plan
    precision: str
    quiet: bool

    def __call__(self, recipe: Recipe, data: str) -> Run:
        """Run `recipe.commands` on the data set `data`; the run that the last of them has kept.

        Each line works on the store that the line before it made or reused, not on the newest there is.
        Raises what the commands raise.
        """
        store: str | None = None
        answer: Mapping[str, Any] = {}
        for line in recipe.commands:
            note(f"{recipe.name}: {line}", self.quiet)
            context = parse_line(self.program, line, self.home)
            context.params.update(self._changes(context.params, data, store))
            with _alone(self.home, context):
                answer = _answer(context)
            store = store if "run" in answer else answer["store"]
        return open_run(self.home.runs / answer["run"])

    def _changes(self, params: Mapping[str, Any], data: str, store: str | None) -> dict[str, Any]:
        """What is asked for beyond the line itself, of the options that its command has."""
        most = self.plan.epochs
        wanted = {
            # A line that names no data set takes that of its store.
            "dataset": data if params.get("dataset") else None,
            "store": store,
            "limit": self.plan.limit,
            "precision": self.precision,
            "resume": True,
            "reuse": True,
            "as_json": True,
            "quiet": self.quiet,
            **{name: min(params[name], most) for name in EPOCHS if most and name in params},
        }
        return {name: value for name, value in wanted.items() if name in params and value is not None}


def parse_line(program: click.Command, line: str, home: Home) -> click.Context:
    """The context in which ``probe …`` as typed would run, its options read.

    click.UsageError or UnknownNameError when there is no such command or option.
    """
    name, *words = shlex.split(line)
    # Without a default map no option is taken from the environment or the file.
    context = click.Context(program, info_name=name, obj=home, **program.context_settings)
    while isinstance(context.command, click.Group):
        _, command, words = context.command.resolve_command(context, words)
        assert command is not None  # an unknown name is an error
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=command.name, parent=context)
        else:
            context = command.make_context(command.name, words, parent=context)
    return context


@contextmanager
def _alone(home: Home, context: click.Context) -> Iterator[None]:
    """Let no other process extract the same at the same time: what waits finds the store finished."""
    if context.command.name != "extract":
        yield
        return
    options = canonical_json({name: str(value) for name, value in context.params.items()})
    folder = own_place(home.cache, "extracting", hashlib.sha256(options.encode()).hexdigest()[:16])
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        yield


def _answer(context: click.Context) -> dict[str, Any]:
    """What the command prints with ``--json``."""
    printed = io.StringIO()
    with redirect_stdout(printed), context:
        context.command.invoke(context)
    answer: dict[str, Any] = json.loads(printed.getvalue())
    return answer
