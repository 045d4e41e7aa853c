"""Keyword arguments that carry the names of options: their values are read and checked as options are."""

from __future__ import annotations

import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from probe.errors import UsageError, unknown_name

MadeT = TypeVar("MadeT")
CallT = TypeVar("CallT", bound=Callable[..., Any])


def divide(keywords: Mapping[str, Any], *kinds: Any) -> list[Any]:
    """An instance of each of the dataclasses `kinds`, from the keywords that are its fields.

    UnknownNameError for a keyword that is a field of none, and otherwise as `read_keywords`.
    """
    known = [[field.name for field in fields(kind)] for kind in kinds]
    every = list(dict.fromkeys(name for names in known for name in names))
    for name in keywords:
        if name not in every:
            raise unknown_name("option", name, every)
    own = [{name: keywords[name] for name in keywords if name in names} for names in known]
    return [read_keywords(kind, values) for kind, values in zip(kinds, own, strict=True)]


def read_keywords(kind: type[MadeT], values: Mapping[str, Any]) -> MadeT:
    """An instance of the dataclass `kind`; values come as a notebook or a command line has them.

    A list stands for a tuple, ``"a,b"`` too, a text for a path, a whole number for a float. UsageError for a
    value of another type or one that is missing; what the dataclass itself refuses passes.
    """
    hints = typing.get_type_hints(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.default is MISSING and field.default_factory is MISSING and field.name not in values:
            raise UsageError(f"{field.name} has to be given")
    return kind(**{name: read_value(name, value, hints[name]) for name, value in values.items()})


def read_value(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type `hint`; UsageError names the option when that cannot be."""
    if hint is Any:
        return value
    for kind in _kinds(hint):
        fits, read = _read(value, kind)
        if fits:
            return read
    raise UsageError(
        f"the value of {name} cannot be used",
        expected=" or ".join(_said(kind) for kind in _kinds(hint)),
        found=repr(value),
    )


def at_least(smallest: float, **values: float | None) -> None:
    """UsageError for a value below `smallest`; None is no value."""
    for name, value in values.items():
        if value is not None and value < smallest:
            raise UsageError(f"{name} is too small", expected=f"at least {smallest:g}", found=f"{value:g}")


def below(bound: int, **values: int) -> None:
    """UsageError for a value of `bound` or more."""
    for name, value in values.items():
        if value >= bound:
            raise UsageError(f"{name} is too large", expected=f"below {bound}", found=str(value))


def one_of(choices: Iterable[str], **values: str | None) -> None:
    """UnknownNameError for a value that is none of `choices`; None is no value."""
    for name, value in values.items():
        if value is not None and value not in choices:
            raise unknown_name(name, value, choices)


def takes(
    *kinds: Callable[..., Any], without: Sequence[str] = (), and_others: bool = False
) -> Callable[[CallT], CallT]:
    """Show the fields of the dataclasses `kinds` as the keywords of the decorated method.

    The method itself takes ``**keywords`` and hands them on; help and completion show what they are.
    `and_others` says that there are more.
    """

    def decorate(method: CallT) -> CallT:
        own = inspect.signature(method)
        *first, rest = own.parameters.values()
        found = {parameter.name: parameter for parameter in first}
        for kind in kinds:
            for name, parameter in inspect.signature(kind).parameters.items():
                if name not in without and name not in found:
                    found[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        shown = [*found.values(), *([rest] if and_others else [])]
        method.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
        return method

    return decorate


def _kinds(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _read(value: Any, kind: Any) -> tuple[bool, Any]:
    """Whether a value can be read as a type that is no union, and what it then is."""
    if kind is type(None):
        return value is None, None
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind), value
    if typing.get_origin(kind) is tuple:
        return _read_tuple(value, typing.get_args(kind))
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool), value
    if kind is int:
        fits = isinstance(value, numbers.Integral)
        return fits, int(value) if fits else value
    if kind is float:
        fits = isinstance(value, numbers.Real)
        return fits, float(value) if fits else value
    if kind is Path:
        fits = isinstance(value, str | Path)
        return fits, Path(value) if fits else value
    return isinstance(value, kind), value


def _read_tuple(value: Any, items: tuple[Any, ...]) -> tuple[bool, Any]:
    if isinstance(value, str) and items[0] is str:
        value = [part for part in value.split(",") if part]
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False, value
    kinds = items[:1] * len(value) if items[-1] is Ellipsis else items
    if len(kinds) != len(value):
        return False, value
    read = [_read(part, kind) for part, kind in zip(value, kinds, strict=True)]
    return all(fits for fits, _ in read), tuple(part for _, part in read)


def _said(kind: Any) -> str:
    """A type in words."""
    plain = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    if kind is type(None):
        return "None"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        item = plain.get(typing.get_args(kind)[0], "a value").split(maxsplit=1)[-1]
        return f"a list of {item}s" if typing.get_args(kind)[-1] is Ellipsis else f"a tuple of {item}s"
    return plain.get(kind, getattr(kind, "__name__", str(kind)))
