"""How every figure looks, for papers and pages alike: colours, type, lines, and the file it becomes."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from probe.durable import replacing
from probe.errors import UsageError

DrawT = TypeVar("DrawT", bound=Callable[..., Any])

FORMATS = (".png", ".svg", ".pdf")
DPI = 150

STRONG = (
    *("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f"),
    *("#c9a227", "#b07aa1", "#ff9da7", "#9c755f", "#8a8f98"),
)
PALE = (
    *("#a0cbe8", "#ffbe7d", "#ffb3b5", "#b5e0dc", "#8cd17d"),
    *("#f1ce63", "#d4a6c8", "#ffd1d6", "#d7b5a6", "#c4c8ce"),
)
"""Ten colours that are told apart easily, and ten paler ones where they are needed."""

INK, MUTED, LINE, PAPER = "#1b1f24", "#5b626c", "#d8dce1", "#ffffff"
"""Text, what is less than text, grid lines, and what lies behind them."""

STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "text.color": INK,
    # Names of classes are names, whatever signs of dollar are in them.
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}

_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}
_STYLED = re.compile(r'style="[^"]*"')
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]*)?")


def styled(draw: DrawT) -> DrawT:
    """Draw, or write, in this style, whatever the user's settings of matplotlib are."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **keywords: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box; a page has it as text.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            return draw(*arguments, **keywords)

    return drawn  # type: ignore[return-value]


def colours(count: int) -> list[str]:
    """One for each of so many: ten that are told apart easily, twenty where they are needed, then again."""
    found = STRONG if count <= len(STRONG) else STRONG + PALE
    return [found[position % len(found)] for position in range(count)]


def check_format(path: Path) -> None:
    """UsageError unless a figure can be written to `path`."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"a figure cannot be written to {path}", expected="a name that ends in " + ", ".join(FORMATS)
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


@styled
def save(figure: Any, path: Path) -> Path:
    """Write a ``matplotlib.figure.Figure``; the suffix of `path` decides the format. Returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI)
    return path


@styled
def png_of(figure: Any) -> bytes:
    """The PNG of a figure, for a page that holds its pictures itself."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    return drawn.getvalue()


@styled
def inline_svg(figure: Any, name: str) -> str:
    """The ``<svg>`` element of a figure, in colours and type of the page that holds it.

    `name` keeps the ids within apart from those of other figures of the page. Text from outside is escaped,
    as matplotlib writes XML.
    """
    import matplotlib

    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(drawn, format="svg", metadata=nothing, facecolor="none", dpi=DPI)
    text = drawn.getvalue()
    element = text[text.index("<svg") :]
    return _STYLED.sub(lambda found: _for_a_page(found.group()), element)


def _for_a_page(style: str) -> str:
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, variable)
    return _FONT.sub("system-ui, sans-serif", style)
