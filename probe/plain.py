"""Text from data, made harmless where it is shown: on a terminal, and in a cell of a spreadsheet."""

from __future__ import annotations

import re
from typing import Any

CONTROL = re.compile(
    # C0 and C1; marks that turn the direction of writing; line and paragraph separator.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets take for the start of a formula (OWASP, CSV injection)."""


def one_line(text: str) -> str:
    """The text with control characters spelt out, ``\\x1b`` and ``\\n``: no cursor moves, no line ends."""
    return CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def lines(text: str) -> str:
    """`one_line` of every line of the text."""
    return "\n".join(map(one_line, text.split("\n")))


def cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would take for a formula gets a ``'`` before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
