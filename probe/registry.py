"""Tables of rows by name: backbones, data sets, heads, baselines."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from probe.errors import unknown_name


class Named(Protocol):
    @property
    def name(self) -> str: ...


RowT = TypeVar("RowT", bound=Named)


class Registry(Mapping[str, RowT]):
    """An ordered, read-only table of rows; an unknown name is an error that lists the near ones."""

    def __init__(self, kind: str, rows: Iterable[RowT]) -> None:
        self.kind = kind
        self.rows: dict[str, RowT] = {}
        for row in rows:
            if row.name in self.rows:
                raise ValueError(f"two {kind} rows are called {row.name!r}")
            self.rows[row.name] = row

    def __getitem__(self, name: str) -> RowT:
        try:
            return self.rows[name]
        except KeyError:
            raise unknown_name(self.kind, name, self.rows) from None

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def load_object(path: str) -> Any:
    """Import ``package.module:attribute``; rows name their code this way so that a table stays light."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
