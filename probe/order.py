"""What was finished last: a number kept with all that is finished, since neither clocks nor names say it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LATEST = re.compile(r"latest(?::([1-9][0-9]{0,8}))?")

MOST = 1 << 52
"""A number above would be the latest for ever, and with digits enough no number that JSON can hold."""

Rank = tuple[int, int, str, tuple[str | int, ...]]


def places_back(name: str | None) -> int | None:
    """``latest`` (also None) -> 1, ``latest:3`` -> 3, any other name -> None."""
    if name is None:
        return 1
    found = LATEST.fullmatch(name)
    return int(found[1] or 1) if found else None


def number_of(record: Any) -> int | None:
    """The ``sequence`` of a record; None for one from before there was any, or one that nobody counted to."""
    number = record.get("sequence") if isinstance(record, dict) else None
    counted = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < MOST
    return number if counted else None


def rank(number: int | None, time: object, name: str) -> Rank:
    """What sorts from the first finished to the last.

    What has no number is older than all that has one; among itself it goes by `time` (ISO text) and then by
    name, in which 10 comes after 9.
    """
    said = time if isinstance(time, str) else ""
    return (0 if number is None else 1, number or 0, said, natural(name))


def natural(name: str) -> tuple[str | int, ...]:
    """A name as a sort key in which numbers count as numbers: text and number in turn."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """While one process numbers what it puts into `folder`, the others wait. The folder must exist."""
    # The folder itself is what is locked: a file for it would lie among what is counted.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
