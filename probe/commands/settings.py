"""Options set in ``probe.toml`` and in the environment: all of it is checked, and what applies is said.

A table of the file is a command and a key an option with underscores, ``[fit.logreg]`` ``c = 1``; a variable
is both in one, ``PROBE_FIT_LOGREG_C``. Both reach click as its default map, the environment before the file.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from click.core import ParameterSource

from probe.config import CONFIG_FILE
from probe.errors import LISTED, ProbeError, UsageError

PREFIX = "PROBE_"
HOME = "PROBE_HOME"
NO_OPTIONS = ("PROBE_DEBUG", "PROBE_FAILPOINT")
"""Variables that are read elsewhere."""
REACHING = {
    *("backbone", "dask", "data", "data_map", "follow_links", "log", "preprocess"),
    *("study", "weights", "yes"),
}
"""Options by which a file that came with a folder could reach outside of it, or delete; besides, all that are
a path and all arguments."""
HELP = {"-h", "--help", "--version"}

Command = tuple[str, ...]
"""The words of a command: ``("fit", "logreg")``; empty for ``probe`` itself."""


@dataclass(frozen=True)
class Setting:
    """One option that is set.

    Attributes
    ----------
    source : the name of the file or of the variable.
    command, key : whose option it is, and its own name.
    option : the option itself.
    value : as it was written.
    """

    source: str
    command: Command
    key: str
    option: click.Parameter
    value: Any

    @property
    def reaches(self) -> bool:
        """Whether it comes with the working folder and says where things are read, sent, kept or removed."""
        place = isinstance(self.option, click.Argument) or isinstance(self.option.type, click.Path)
        return self.source == CONFIG_FILE and (place or self.key in REACHING)

    def __str__(self) -> str:
        name = f"{'.'.join(self.command)} {self.key}".strip()
        return f"{self.source}: {name} = {json.dumps(self.value, ensure_ascii=False, default=str)}"


@dataclass
class Settings:
    """All that is set: command -> name of the parameter -> setting."""

    of: dict[Command, dict[str, Setting]] = field(default_factory=dict)

    def add(self, setting: Setting) -> None:
        """Take one that replaces an earlier one; UsageError when its value is none of the option."""
        _check(setting)
        self.of.setdefault(setting.command, {})[str(setting.option.name)] = setting

    def default_map(self) -> dict[str, Any]:
        """As click takes it: tables in tables, keys as parameters are called."""
        found: dict[str, Any] = {}
        for command, settings in self.of.items():
            table = found
            for word in command:
                table = table.setdefault(word, {})
            table |= {name: _typed(setting) for name, setting in settings.items()}
        return found

    def applied(self, context: click.Context) -> list[Setting]:
        """What holds for the command of `context`: what is set and not given on its line."""
        found: list[Setting] = []
        step: click.Context | None = context
        while step is not None:
            given = step.get_parameter_source
            mine = self.of.get(_words(step), {}).items()
            found = [s for name, s in mine if given(name) is not ParameterSource.COMMANDLINE] + found
            step = step.parent
        return found


def read_settings(program: click.Group, table: Mapping[str, Any], variables: Mapping[str, str]) -> Settings:
    """What the contents of ``probe.toml`` and the environment set; UsageError for whatever is no setting."""
    settings, context = Settings(), click.Context(program, info_name="probe")
    _read_table(settings, context, table)
    for variable, text in variables.items():
        if variable.startswith(PREFIX) and variable not in NO_OPTIONS:
            found = _find_variable(context, variable.removeprefix(PREFIX))
            if found is None:
                raise _unknown_variable(context, variable)
            step, key, option = found
            if text:
                settings.add(Setting(variable, _words(step), key, option, text))
    return settings


def to_say(settings: Settings, context: click.Context) -> list[str]:
    """A line for every setting that holds for a command, but not for PROBE_HOME.

    With --quiet only those that reach outside: a folder that is handed on may have a file of settings.
    """
    quiet = context.params.get("quiet") or is_on(settings, context, "quiet")
    return [
        f"from {setting}"
        for setting in settings.applied(context)
        if setting.source != HOME and (setting.reaches or not quiet)
    ]


def is_on(settings: Settings, context: click.Context, switch: str) -> bool:
    """Whether a switch is set for a command, and not on its line."""
    applied = (setting for setting in settings.applied(context) if setting.key == switch)
    return any(setting.option.type_cast_value(context, _typed(setting)) for setting in applied)


def command_context(program: click.Group, arguments: Sequence[str]) -> click.Context | None:
    """The command that a line calls, its options read as far as they can be; None where it asks for help."""
    words = list(arguments)
    if HELP & set(words[: words.index("--")] if "--" in words else words):
        return None
    context = click.Context(program, info_name="probe", resilient_parsing=True, **program.context_settings)
    while isinstance(context.command, click.Group):
        values, words, _ = context.command.make_parser(context).parse_args(words)
        for name in values:
            context.set_parameter_source(name, ParameterSource.COMMANDLINE)
        command = context.command.get_command(context, words[0]) if words else None
        if command is None:
            return None
        name, *words = words
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=context, resilient_parsing=True)
        else:
            context = command.make_context(name, words, parent=context, resilient_parsing=True)
    return context


def _words(context: click.Context) -> Command:
    words: list[str] = []
    while context.parent is not None:
        words.append(str(context.info_name))
        context = context.parent
    return tuple(words[::-1])


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """Key -> option: as the flag is spelt, with underscores; arguments by their own name."""
    found = {}
    for option in command.params:
        if option.expose_value and not (isinstance(option, click.Option) and option.is_eager):
            long = max(option.opts, key=len) if isinstance(option, click.Option) else str(option.name)
            found[long.lstrip("-").replace("-", "_")] = option
    return found


def _subcommands(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    """Every subcommand, imported when it is reached."""
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            yield name, _enter(context, name)


def _enter(context: click.Context, name: str) -> click.Context:
    assert isinstance(context.command, click.Group)
    command = context.command.get_command(context, name)
    assert command is not None  # it is in the list
    return click.Context(command, info_name=name, parent=context)


def _names(context: click.Context) -> list[str]:
    return context.command.list_commands(context) if isinstance(context.command, click.Group) else []


def _read_table(settings: Settings, context: click.Context, table: Mapping[str, Any]) -> None:
    options, where = _options(context.command), ".".join(_words(context))
    for key, value in table.items():
        if key in _names(context):
            if not isinstance(value, dict):
                raise UsageError(
                    f"{CONFIG_FILE}: {key} is a command, and not an option",
                    expected=f"a table [{'.'.join((*_words(context), key))}] of its options",
                    found=f"{key} = {json.dumps(value, default=str)}",
                )
            _read_table(settings, _enter(context, key), value)
        elif key in options:
            settings.add(Setting(CONFIG_FILE, _words(context), key, options[key], value))
        else:
            raise _unknown_key(context, key, where)


def _find_variable(context: click.Context, rest: str) -> tuple[click.Context, str, click.Parameter] | None:
    """The option that ``FIT_LOGREG_C`` means; only commands whose names it begins with are imported."""
    for key, option in _options(context.command).items():
        if key.upper() == rest:
            return context, key, option
    for name in _names(context):
        start = name.replace("-", "_").upper() + "_"
        if rest.startswith(start):
            found = _find_variable(_enter(context, name), rest.removeprefix(start))
            if found is not None:
                return found
    return None


def _every(context: click.Context) -> Iterator[tuple[Command, str]]:
    """(command, key) of all options from here on."""
    for key in _options(context.command):
        yield _words(context), key
    for _, below in _subcommands(context):
        yield from _every(below)


def _unknown_key(context: click.Context, key: str, where: str) -> UsageError:
    """The error for a key that is no option here: the nearest one here, or the commands that have it."""
    known = [*_options(context.command), *_names(context)]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else None
    if not near:
        root = context.find_root()
        owners = [".".join(command) for command, name in _every(root) if name == key]
        sisters = [name for name in owners if where and name.startswith(f"{where.partition('.')[0]}.")]
        places = [f"[{name}]" for name in (sisters or owners)[:6]]
        hint = f"it belongs to {', '.join(places)}" if places else None
    table = f"[{where}] has" if where else "there is"
    return UsageError(
        f"{CONFIG_FILE}: {table} no setting {key!r}",
        expected="one of " + ", ".join(known[: 2 * LISTED]) if known else "no setting: it has none",
        hint=hint,
    )


def _unknown_variable(context: click.Context, variable: str) -> UsageError:
    every = list(_every(context))
    names = [_variable(command, key) for command, key in every] + list(NO_OPTIONS)
    # PROBE_FIT_C is nearer to PROBE_FIT_LOGREG_C than to PROBE_FIT_KNN_K.
    inside = [
        name
        for (command, key), name in zip(every, names, strict=False)
        if command
        and variable.startswith(_variable(command[:1], ""))
        and variable.endswith(f"_{key.upper()}")
    ]
    rests = [name.removeprefix(PREFIX) for name in names]
    close = difflib.get_close_matches(variable.removeprefix(PREFIX), rests, n=1, cutoff=0.6)
    near = inside[:1] or [PREFIX + rest for rest in close]
    return UsageError(
        f"the environment sets {variable}, which is no setting",
        expected="PROBE_<COMMAND>_<OPTION>, PROBE_HOME or PROBE_DEBUG",
        hint=f"did you mean {near[0]}?" if near else f"unset {variable}",
    )


def _variable(command: Command, key: str) -> str:
    return PREFIX + "_".join((*command, key)).replace("-", "_").upper()


def _is_switch(option: click.Parameter) -> bool:
    return isinstance(option, click.Option) and option.is_flag


def _takes_several(option: click.Parameter) -> bool:
    return option.nargs != 1 or bool(getattr(option, "multiple", False))


def _typed(setting: Setting) -> Any:
    """The value as a user would type it; UsageError for a kind of value that cannot be typed."""
    option, value = setting.option, setting.value
    if setting.source != CONFIG_FILE:
        return option.type.split_envvar_value(value) if _takes_several(option) else value
    if _is_switch(option):
        if isinstance(value, bool):
            return value
        raise _wrong(setting, "true or false")
    several = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, str | int | float) for part in several):
        raise _wrong(setting, "a number, a text or a list of them")
    texts = tuple(map(str, several))
    return texts if _takes_several(option) else ",".join(texts)


def _check(setting: Setting) -> None:
    """Convert the value as that of a flag would be; UsageError when that is not possible."""
    try:
        setting.option.type_cast_value(click.Context(click.Command("")), _typed(setting))
    except (click.BadParameter, ProbeError) as error:
        if isinstance(error, UsageError) and error.problem.startswith(setting.source):
            raise
        message = error.message if isinstance(error, click.BadParameter) else error.problem
        raise _wrong(setting, because=f": {message.rstrip('.')}") from error


def _wrong(setting: Setting, expected: str | None = None, because: str = "") -> UsageError:
    return UsageError(
        f"{setting.source}: the value of {setting.key} cannot be used{because}",
        expected=expected,
        found=str(setting),
    )
