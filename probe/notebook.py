"""How results look in a notebook: HTML in which everything that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from probe.table import Table

LEFT = ' style="text-align:left"'


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """A heading and a table of two columns; facts that are None or empty are left out."""
    rows = "".join(
        f"<tr><th{LEFT}>{escape(str(name))}</th><td{LEFT}>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def table_html(title: str, table: Table) -> str:
    """A heading and a table."""
    return f"<div><strong>{escape(title)}</strong>{table._repr_html_()}</div>"


def lines_html(title: str, lines: Sequence[str]) -> str:
    """A heading and a sentence a line."""
    return f"<div><strong>{escape(title)}</strong>" + "".join(f"<br>{escape(x)}" for x in lines) + "</div>"
