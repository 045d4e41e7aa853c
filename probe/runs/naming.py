"""What people call a run and say of it: a small file in its folder, and no part of what was measured."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from probe.durable import discard, replacing
from probe.errors import RunError, UsageError
from probe.hashing import is_intact, sealed
from probe.order import places_back
from probe.progress import say
from probe.records import read_record
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


def read_naming(folder: Path, run: str = "") -> Naming:
    """What a run is called, by default the one that the folder is named after; nothing where it has no name.

    Nor where the file is damaged or another run's, which is said.
    """
    try:
        value = read_json(folder / NAMING, SMALL)
        naming = read_record(Naming, value)
        if not is_intact(value):
            raise ValueError("it was changed")
        if value.get("run", run or folder.name) != (run or folder.name):
            raise ValueError("it is that of another run")
    except FileNotFoundError:
        return Naming()
    except (OSError, ValueError) as error:
        _say_once(f"{folder / NAMING} is damaged, and the run counts as one without a name: {error}")
        return Naming()
    return naming


@cache
def _say_once(line: str) -> None:
    """A list asks for the name of every run several times."""
    say(line)


def write_naming(folder: Path, naming: Naming, run: str) -> None:
    """Keep it in the folder of the run of that name; RunError when that cannot be written."""
    try:
        if naming == Naming() or (folder / NAMING).is_dir():
            discard(folder / NAMING)
        if naming == Naming():
            return
        with replacing(folder / NAMING) as path:
            path.write_text(json.dumps(sealed(asdict(naming) | {"run": run})), encoding="utf-8")
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
