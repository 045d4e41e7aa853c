"""Dataclasses out of JSON, every value checked against the type of its field, and back into JSON.

A field takes what its annotation says: ``int``, ``float`` (finite), ``str``, ``bool``, ``Any``, another
dataclass, ``tuple[X, ...]``, ``list[X]`` and ``Sequence[X]`` (a list), ``Mapping[str, X]`` (an object), each
with ``| None``. A field with a default may be missing; keys that no field knows are passed over, so that a
file of a newer version is read.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

LEFT_OUT: Mapping[str, Any] = {"left out": True}
"""``field(default=None, metadata=LEFT_OUT)`` is not written where it is None."""
APART: Mapping[str, Any] = {"apart": True}
"""Of a field that its own class reads and writes: `read_record` and `plain` pass it over."""

LARGEST = 1 << 63
"""Numbers from here on are none of ours, and no array or system call takes them."""
SHOWN = 60
"""Characters of a wrong value that an error quotes."""


class FieldError(ValueError):
    """A value that is not what its field takes.

    Attributes
    ----------
    place : where it stands, ``test.accuracy``.
    expected, found : what belongs there and what is there.
    """

    def __init__(self, expected: str, found: str, place: str = "") -> None:
        self.place, self.expected, self.found = place, expected, found
        super().__init__(f"{place or 'the record'}: expected {expected}, found {found}")

    def inside(self, key: str) -> FieldError:
        """The same error, told from one step further out."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        return FieldError(self.expected, self.found, f"{key}{dot}{self.place}")


def spelt(key: str) -> Mapping[str, Any]:
    """Metadata of a field with another name in JSON, for names that Python keeps for itself."""
    return {"key": key}


def load_json(text: str) -> Any:
    """A JSON value; ValueError where it is none, has a number that is not finite, or is nested too deeply."""
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_refused)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None


def read_record(kind: type[T], value: object) -> T:
    """A dataclass `kind` of the JSON object `value`; FieldError says which value is wrong."""
    record: T = read_value(kind, value)
    return record


def read_value(kind: Any, value: object) -> Any:
    """A value of any type that a field may have; FieldError as `read_record`."""
    return _reader(kind)(value)


def plain(value: Any) -> Any:
    """What `json.dumps` takes and `json.loads` gives back: dataclasses and tuples made objects and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            key: plain(found)
            for name, key, leave in _written(type(value))
            if (found := getattr(value, name)) is not None or not leave
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def without_nan(value: Any) -> Any:
    """A JSON value with None in place of every number that is not finite: JSON knows none."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _written(kind: type) -> tuple[tuple[str, str, bool], ...]:
    """Of every field its name, its key, and whether it is left out where it is None."""
    return tuple(
        (field.name, field.metadata.get("key") or field.name, "left out" in field.metadata)
        for field in dataclasses.fields(kind)
        if "apart" not in field.metadata
    )


# Made once a type: a run with thousands of classes has a row for each of them.
@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    if kind is Any:
        return lambda value: value
    if dataclasses.is_dataclass(kind):
        return _record_reader(typing.cast(type, kind))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (some,) = (part for part in inner if part is not type(None))
        return _optional_reader(_reader(some))
    if origin is tuple:
        return _list_reader(_reader(inner[0]))
    if origin in (list, collections.abc.Sequence):
        several = _list_reader(_reader(inner[0]))
        return lambda value: list(several(value))
    if origin is collections.abc.Mapping:
        return _mapping_reader(_reader(inner[1]))
    return SCALARS[kind]


def _record_reader(kind: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = [
        (
            field.name,
            field.metadata.get("key") or field.name,
            _reader(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
        if "apart" not in field.metadata
    ]

    def read(value: Any) -> Any:
        found = {}
        for name, key, reader, required in fields:
            if key in _object(value):
                try:
                    found[name] = reader(value[key])
                except FieldError as error:
                    raise error.inside(key) from None
            elif required:
                raise FieldError(f"a value called {key!r}", "none")
        return kind(**found)

    return read


def _optional_reader(some: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else some(value)


def _list_reader(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise FieldError("a list", _quoted(value))
        found = []
        for place, one in enumerate(value):
            try:
                found.append(item(one))
            except FieldError as error:
                raise error.inside(f"[{place}]") from None
        return tuple(found)

    return read


def _mapping_reader(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        found = {}
        for key, one in _object(value).items():
            try:
                found[key] = item(one)
            except FieldError as error:
                raise error.inside(str(key)) from None
        return found

    return read


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError("an object", _quoted(value))
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FieldError("text", _quoted(value))
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("true or false", _quoted(value))
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError("a whole number", _quoted(value))
    if not -LARGEST <= value < LARGEST:
        raise FieldError("a whole number of 64 bits", f"one of {value.bit_length():,}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        return float(value)
    raise FieldError("a number", _quoted(value))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


SCALARS: Mapping[Any, Callable[[Any], Any]] = {str: _text, bool: _truth, int: _whole, float: _number}


def _quoted(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
