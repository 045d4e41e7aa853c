"""Rows with named columns: shown in a notebook, written as CSV, made a pandas DataFrame on request."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, overload

from probe.durable import replacing
from probe.plain import cell, one_line
from probe.text import table

SHOWN = 60
"""Rows that a notebook or a console shows; the rest are counted."""


class Table(Sequence[Mapping[str, Any]]):
    """A list of rows, each a mapping from column to value; a value that a row lacks is None.

    Parameters
    ----------
    rows : mappings; their keys in order of appearance are the columns, unless `columns` names them.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
        self._rows = [dict(row) for row in rows]
        found = columns or dict.fromkeys(name for row in self._rows for name in row)
        self.columns = tuple(found)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Table: ...

    def __getitem__(self, place: int | slice) -> Mapping[str, Any] | Table:
        return Table(self._rows[place], self.columns) if isinstance(place, slice) else self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def column(self, name: str) -> list[Any]:
        """The values of one column; KeyError where there is none of this name."""
        if name not in self.columns:
            raise KeyError(name)
        return [row.get(name) for row in self._rows]

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV with a header, None as an empty cell; also written to `path` where one is given.

        A text that a spreadsheet would take for a formula gets a ``'`` before it.
        """
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in self._rows)
        if path is not None:
            with replacing(Path(path)) as partial:
                partial.write_text(out.getvalue(), encoding="utf-8")
        return out.getvalue()

    def to_markdown(self) -> str:
        """The rows as a table in Markdown, None as an empty cell."""
        head = ["| " + " | ".join(map(_markdown, self.columns)) + " |", "|" + "---|" * len(self.columns)]
        rows = ["| " + " | ".join(map(_markdown, self._plain_cells(row))) + " |" for row in self._rows]
        return "\n".join([*head, *rows]) + "\n"

    def to_latex(self) -> str:
        """The rows as a ``tabular`` of LaTeX, which needs no package; numbers are right-aligned."""
        kinds = [[row[name] for row in self._rows if row.get(name) is not None] for name in self.columns]
        sides = "".join("r" if v and all(isinstance(x, int | float) for x in v) else "l" for v in kinds)
        lines = [" & ".join(map(_latex, cells)) + r" \\" for cells in map(self._plain_cells, self._rows)]
        head = " & ".join(map(_latex, self.columns)) + r" \\ \hline"
        body = [rf"\begin{{tabular}}{{{sides}}}", head, *lines, r"\end{tabular}"]
        return "\n".join(body) + "\n"

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with the same columns; ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame(self._rows, columns=list(self.columns))

    def __repr__(self) -> str:
        cells = [self._cells(row) for row in self._rows[:SHOWN]]
        return "\n".join(table(self.columns, cells) + self._rest())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in self._cells(row)) + "</tr>"
            for row in self._rows[:SHOWN]
        )
        rest = "".join(f"<p>{line}</p>" for line in self._rest())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"

    def _cells(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(one_line(_shown(row.get(name))) for name in self.columns)

    def _plain_cells(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        shown = self._cells(row)
        return tuple(
            "" if row.get(name) is None else text for name, text in zip(self.columns, shown, strict=True)
        )

    def _rest(self) -> list[str]:
        return [f"… {len(self) - SHOWN:,} more rows"] if len(self) > SHOWN else []


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _markdown(text: str) -> str:
    """A cell of Markdown: the signs that would end it or be read as markup are escaped."""
    return re.sub(r"([\\|`*_<>\[\]#])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
}


def _latex(text: str) -> str:
    """A cell of LaTeX: what it would read as a command is a sign."""
    return "".join(LATEX.get(sign, rf"\{sign}" if sign in "&%$#_{}" else sign) for sign in text)
