"""A label file of a store's pictures: suspects marked for people to decide, or without their label."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from probe.audit.record import Audit
from probe.datasets.dataset import UNLABELLED
from probe.datasets.labels import LabelRow, read_labels
from probe.durable import replacing
from probe.errors import DataError, UsageError
from probe.plain import cell, one_line
from probe.store import Store

COLUMNS = ("path", "label", "split", "group", "suspect", "why")


def check_place(path: Path) -> None:
    """UsageError where a label file cannot be written: nothing that is there is overwritten."""
    if path.exists():
        raise UsageError(f"{path} exists already", hint="name a file that is not there yet")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}")


@dataclass(frozen=True)
class Written:
    """A label file, how many of its pictures are marked, and how many have lost their label in it."""

    path: Path
    marked: int
    removed: int


def label_file(audit: Audit, store: Store, path: Path, *, remove: Sequence[str] = ()) -> Written:
    """Write `path` with every picture of a store as ``--labels`` takes it.

    A row has the label, the part and the group that are in force, and of a suspect what it is suspected of.
    With `remove` suspects of these kinds (as `slug` spells them) lose their label in the file: they are
    neither fitted on nor scored, and nothing has to be computed again. The data set stays as it is.

    UsageError as `check_place` or where it cannot be written, DataError where a name cannot stand in a label
    file.
    """
    check_place(path)
    suspects = audit.suspects()
    rows = [_row(row, suspects.get(row.path, []), remove) for row in _in_force(store)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*astuple(row), kinds, cell(why)) for row, kinds, why in rows)
    try:
        with replacing(path) as place:
            place.write_text(out.getvalue(), encoding="utf-8")
            _expect_same([row for row, _, _ in rows], read_labels(place))
    except OSError as error:
        raise UsageError(f"{path} cannot be written", found=error.strerror or str(error)) from error
    before = sum(bool(row.label) for row in _in_force(store))
    return Written(path, len(suspects), before - sum(bool(row.label) for row, _, _ in rows))


def slug(kind: str) -> str:
    """A kind of suspects as one word: ``near-copies``."""
    return kind.replace(" ", "-")


def _in_force(store: Store) -> list[LabelRow]:
    """Every picture under the labelling in force, those that cannot be read too."""
    index, names = store.index, store.index.classes.tolist()
    labels = ["" if number == UNLABELLED else names[number] for number in index.labels.tolist()]
    groups = [""] * len(labels) if index.groups is None else index.groups.tolist()
    columns = zip(index.ids.tolist(), labels, index.splits.tolist(), groups, strict=True)
    return [LabelRow(*row) for row in columns]


def _row(row: LabelRow, found: list[tuple[str, str]], remove: Sequence[str]) -> tuple[LabelRow, str, str]:
    """The row as it is written, what it is suspected of in words without spaces, and in a sentence."""
    kinds = list(dict.fromkeys(slug(kind) for kind, _ in found))
    why = "; ".join(one_line(f"{kind}: {sentence}") for kind, sentence in found)
    return replace(row, label="") if set(kinds) & set(remove) else row, " ".join(kinds), why


def _expect_same(written: list[LabelRow], read: list[LabelRow]) -> None:
    """DataError unless what was written is what a reader sees."""
    wrong = next((row for row, again in zip(written, read, strict=True) if row != again), None)
    if wrong is not None:
        raise DataError(
            "a name cannot stand in a label file",
            expected="names without spaces around them, spelt in composed letters",
            found=ascii(wrong.path),
        )
