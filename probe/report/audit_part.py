"""What a page shows of the audit of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from probe.audit import Audit
from probe.audit.record import EXACT, LABELS, NEAR, OUTLIERS, SEVERAL, Copies, Effect, Picture
from probe.report.page import AuditEffect, AuditPart, Finding, Shown
from probe.report.sources import Source
from probe.report.units import percent, percent_range

FoundT = TypeVar("FoundT")

SHOWN, TOGETHER, LISTED = 12, 4, 200
"""Findings of a kind that have pictures, pictures of a set of copies, and rows of a table."""


def audit_part(audit: Audit, source: Source) -> AuditPart:
    """The kinds with what each does to the accuracy, and the first of every kind as pictures."""
    whole = audit.whole
    effects = [_effect(effect) for effect in audit.effects]
    if whole is not None:
        interval = percent_range(whole.low, whole.high)
        effects.insert(0, AuditEffect("as it is", "", "", "", f"{percent(whole.accuracy)} ({interval})", ""))
    return AuditPart(
        store=audit.store,
        created=audit.created[:16].replace("T", " ") + " UTC",
        effects=tuple(effects),
        said=tuple(f"{effect.kind}: {effect.said}" for effect in audit.effects if effect.said),
        findings=tuple(finding for finding in _findings(audit, source) if finding.count),
        pairs=tuple(
            (pair.first, pair.second, percent(pair.share), percent_range(pair.low, pair.high), pair.apart)
            for pair in audit.pairs[:LISTED]
        ),
        unreadable=tuple((found.id, found.reason) for found in audit.unreadable[:LISTED]),
        notes=audit.notes,
    )


def _effect(effect: Effect) -> AuditEffect:
    without, change = effect.without, effect.change
    accuracy = f"{percent(without.accuracy)} ({percent_range(without.low, without.high)})" if without else ""
    points = [100 * value + 0.0 for value in (change.difference, change.low, change.high)] if change else []
    return AuditEffect(
        effect.kind,
        f"{effect.pictures:,}",
        f"{effect.from_train:,}",
        f"{effect.from_test:,}",
        accuracy,
        "{:+.1f} points ({:+.1f} to {:+.1f})".format(*points) if points else "",
    )


def _findings(audit: Audit, source: Source) -> list[Finding]:
    def shown(picture: Picture, *lines: str) -> Shown:
        where = ", ".join(part for part in (picture.label, picture.split) if part)
        return Shown(picture.id, source.picture(picture.id), (where or "no label", *lines))

    def sets(copies: Copies) -> tuple[Shown, ...]:
        return tuple(shown(picture) for picture in copies.pictures[:TOGETHER])

    return [
        _finding(EXACT, audit.exact, sets),
        _finding(NEAR, audit.near, sets),
        _finding(SEVERAL, audit.several, sets),
        _finding(
            LABELS,
            audit.labels,
            lambda wrong: (
                shown(wrong.picture, f"rather {wrong.instead} ({percent(wrong.instead_probability)})"),
            ),
        ),
        _finding(
            OUTLIERS,
            audit.outliers,
            lambda found: (shown(found.picture, f"{found.times:.1f} times as far as most"),),
        ),
    ]


def _finding(kind: str, found: Sequence[FoundT], show: Callable[[FoundT], tuple[Shown, ...]]) -> Finding:
    return Finding(kind, len(found), tuple(map(show, found[:SHOWN])))
