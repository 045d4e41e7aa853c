"""A store, a run or a data set as a line of a list: plain values for a program, and columns for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probe.errors import UsageError, unknown_name
from probe.order import natural
from probe.text import shapes_text

if TYPE_CHECKING:
    from probe.config import Home
    from probe.datasets import DatasetRow
    from probe.runs import Run
    from probe.store import Store

Row = dict[str, object]


def store_facts(store: Store) -> dict[str, Any]:
    """What ``probe stores ls --json`` says of a store."""
    layout = store.manifest.layout
    return {
        "store": store.name,
        "size": store.manifest.spec["backbone"]["size"] or None,
        "precision": store.precision,
        "rows": layout.rows,
        "unreadable": store.manifest.unreadable_count,
        "outputs": {name: list(shape) for name, shape in store.output_shapes.items()},
        "views": store.view_count,
        "megabytes": round(layout.total_bytes() / 1e6, 1),
        "used": store.used,
        "internal": layout.internal,
    }


def store_row(facts: Mapping[str, Any]) -> Row:
    """`store_facts` in columns; a value is None where there is none."""
    return {
        "store": facts["store"] + (" (internal)" if facts["internal"] else ""),
        "px": facts["size"],
        "precision": facts["precision"],
        "rows": facts["rows"],
        "unread": facts["unreadable"],
        "outputs": shapes_text(facts["outputs"]),
        "views": facts["views"],
        "MB": facts["megabytes"],
        "used (UTC)": facts["used"][:16].replace("T", " "),
    }


def run_facts(run: Run) -> dict[str, Any]:
    """What ``probe runs ls --json`` says of a run."""
    record, test = run.record, run.test
    return {
        "run": run.name,
        "head": record.head,
        "dataset": record.dataset,
        "backbone": record.backbone_name,
        "n": test and test.n,
        "accuracy": test and test.accuracy,
        "accuracy_low": test and test.accuracy_low,
        "accuracy_high": test and test.accuracy_high,
        "created": record.created,
        "name": run.naming.name,
        "note": run.naming.note,
    }


def run_row(facts: Mapping[str, Any]) -> Row:
    """`run_facts` in columns; a value is None where there is none."""
    scored = facts["accuracy"] is not None
    return {
        "run": facts["run"],
        "head": facts["head"],
        "data set": facts["dataset"],
        "backbone": facts["backbone"],
        "n": facts["n"],
        "test accuracy (95 %)": "{accuracy:.4f} ({accuracy_low:.4f} – {accuracy_high:.4f})".format(**facts)
        if scored
        else None,
        **{key: facts[key] for key in ("name", "note") if facts[key] is not None},
    }


def select(rows: Sequence[Row], where: Sequence[str] = (), order: str | None = None) -> list[Row]:
    """The rows of which every ``FIELD=VALUE`` of `where` holds, in the order of a field: numbers from the
    largest, texts from A to Z, rows without a value last.

    UnknownNameError for a field that the rows do not have, UsageError for what is no condition.
    """
    found = list(rows)
    for condition in where:
        name, sign, text = condition.partition("=")
        if not sign:
            raise UsageError(f"{condition} is no condition", expected="FIELD=VALUE, such as head=logreg")
        _expect_field(rows, name)
        found = [row for row in found if _is(row[name], text)]
    if order is not None:
        _expect_field(rows, order)
        found.sort(key=lambda row: _sort_key(row[order]))
    return found


def _expect_field(rows: Sequence[Row], name: str) -> None:
    if rows and name not in rows[0]:
        raise unknown_name("field", name, rows[0])


def _is(value: object, text: str) -> bool:
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return (value or "") == text


def _sort_key(value: object) -> tuple[int, float, tuple[str | int, ...]]:
    if value is None:
        return 2, 0.0, ()
    if isinstance(value, int | float):
        return 0, -float(value), ()
    return 1, 0.0, natural(str(value))


def dataset_facts(row: DatasetRow, home: Home) -> dict[str, Any]:
    """What ``probe data ls --json`` says of a data set that has a name."""
    from probe.datasets.fetch import download_bytes
    from probe.datasets.place import is_here

    return {
        "dataset": row.name,
        "images": row.images,
        "classes": row.classes,
        "megabytes": round(download_bytes(row) / 1e6),
        "here": is_here(row, home),
        "licence": row.licence,
        "summary": row.summary,
    }


def dataset_row(facts: Mapping[str, Any]) -> Row:
    """`dataset_facts` in columns."""
    return {
        "data set": facts["dataset"],
        "images": facts["images"],
        "classes": facts["classes"],
        "MB": facts["megabytes"] or "?",
        "here": "yes" if facts["here"] else "",
        "what it is": facts["summary"],
    }
