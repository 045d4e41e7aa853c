"""Why an image has features or has none: the codes kept in every store."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """One code per row of a store (uint8)."""

    READ = 0
    UNDECODABLE = 1
    MISSING = 2
    TOO_LARGE = 3
    FORMAT = 4
    CHANGED = 5
    NOT_COMPUTED = 255


MEANING = {
    Status.READ: "read",
    Status.UNDECODABLE: "cannot be decoded",
    Status.MISSING: "missing or unreadable file",
    Status.TOO_LARGE: "too large",
    Status.FORMAT: "not an image in an allowed format",
    Status.CHANGED: "changed since it was indexed",
    Status.NOT_COMPUTED: "not computed yet",
}
