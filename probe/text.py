"""How numbers, lists and tables are put into words, and sizes read from them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from probe.errors import UsageError
from probe.plain import one_line

NAMED = 3
"""Names that `named` lists."""


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def few(names: Sequence[str]) -> str:
    """The first six names, and a sign that there are more."""
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


def named(names: Sequence[str]) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def shapes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """``avg_pool 2048, block5 7×7×2048``: names and their shapes."""
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in shapes.items())


def clipped(text: str, width: int) -> str:
    """At most `width` columns of a text, its two ends where it is longer: they tell names apart."""
    if len(text) <= width:
        return text
    last = (width - 1) // 2
    return text[: width - 1 - last] + "…" + text[len(text) - last :]


def wrapped(text: str, width: int, *, first: int = 0, indent: int = 2) -> list[str]:
    """A text in lines of at most `width` columns, as far as its words do: no name or path is broken.

    The first line begins after `first` spaces, all others after `indent`.
    """
    return textwrap.wrap(
        one_line(text),
        width,
        initial_indent=" " * first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def brief(value: object) -> str:
    """A value with four digits where it is a fraction, and what is in a list or mapping likewise."""
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {brief(part)}" for name, part in value.items()) + ")"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(brief, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Left-aligned columns, numbers right-aligned."""
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    numeric = [
        all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(header))
    ]
    out = []
    for line in [list(header), *cells]:
        parts = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        out.append("  ".join(parts).rstrip())
    return out


def rows_table(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """`table` of rows, a dash where a value is None or missing; nothing without any row."""
    known = list(rows)
    columns = list(dict.fromkeys(name for row in known for name in row))
    cells = [["–" if row.get(name) is None else row[name] for name in columns] for row in known]
    return table(columns, cells) if known else []


def parse_share(value: str | float, option: str) -> float:
    """``20%`` or ``0.2`` -> 0.2, of the value of `option`; UsageError unless above 0 and at most 1."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{option} is not a share", expected="such as 20% or 0.2", found=text)
    return share


def parse_bytes(text: str, option: str) -> int:
    """``2GB``, ``500MB``, ``1e9`` -> bytes (decimal units, as disks are sold); of the value of `option`."""
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "B": 1.0, "": 1.0}
    number = text.strip().upper().rstrip("KMGTB")
    unit = text.strip().upper()[len(number) :]
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = -1.0
    if not 0 <= size < float("inf"):
        raise UsageError(f"{option} is not a size", expected="such as 500MB or 2GB", found=text)
    return int(size)
