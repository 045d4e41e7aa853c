"""Tables of rows by name: backbones, data sets, heads, baselines."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from probe.errors import UnknownNameError


class Named(Protocol):
    @property
    def name(self) -> str: ...


LISTED = 24
"""Names an error lists; a network has hundreds of layers."""

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


def unknown_name(kind: str, name: str, known: Iterable[str], folder: Path | None = None) -> UnknownNameError:
    """The error for a name that is not in `known`, with the closest spelling as the hint.

    `folder`, inside a home, is where such things are kept.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    hints = [f"did you mean {near[0]!r}?"] if near else []
    hints += ["another home is named by --home or PROBE_HOME"] if folder is not None else []
    return UnknownNameError(
        f"there is no {kind} called {name!r}" + (f" in {folder.resolve()}" if folder is not None else ""),
        expected="one of " + ", ".join(names[:LISTED]) + more if names else f"there is no {kind} yet",
        hint=" ".join(hints) or None,
    )


def ambiguous_name(kind: str, name: str, candidates: Mapping[str, Mapping[str, object]]) -> UnknownNameError:
    """The error for a name that fits several: each with the facts in which they differ."""
    facts = {fact: {str(c.get(fact)) for c in candidates.values()} for c in candidates.values() for fact in c}
    telling = [fact for fact, values in facts.items() if len(values) > 1]
    lines = []
    for candidate, known in list(candidates.items())[:LISTED]:
        told = ", ".join(f"{fact} {known[fact]}" for fact in telling if known.get(fact) is not None)
        lines.append(f"{candidate}: {told}" if told else candidate)
    more = [f"and {len(candidates) - LISTED} more"] if len(candidates) > LISTED else []
    return UnknownNameError(
        f"{name!r} fits several {kind}s",
        expected="one of\n    " + "\n    ".join(lines + more),
        hint="give the whole name",
    )


def load_object(path: str) -> Any:
    """Import ``package.module:attribute``; rows name their code this way so that a table stays light."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
