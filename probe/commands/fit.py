"""``probe fit HEAD [STORE]``: one subcommand per row of the table of heads.

Options are made from the head's options dataclass: its fields give names, types and defaults, its docstring
the help, so that a new head needs nothing here.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any, cast

import click

from probe.commands.completion import data_sets_and_stores
from probe.commands.options import emit, json_option, log_option, quiet_option
from probe.config import Home
from probe.errors import UsageError
from probe.heads import HEADS
from probe.heads.head import HeadRow
from probe.registry import load_object
from probe.report.runs import result_lines
from probe.runs import NotKeptError
from probe.workspace.context import Context
from probe.workspace.fit import FitKeywords, choose_store, fit
from probe.workspace.tracking import check_trackers, log_run


class HeadGroup(click.Group):
    """A subcommand per head, made when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(HEADS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        return _head_command(HEADS[name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Heads"):
            formatter.write_dl([(row.name, row.note) for row in HEADS.values()])


@click.group(name="fit", cls=HeadGroup)
def command() -> None:
    """Fit a head on a store. Choices are made on validation; the test split is scored once.

    STORE is a name from `probe stores ls` or a part of it, a path, ``latest`` or ``latest:2``, or a data set,
    of which the newest store is taken. By default it is the newest that has what is asked for.
    """


def _head_command(row: HeadRow) -> click.Command:
    options_class = load_object(row.options)
    fields = {field.name: field for field in dataclasses.fields(options_class)}
    refit_option = click.Option(
        ["--refit/--no-refit"], default=True, help="Fit the choice on train + validation."
    )

    def callback(store: str | None, as_json: bool, quiet: bool, **values: Any) -> None:
        options = options_class(**{name: values.pop(name) for name in fields})
        _fit(row, store, options, as_json, quiet, **values)

    params: list[click.Parameter] = [
        click.Argument(["store"], required=False, shell_complete=data_sets_and_stores),
        *(_option(options_class, field) for field in fields.values()),
        *([refit_option] if row.refits else []),
        *_common_options(),
    ]
    made = click.Command(row.name, callback=callback, params=params, help=f"{row.note}.", short_help=row.note)
    return quiet_option(json_option(log_option(made)))


def _common_options() -> list[click.Option]:
    """What every head takes: which features, which sizes of the training part."""
    return [
        click.Option(
            ["--output", "outputs"],
            type=CommaList(str),
            default=(),
            help="Stored outputs, side by side.  [default: the store's first]",
        ),
        click.Option(
            ["--views"],
            type=click.IntRange(min=0),
            default=0,
            help="Stored views of each training image to train on beside the plain one.",
        ),
        click.Option(["--average-views"], is_flag=True, help="Average test probabilities over stored views."),
        click.Option(
            ["--shots"],
            type=CommaList(str),
            default=(),
            help="Few-shot curve: images per class, such as 1,2,5,10,all.  [default: no curve]",
        ),
        click.Option(
            ["--train-fraction", "fractions"],
            type=CommaList(float),
            default=(),
            help="Learning curve: shares of the training part, such as 0.1,0.5,1.  [default: no curve]",
        ),
        click.Option(
            ["--repeats"],
            type=click.IntRange(min=1),
            default=5,
            help="Draws of each size of a curve.",
        ),
        click.Option(
            ["--drop-small-classes"],
            type=click.IntRange(min=1),
            metavar="N",
            help="Leave out classes of fewer than N training images.  [default: keep all]",
        ),
        click.Option(
            ["--dask"],
            metavar="ADDRESS",
            help="Fit folds and curves on a cluster, tcp://host:port.  [default: on this machine]",
        ),
        click.Option(
            ["--reuse"],
            is_flag=True,
            help="Give the finished run of this very fit, if there is one, in place of another.",
        ),
        click.Option(["--name"], help="What to call the run, so that commands find it.  [default: no name]"),
        click.Option(["--note"], help="What is to be said of the run.  [default: nothing]"),
        click.Option(
            ["--memory"],
            default="2GB",
            help="Features that take more than this, with what the fit holds beside them, are streamed from"
            " disk; a fit that needs more even so is refused.",
        ),
    ]


def _fit(
    row: HeadRow,
    store: str | None,
    options: Any,
    as_json: bool,
    quiet: bool,
    *,
    outputs: tuple[str, ...],
    fractions: tuple[float, ...],
    trackers: tuple[str, ...],
    **rest: Any,
) -> None:
    home = click.get_current_context().find_object(Home)
    assert home is not None  # the group made it
    check_trackers(trackers)
    context, wanted = Context(home, quiet), FitKeywords(output=outputs, train_fraction=fractions, **rest)
    try:
        run = fit(context, row, choose_store(context, store, wanted), wanted, options)
    except NotKeptError as error:
        lost = error.run
        emit(dict(lost.result), as_json, lambda: result_lines(lost))
        raise
    emit(dict(run.result), as_json, lambda: result_lines(run))
    log_run(context, run, trackers)


def _option(options_class: type, field: dataclasses.Field[Any]) -> click.Option:
    """A click option for one field: flags for bool, comma lists for tuples, plain values otherwise."""
    kind = _plain_type(typing.get_type_hints(options_class)[field.name])
    flag = "--" + field.name.replace("_", "-")
    text = _documented(options_class).get(field.name, "")
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", field.name], default=field.default, help=text)
    if typing.get_origin(kind) is tuple:
        # As a user would type it, so that the help shows it that way.
        typed = ",".join(map(str, cast(tuple[Any, ...], field.default)))
        item = typing.get_args(kind)[0]
        # What an empty list means stands in the text.
        return click.Option(
            [flag, field.name], type=CommaList(item), default=typed, show_default=bool(typed), help=text
        )
    if typing.get_origin(kind) is typing.Literal:
        choices = click.Choice([str(value) for value in typing.get_args(kind)])
        return click.Option([flag, field.name], type=choices, default=field.default, help=text)
    return click.Option([flag, field.name], type=kind, default=field.default, help=text)


def _documented(options_class: type) -> dict[str, str]:
    """Field -> its sentence in the ``Attributes`` section of the docstring, or of a base class's."""
    texts: dict[str, str] = {}
    for documented in reversed(options_class.__mro__[:-1]):
        section = inspect.cleandoc(documented.__doc__ or "").partition("Attributes\n----------\n")[2]
        name = ""
        for line in section.splitlines():
            if line.startswith(" ") and name:
                texts[name] += " " + line.strip()
            elif " : " in line:
                name, _, text = line.partition(" : ")
                texts[name] = text
    return {name: text.replace("``", "") for name, text in texts.items()}


def _plain_type(kind: Any) -> Any:
    """``X`` of ``X | None``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


class CommaList(click.ParamType):
    """``1024,512`` -> (1024, 512)."""

    name = "list"

    def __init__(self, item: type) -> None:
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(self.item(part) for part in value.split(",") if part)
        except ValueError:
            raise UsageError(
                f"{param.opts[0] if param else 'option'} takes a comma-separated list", found=value
            ) from None
