"""How a data set was named, as plain JSON values, so that a store can name it again."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from probe.datasets.arrangement import Layout
from probe.datasets.opening import DatasetOptions
from probe.errors import DataError

PATHS = ("labels", "source")
MOMENTARY = ("rehash",)
"""Not part of what a data set is: asked for once and not again when a store names its data set."""


def describe(spec: str, options: DatasetOptions, registered: Container[object]) -> dict[str, Any]:
    """`spec` and the options that are not the default, with every path made absolute."""
    path = Path(spec).expanduser()
    by_path = spec not in registered and path.exists()
    chosen = {field.name: getattr(options, field.name) for field in fields(options)}
    plain = DatasetOptions()
    return {
        "spec": str(path.resolve()) if by_path else spec,
        "options": {
            name: str(Path(value).expanduser().resolve()) if name in PATHS else value
            for name, value in chosen.items()
            if value != getattr(plain, name) and name not in MOMENTARY
        },
    }


def read(origin: Mapping[str, Any]) -> tuple[str, DatasetOptions]:
    """The inverse of `describe`; DataError when the record is not one."""
    known = {field.name for field in fields(DatasetOptions)}
    try:
        spec, recorded = str(origin["spec"]), dict(origin["options"])
        if set(recorded) - known:
            raise ValueError(f"unknown options {sorted(set(recorded) - known)}")
        values = {name: _read_value(name, value) for name, value in recorded.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "it is not recorded how the data set was opened", found=repr(error), hint="name the data set"
        ) from error
    return spec, DatasetOptions(**values)


def _read_value(name: str, value: Any) -> Any:
    if name in PATHS:
        return Path(value)
    if name == "layout":
        return Layout(value)
    return tuple(value) if isinstance(value, list) else value
