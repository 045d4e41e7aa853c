"""MANIFEST.json: written last, so its presence is what makes a store finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from probe.errors import StoreError
from probe.store.commits import Commit, commits_digest
from probe.store.files import LocalFiles
from probe.store.spec import SCHEMA, Layout, spec_key

MANIFEST = "MANIFEST.json"
MANIFEST_CAP = 64 << 20


@dataclass(frozen=True)
class Manifest:
    """What a finished store says about itself.

    Attributes
    ----------
    layout : rows, units, arrays.
    spec : the `StoreSpec` as JSON, whose hash is the key.
    digest : over every chunk's hash, see `commits_digest`.
    unreadable : id -> (status, reason).
    facts : recorded, not keyed: data set name and facts, device, versions, the resolved command, seconds.
    """

    layout: Layout
    spec: Mapping[str, Any]
    digest: str
    unreadable: Mapping[str, tuple[int, str]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the specification hashes to, which must be the layout's key."""
        return spec_key(self.spec)

    def to_bytes(self) -> bytes:
        record = asdict(self) | {"schema": SCHEMA, "layout": self.layout.as_json()}
        return json.dumps(record, indent=1, sort_keys=True).encode()


def read_manifest(files: LocalFiles) -> Manifest:
    """Read and check a manifest; StoreError when the store is unfinished, damaged or of another version."""
    where = str(files.path(MANIFEST))
    if not files.exists(MANIFEST):
        raise StoreError(
            f"the store {files.root} is unfinished",
            expected=MANIFEST,
            hint="run the same extract command again: it resumes where it stopped",
        )
    try:
        value: Any = json.loads(files.read(MANIFEST, MANIFEST_CAP))
        schema = value["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{where} is damaged", found=str(error), hint=files.repair_hint) from error
    if schema != SCHEMA:
        raise StoreError(
            f"{where} was written by another version of probe",
            expected=f"store schema {SCHEMA}",
            found=f"store schema {schema!r}",
            hint="extract again, or use the version that wrote it",
        )
    try:
        return Manifest(
            layout=Layout.from_json(value["layout"], where),
            spec=dict(value["spec"]),
            digest=str(value["digest"]),
            unreadable={str(key): (int(p[0]), str(p[1])) for key, p in value["unreadable"].items()},
            facts=dict(value["facts"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreError(f"{where} is damaged", found=repr(error), hint=files.repair_hint) from error


def is_sealed(manifest: Manifest, commits: Mapping[int, Commit]) -> bool:
    """Whether a manifest says of its store what the commits say."""
    unread = sum(len(commit.unreadable) for commit in commits.values())
    return (
        len(commits) == manifest.layout.units
        and commits_digest(commits) == manifest.digest
        and len(manifest.unreadable) == unread
    )
