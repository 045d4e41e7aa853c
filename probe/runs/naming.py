"""What people call a run and say of it: a small file in its folder, and no part of what was measured."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from probe.durable import discard, replacing
from probe.errors import RunError, UsageError
from probe.order import places_back
from probe.records import FieldError, read_record
from probe.whole import SMALL, read_json

NAMING = "naming.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
LONGEST = 10_000
"""Letters of a note."""


@dataclass(frozen=True)
class Naming:
    """A name by which commands find the run, and a note; None where nobody gave one."""

    name: str | None = None
    note: str | None = None


def read_naming(folder: Path) -> Naming:
    """What a run is called; nothing where the file is missing or is not one of ours."""
    try:
        return read_record(Naming, read_json(folder / NAMING, SMALL))
    except (OSError, ValueError, FieldError):
        return Naming()


def write_naming(folder: Path, naming: Naming) -> None:
    """Keep it in the run's folder; RunError when that cannot be written."""
    try:
        if naming == Naming():
            discard(folder / NAMING)
            return
        with replacing(folder / NAMING) as path:
            path.write_text(json.dumps(asdict(naming)), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder / NAMING} cannot be written", found=error.strerror or str(error)) from error


def check_name(name: str) -> None:
    """UsageError unless a run can be called so."""
    if not NAME.fullmatch(name) or places_back(name) is not None:
        raise UsageError(
            "a run cannot be called so",
            expected="up to 80 letters, digits, _ . + and -, and not latest",
            found=name[:100],
        )


def check_note(note: str) -> None:
    """UsageError for a note that is longer than one can be."""
    if len(note) > LONGEST:
        raise UsageError("the note is too long", expected=f"{LONGEST:,} letters", found=f"{len(note):,}")
