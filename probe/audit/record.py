"""What an audit says, typed, and the file beside the store that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.audit.copies import Rule
from probe.durable import replacing
from probe.errors import StoreError, unknown_name
from probe.hashing import is_intact, sealed
from probe.notebook import lines_html
from probe.records import FieldError, plain, read_record
from probe.store import Store, record_beside
from probe.table import Table
from probe.whole import read_json

SCHEMA = 1
CAP = 1 << 30
"""Bytes of a record, which grows with the suspects."""

EXACT, NEAR, SEVERAL, LABELS, OUTLIERS = (
    "exact copies",
    "near copies",
    "several labels",
    "wrong labels",
    "outliers",
)
ALL, CLASSES, UNREADABLE = "all of these", "classes", "unreadable"
KINDS = (EXACT, NEAR, SEVERAL, LABELS, OUTLIERS)
"""What is found in single pictures, in the order in which it is told."""


@dataclass(frozen=True)
class Picture:
    """One picture: its id, part and class; "" where it has none."""

    id: str
    split: str
    label: str


@dataclass(frozen=True)
class Copies:
    """Pictures that are copies of one another.

    Attributes
    ----------
    closeness : of the closest two, the share of the distance to their surroundings; 0 for exact copies.
    """

    pictures: tuple[Picture, ...]
    closeness: float

    @property
    def across(self) -> bool:
        """Whether they lie in several parts."""
        return len({picture.split for picture in self.pictures}) > 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that they are labelled as."""
        return tuple(dict.fromkeys(picture.label for picture in self.pictures if picture.label))


@dataclass(frozen=True)
class WrongLabel:
    """A label that is likely wrong.

    Attributes
    ----------
    probability : of the label it has, when the picture was held out.
    instead : the class with the largest probability, and `instead_probability`.
    """

    picture: Picture
    probability: float
    instead: str
    instead_probability: float


@dataclass(frozen=True)
class Outlier:
    """A picture whose tenth neighbour is `times` as far away as that of most."""

    picture: Picture
    times: float


@dataclass(frozen=True)
class Pair:
    """Two classes, and the share of their pictures that are called the right one of them; 0.5 is guessing."""

    first: str
    second: str
    share: float
    low: float
    high: float
    apart: bool


@dataclass(frozen=True)
class Unread:
    """A picture without features, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Accuracy:
    """A share of `n` test pictures with its 95 % interval, by group where there are groups."""

    n: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """A difference in accuracy on the same `n` test pictures, as fractions, with its 95 % score interval."""

    n: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What one kind does to the number.

    Attributes
    ----------
    kind : one of `KINDS`, all of them, classes that are merged, or unreadable pictures.
    pictures : how many it is about; of copies those that are one too many.
    from_train, from_test : how many are left out of what is fitted on (train and validation) and of test.
    without : test accuracy without them, on both sides; None where nothing is left or it cannot be known.
    change : of the same fit on all test pictures: what leaving them out of training does.
    said : what the figures mean, where they do not say it themselves.
    """

    kind: str
    pictures: int
    from_train: int
    from_test: int
    without: Accuracy | None = None
    change: Change | None = None
    said: str = ""


@dataclass(frozen=True)
class Audit:
    """What is wrong with the data of a store, and what it does to the number.

    Attributes
    ----------
    store, key, index : which store, and which labelling of it.
    output : the features that were looked at.
    parts : pictures that were read, by part.
    classes : their names.
    folds : of the probabilities that labels and classes are judged by; 0 where they were not.
    c : of the logistic regression, chosen as ``probe fit logreg`` does; None where nothing is fitted.
    whole : test accuracy as things are; None without a test part or a head.
    rule : when two pictures are called near copies.
    exact, near, several : copies byte for byte, near copies, and those of both with several labels.
    labels, outliers : the likeliest first.
    pairs : the classes that are told apart least, the worst first.
    unreadable : pictures without features.
    effects : what each kind does to the accuracy.
    notes : what could not be looked at, and why.
    seconds, created : how long it took, and when it was made (ISO, UTC).
    """

    store: str
    key: str
    index: str
    output: str
    dataset: str | None
    parts: Mapping[str, int]
    classes: tuple[str, ...]
    seed: int
    folds: int
    c: float | None
    whole: Accuracy | None
    rule: Rule
    exact: tuple[Copies, ...]
    near: tuple[Copies, ...]
    several: tuple[Copies, ...]
    labels: tuple[WrongLabel, ...]
    outliers: tuple[Outlier, ...]
    pairs: tuple[Pair, ...]
    unreadable: tuple[Unread, ...]
    effects: tuple[Effect, ...]
    notes: tuple[str, ...]
    seconds: float
    created: str
    version: str
    schema: int = SCHEMA

    def suspects(self) -> dict[str, list[tuple[str, str]]]:
        """Id of every suspect picture -> what it is suspected of: kind and a sentence."""
        found: dict[str, list[tuple[str, str]]] = {}

        def add(kind: str, picture: Picture, sentence: str) -> None:
            found.setdefault(picture.id, []).append((kind, sentence))

        for kind, sets in ((EXACT, self.exact), (NEAR, self.near)):
            for copies in sets:
                kept = kept_of(copies)
                for picture in copies.pictures:
                    if picture != kept:
                        add(kind, picture, f"copy of {kept.id} ({kept.split or 'no part'})")
        for copies in self.several:
            for picture in copies.pictures:
                add(SEVERAL, picture, "labelled as " + " and ".join(copies.labels))
        for wrong in self.labels:
            add(LABELS, wrong.picture, f"{wrong.instead}? ({wrong.instead_probability:.2f})")
        for outlier in self.outliers:
            add(OUTLIERS, outlier.picture, f"{outlier.times:.1f} times as far from the others as most")
        return found

    def table(self, name: str) -> Table:
        """One of `TABLES`; UnknownNameError for others."""
        if name not in TABLES:
            raise unknown_name("table of an audit", name, TABLES)
        return TABLES[name](self)

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return found

    def lines(self) -> list[str]:
        """The audit for people, in 80 columns."""
        from probe.audit.told import audit_lines

        return audit_lines(self)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        head = lines_html(f"Audit of {self.store}", self.notes)
        return head + self.table("effects")._repr_html_()


PREFERENCE = {"test": 0, "val": 1, "train": 2, "": 3}


def kept_of(copies: Copies) -> Picture:
    """The one of several copies that is kept: of test before validation before train, so that training loses
    them and the pictures that are scored stay."""
    return min(copies.pictures, key=lambda picture: PREFERENCE.get(picture.split, 3))


def _copies_table(sets: tuple[Copies, ...]) -> Table:
    return Table(
        {"set": number, **vars(picture), "closeness": copies.closeness}
        for number, copies in enumerate(sets)
        for picture in copies.pictures
    )


def _effects_table(audit: Audit) -> Table:
    def row(kind: str, pictures: int, without: Accuracy | None, change: Change | None) -> dict[str, Any]:
        found = {"kind": kind, "pictures": pictures}
        for name in ("n", "accuracy", "low", "high"):
            found[name] = getattr(without, name, None)
        for name in ("difference", "low", "high"):
            found[f"change {name}"] = getattr(change, name, None)
        return found

    rows = [row("as it is", sum(audit.parts.values()), audit.whole, None)]
    return Table(
        [*rows, *(row(found.kind, found.pictures, found.without, found.change) for found in audit.effects)]
    )


TABLES = {
    "effects": _effects_table,
    "exact": lambda audit: _copies_table(audit.exact),
    "near": lambda audit: _copies_table(audit.near),
    "several": lambda audit: _copies_table(audit.several),
    "labels": lambda audit: Table(
        {
            **vars(found.picture),
            "probability": found.probability,
            "instead": found.instead,
            "instead probability": found.instead_probability,
        }
        for found in audit.labels
    ),
    "outliers": lambda audit: Table(
        {**vars(found.picture), "times": found.times} for found in audit.outliers
    ),
    "classes": lambda audit: Table(vars(pair) for pair in audit.pairs),
    "unreadable": lambda audit: Table(vars(found) for found in audit.unreadable),
}


def audit_path(store: Store) -> Path:
    """Where the record of a store's audit lies: beside the store, whose folder is sealed."""
    return record_beside(store.path, "audit")


class NotKeptError(StoreError):
    """An audit was made and could not be written; `audit` has it."""

    def __init__(self, audit: Audit, path: Path, error: OSError) -> None:
        self.audit = audit
        super().__init__(
            f"the audit could not be kept as {path}",
            found=error.strerror or str(error),
            hint="make room, or name another home by --home or PROBE_HOME",
        )


def keep(audit: Audit, store: Store) -> Path:
    """Write the record beside the store, in place of an earlier one; NotKeptError where that cannot be."""
    path = audit_path(store)
    try:
        with replacing(path) as place:
            place.write_text(json.dumps(sealed(audit.to_json()), allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise NotKeptError(audit, path, error) from error
    return path


def read(store: Store) -> Audit | None:
    """The audit of a store under its labelling in force; None where there is none.

    StoreError where the record is damaged.
    """
    path = audit_path(store)
    try:
        value = read_json(path, CAP)
        audit = read_record(Audit, value)
    except FileNotFoundError:
        return None
    except FieldError as error:
        raise _damaged(path, f"{error.place}: {error.found}, where {error.expected} belongs") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not is_intact(value):
        raise _damaged(path, "it was changed")
    if audit.key != store.key:
        raise _damaged(path, "that of another store")
    return audit if audit.index == store.index_hash else None


def _damaged(path: Path, found: str) -> StoreError:
    return StoreError(f"{path} is not the record of an audit", found=found, hint="probe audit makes it again")
