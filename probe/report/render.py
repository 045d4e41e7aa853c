"""Pages from templates: one HTML file that asks the network for nothing.

Everything that comes from outside is escaped by the templates, which have it on for every value, and by
`data_block` within scripts. The page's own policy (CSP) allows the scripts that it was written with, by their
hashes, and no other, and no request at all. These may compile code (``unsafe-eval``), since plotly makes the
functions that draw by WebGL so; nothing from outside is ever among it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from probe.drawing import STRONG, colours
from probe.errors import UsageError
from probe.plain import one_line
from probe.report.page import UNKNOWN, MapPart, Page
from probe.report.units import percent, percent_range

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)


def render(template: str, **values: Any) -> str:
    """A template of this folder with its values."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("probe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    made.filters["percent"], made.filters["percent_range"] = percent, percent_range
    made.globals["style"] = Markup(_file("style.css"))
    return made


def _harmless(value: Any) -> Any:
    """Text from outside without characters that move the cursor or turn the direction of writing."""
    return one_line(value) if type(value) is str else value


def _file(name: str) -> str:
    loader = PackageLoader("probe.report")
    return loader.get_source(Environment(), name)[0]


def check_page(path: Path) -> None:
    """UsageError unless a page can be written to `path`."""
    if path.suffix != ".html":
        raise UsageError(f"a report cannot be written to {path}", expected="a name that ends in .html")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def page_bytes(page: Page) -> bytes:
    """A report as an HTML file."""
    scripts: list[str] = []
    if page.maps:
        from plotly.offline import get_plotlyjs

        scripts = [get_plotlyjs(), _file("report.js")]
    text = render(
        "report.html.j2",
        page=page,
        accent=STRONG[0],
        policy=policy_of(scripts),
        scripts=[Markup(script) for script in scripts],
        maps=[data_block(map_data(part)) for part in page.maps],
    )
    # A name of a file may hold what is no character at all.
    return text.encode("utf-8", "backslashreplace")


def policy_of(scripts: Sequence[str]) -> Markup:
    """What the page may do; without a script not even that."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = [f"'sha256-{digest}'" for digest in hashes]
    return Markup(POLICY.format(scripts=" ".join([*allowed, "'unsafe-eval'"]) if allowed else "'none'"))


def data_block(value: Any) -> Markup:
    """JSON that cannot end, or begin, anything within a ``<script>``."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def map_data(part: MapPart) -> dict[str, Any]:
    """What the page's script needs of a map; numbers as little-endian bytes in base64."""
    return {
        "store": part.store,
        "axes": part.axes,
        "x": _packed(part.points[:, 0], "<f4"),
        "y": _packed(part.points[:, 1], "<f4"),
        "ids": front_coded(part.ids),
        "classes": _packed(part.classes, "<u2"),
        "classNames": [one_line(name) for name in part.class_names],
        "classColours": colours(max(len(part.class_names), 1)),
        "splits": _packed(part.splits, "<u1"),
        "splitNames": part.split_names,
        "runs": [{"name": one_line(c.run), "called": _packed(c.classes, "<u2")} for c in part.called],
        "tiles": _packed(part.tiles, "<u4"),
        "sheets": part.sheets,
        "tile": part.tile_side,
        "across": part.sheet_tiles,
        "unknown": UNKNOWN,
    }


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def front_coded(ids: Sequence[str]) -> list[int | str]:
    """``[0, "train/1.jpg", 6, "2.jpg", …]``: how many letters are those of the id before, and the rest.

    Letters are those of JavaScript, where one beyond the first 65,536 counts twice.
    """
    coded: list[int | str] = []
    before = ""
    for name in map(one_line, ids):
        most = min(len(before), len(name))
        shared = next((n for n in range(most) if before[n] != name[n]), most)
        coded += [sum(1 + (ord(letter) > UNKNOWN) for letter in name[:shared]), name[shared:]]
        before = name
    return coded
