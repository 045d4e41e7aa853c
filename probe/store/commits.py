"""What has been finished: one durable line per unit, in one file per writer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.records import load_json
from probe.store.files import LocalFiles
from probe.store.spec import Layout

COMMIT_LOG_CAP = 1 << 30
CHECKSUM_BYTES = 4
"""crc32c, at the end of every chunk file."""


OWN_HASH = "line"
"""Of a line itself; none in those from before it was recorded."""


def _own_hash(record: Mapping[str, Any]) -> str:
    said = {key: value for key, value in record.items() if key != OWN_HASH}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Commit:
    """A finished unit.

    Attributes
    ----------
    unit : its number.
    chunks : array name -> sha256 of the chunk file as it lies on disk.
    checksums : array name -> crc32c that ends the chunk file; none in stores from before it was recorded.
    unreadable : row -> (status, reason) of every image that could not be read.
    turned : how many images have an EXIF orientation other than upright.
    turned_rows : which these are; None in lines from before it was recorded.
    rounding : at most so much of its length every vector of the unit differs from float32
        (`probe.store.encoding`); None where it is not stored in 8 bits.
    """

    unit: int
    chunks: Mapping[str, str]
    unreadable: Mapping[int, tuple[int, str]]
    turned: int = 0
    checksums: Mapping[str, int] = field(default_factory=dict)
    turned_rows: tuple[int, ...] | None = None
    rounding: float | None = None

    def to_line(self, layout: Layout) -> bytes:
        record = {
            "unit": self.unit,
            "rows": list(layout.unit_range(self.unit)),
            "chunks": dict(self.chunks),
            "unreadable": {str(row): list(problem) for row, problem in self.unreadable.items()},
            "turned": self.turned,
            "crc32c": dict(self.checksums),
        }
        if self.turned_rows is not None:
            record["turned_rows"] = list(self.turned_rows)
        if self.rounding is not None:
            record["rounding"] = self.rounding
        return json.dumps({**record, OWN_HASH: _own_hash(record)}, sort_keys=True).encode()

    @classmethod
    def from_line(cls, line: bytes, layout: Layout) -> Commit | None:
        """None for a torn, foreign or changed line: its unit is simply not finished."""
        try:
            value: Any = load_json(line.decode())
            if value.get(OWN_HASH, "") not in ("", _own_hash(value)):
                return None
            unit = int(value["unit"])
            commit = cls(
                unit,
                {str(name): str(digest) for name, digest in value["chunks"].items()},
                {int(row): (int(p[0]), str(p[1])) for row, p in value["unreadable"].items()},
                int(value.get("turned", 0)),
                {str(name): int(checksum) for name, checksum in value.get("crc32c", {}).items()},
                tuple(map(int, value["turned_rows"])) if "turned_rows" in value else None,
                float(value["rounding"]) if "rounding" in value else None,
            )
            fits = 0 <= unit < layout.units and list(layout.unit_range(unit)) == value["rows"]
            fits = fits and all(
                0 <= checksum < 1 << 8 * CHECKSUM_BYTES for checksum in commit.checksums.values()
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None
        return commit if fits and set(commit.chunks) == set(layout.array_names()) else None


def read_commits(files: LocalFiles, layout: Layout) -> dict[int, Commit]:
    """The last commit of every unit, from all writers."""
    commits: dict[int, Commit] = {}
    for name in files.list("commits"):
        if name.endswith(".jsonl"):
            for line in files.read(name, COMMIT_LOG_CAP).splitlines():
                commit = Commit.from_line(line, layout)
                if commit is not None:
                    commits[commit.unit] = commit
    return commits


def has_exact_sizes(files: LocalFiles, layout: Layout, unit: int) -> bool:
    """Whether all of a unit's chunk files are there at the size they must have."""
    return all(
        files.size(layout.chunk_name(array, unit)) == layout.chunk_bytes(array)
        for array in layout.array_names()
    )


def checksums(commits: Mapping[int, Commit], layout: Layout, array: str) -> NDArray[np.int64]:
    """(units,) the crc32c that each chunk of an array was committed with, -1 where none was recorded."""
    found = np.full(layout.units, -1, np.int64)
    for unit, commit in commits.items():
        found[unit] = commit.checksums.get(array, -1)
    return found


def ends_as_committed(files: LocalFiles, layout: Layout, commit: Commit) -> bool:
    """Whether the checksums that a unit's chunk files end with are those of its commit; reads no more."""
    for array, checksum in commit.checksums.items():
        if ending_checksum(files, layout.chunk_name(array, commit.unit)) != checksum:
            return False
    return True


def ending_checksum(files: LocalFiles, chunk: str) -> int:
    """The checksum that a chunk file ends with; what is before it is not read."""
    with files.open(chunk) as stream:
        stream.seek(-CHECKSUM_BYTES, os.SEEK_END)
        return int.from_bytes(stream.read(CHECKSUM_BYTES), "little")


def finished_units(files: LocalFiles, layout: Layout) -> set[int]:
    """Units that can be trusted: a commit line and chunks of the exact size."""
    return {unit for unit in read_commits(files, layout) if has_exact_sizes(files, layout, unit)}


def commits_digest(commits: Mapping[int, Commit]) -> str:
    """One hash over every chunk's hash, in unit and name order: what the manifest seals."""
    digest = hashlib.sha256()
    for unit in sorted(commits):
        for array in sorted(commits[unit].chunks):
            checksum = commits[unit].checksums.get(array)
            bound = "" if checksum is None else f" {checksum}"
            digest.update(f"{unit} {array} {commits[unit].chunks[array]}{bound}\n".encode())
    return digest.hexdigest()
