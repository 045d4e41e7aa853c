"""How a page writes shares."""

from __future__ import annotations

SPACE = "\N{NO-BREAK SPACE}"


def percent(share: float | None) -> str:
    """``89.0 %``; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f}{SPACE}%"


def percent_range(low: float, high: float) -> str:
    """``86.9 – 90.8 %``."""
    return f"{100 * low:.1f} – {100 * high:.1f}{SPACE}%"
