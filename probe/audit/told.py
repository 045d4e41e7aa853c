"""An audit told to a person, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable

from probe.audit.record import (
    EXACT,
    KINDS,
    LABELS,
    NEAR,
    SEVERAL,
    Accuracy,
    Audit,
    Change,
    Copies,
    Effect,
    Picture,
)
from probe.plain import one_line
from probe.text import count_of, wrapped

WIDTH, SHOWN = 80, 5
"""Columns, and findings of each kind that are named; ``--json`` has all."""


def audit_lines(audit: Audit) -> list[str]:
    """What was found, what it does to the number, and the first of every kind."""
    parts = ", ".join(f"{part} {count:,}" for part, count in audit.parts.items())
    lines = [
        *wrapped(f"audit of {audit.store}, {audit.output}: {parts}", WIDTH),
        "",
        *_table(audit),
        "",
        *wrapped(_rule_text(audit), WIDTH),
        *(line for kind in KINDS for line in _findings(audit, kind)),
        *_class_lines(audit),
        *_listed(
            f"unreadable: {count_of(len(audit.unreadable), 'picture')}",
            [f"{found.id}: {found.reason}" for found in audit.unreadable],
        ),
        *(line for note in audit.notes for line in wrapped(f"note: {note}", WIDTH)),
    ]
    return [one_line(line) for line in lines]


def _table(audit: Audit) -> list[str]:
    head = ("", "found", "fit", "test", "accuracy without", "change, same test")
    rows: list[tuple[str, ...]] = [("as it is", "", "", "", _accuracy(audit.whole), "")]
    rows += [_row(effect) for effect in audit.effects]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place in (1, 2, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    said = [f"{effect.kind}: {effect.said}" for effect in audit.effects if effect.said]
    return [*lines, *(line for text in said for line in wrapped(text, WIDTH))]


def _row(effect: Effect) -> tuple[str, ...]:
    counts = (effect.pictures, effect.from_train, effect.from_test)
    return (
        effect.kind,
        *(f"{count:,}" for count in counts),
        _accuracy(effect.without),
        _change(effect.change),
    )


def _accuracy(found: Accuracy | None) -> str:
    return f"{found.accuracy:.3f} ({found.low:.3f}–{found.high:.3f})" if found else ""


def _change(found: Change | None) -> str:
    """In percentage points."""
    if found is None:
        return ""
    difference, low, high = (100 * value + 0.0 for value in (found.difference, found.low, found.high))
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def _rule_text(audit: Audit) -> str:
    rule = audit.rule
    if not rule.limit:
        return "near copies: too few different pictures to make a limit by"
    text = (
        f"near copies: {rule.compared} within {rule.limit:.2f} of the median distance to the nearest "
        f"pictures, made for a false alarm in {1 / rule.rate:,.0f} pictures"
    )
    if not rule.looked_at:
        return f"{text}; there are no classes to measure it by"
    return (
        f"{text}; measured on pictures of other classes, which are no copies: {rule.alarms} of "
        f"{rule.looked_at:,} (at most {100 * rule.high:.2g} %)"
    )


def _findings(audit: Audit, kind: str) -> list[str]:
    if kind in (EXACT, NEAR, SEVERAL):
        sets = {EXACT: audit.exact, NEAR: audit.near, SEVERAL: audit.several}[kind]
        across = sum(copies.across for copies in sets)
        title = f"{kind}: {count_of(len(sets), 'set')}, {across:,} of them in several parts"
        return _listed(title, map(_copies_text, sorted(sets, key=lambda copies: not copies.across)))
    if kind == LABELS:
        return _listed(
            f"{kind}, the likeliest first: {count_of(len(audit.labels), 'picture')}",
            (
                f"{_named(found.picture)} is {found.instead}? "
                f"({found.instead_probability:.2f} against {found.probability:.2f})"
                for found in audit.labels
            ),
        )
    return _listed(
        f"{kind}, the farthest first: {count_of(len(audit.outliers), 'picture')}",
        (f"{_named(found.picture)} {found.times:.1f} times as far as most" for found in audit.outliers),
    )


def _listed(title: str, texts: Iterable[str]) -> list[str]:
    known = list(texts)
    if not known:
        return []
    more = [f"  … and {len(known) - SHOWN:,} more (--json has all)"] if len(known) > SHOWN else []
    shown = [line for text in known[:SHOWN] for line in wrapped(text, WIDTH, first=2, indent=4)]
    return ["", title, *shown, *more]


def _named(picture: Picture) -> str:
    return f"{picture.id} ({picture.label})" if picture.label else picture.id


def _copies_text(copies: Copies) -> str:
    names = [f"{picture.split or 'no part'}: {_named(picture)}" for picture in copies.pictures[:4]]
    return " = ".join(names) + (f" and {len(copies.pictures) - 4} more" if len(copies.pictures) > 4 else "")


def _class_lines(audit: Audit) -> list[str]:
    if not audit.pairs:
        return []
    not_apart = sum(not pair.apart for pair in audit.pairs)
    title = f"classes that cannot be told apart: {count_of(not_apart, 'pair')}; told apart least are"
    return _listed(
        title,
        (
            f"{pair.first} and {pair.second}: {pair.share:.3f} right ({pair.low:.3f}–{pair.high:.3f})"
            for pair in audit.pairs[: max(SHOWN, not_apart)]
        ),
    )
