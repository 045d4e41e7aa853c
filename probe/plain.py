"""Text from data, made harmless where it is shown: on a terminal, and in a cell of a spreadsheet."""

from __future__ import annotations

import re
from typing import Any

CONTROL = re.compile(
    # C0 and C1; marks that turn the direction of writing; line and paragraph separator; what shows nothing,
    # by which two names look like one. The joiners U+200C and U+200D stay: Persian words and emoji have them.
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
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
