"""MANIFEST.json: written last, so its presence is what makes a store finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from probe.errors import StoreError
from probe.hashing import is_intact, sealed
from probe.records import read_record
from probe.store.commits import Commit, commits_digest
from probe.store.files import LocalFiles
from probe.store.spec import SCHEMAS, Layout, schema_of, spec_key

MANIFEST = "MANIFEST.json"
MANIFEST_CAP = 64 << 20
MOST_LISTED = 10_000
"""Unreadable images that a manifest names."""


@dataclass(frozen=True)
class Manifest:
    """What a finished store says about itself.

    Attributes
    ----------
    layout : rows, units, arrays.
    spec : the `StoreSpec` as JSON, whose hash is the key.
    digest : over every chunk's hash, see `commits_digest`.
    unreadable : id -> (status, reason), of `MOST_LISTED` of them at most: the others the commits tell.
    facts : recorded, not keyed: data set name and facts, device, versions, the resolved command, seconds.
    unreadable_count : of all unreadable images.
    intact : whether it is, in every character that says something, as it was written.
    """

    layout: Layout
    spec: Mapping[str, Any]
    digest: str
    unreadable: Mapping[str, tuple[int, str]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    unreadable_count: int = 0
    intact: bool = field(default=True, compare=False)

    @property
    def lists_all(self) -> bool:
        """Whether `unreadable` has all of them."""
        return len(self.unreadable) == self.unreadable_count

    @property
    def lists_enough(self) -> bool:
        """Whether `unreadable` has as many as it should."""
        return self.lists_all or len(self.unreadable) == MOST_LISTED

    @property
    def key(self) -> str:
        """What the specification hashes to, which must be the layout's key."""
        return spec_key(self.spec)

    def to_bytes(self) -> bytes:
        schema = schema_of(self.layout.dtype)
        record = asdict(self) | {"schema": schema, "layout": self.layout.as_json()}
        del record["intact"]
        return json.dumps(sealed(record), indent=1, sort_keys=True).encode()


def read_manifest(files: LocalFiles) -> Manifest:
    """Read and check a manifest; StoreError when the store is unfinished, damaged or of another version."""
    where = str(files.path(MANIFEST))
    if not files.exists(MANIFEST):
        raise StoreError(
            f"the store {files.root} is unfinished",
            expected=MANIFEST,
            hint="run the same extract command again: it resumes where it stopped",
        )
    value = files.read_json(MANIFEST, MANIFEST_CAP)
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema not in SCHEMAS:
        raise StoreError(
            f"{where} was written by another version of probe",
            expected=f"store schema {' or '.join(map(str, SCHEMAS))}",
            found=f"store schema {schema!r}",
            hint="extract again, or use the version that wrote it",
        )
    try:
        return Manifest(
            layout=Layout.from_json(value["layout"], where),
            spec=_checked(_Spec, value["spec"]),
            digest=str(value["digest"]),
            unreadable={str(key): (int(p[0]), str(p[1])) for key, p in value["unreadable"].items()},
            facts=_checked(_Facts, value["facts"]),
            unreadable_count=int(value.get("unreadable_count", len(value["unreadable"]))),
            intact=is_intact(value),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreError(f"{where} is damaged", found=str(error), hint=files.repair_hint) from error


def _checked(kind: type, value: Any) -> dict[str, Any]:
    """The JSON object itself, where `kind` can be read of it: a record is believed as far as it has types."""
    read_record(kind, value)
    return dict(value)


@dataclass(frozen=True)
class _Backbone:
    name: str
    weights: str
    size: int
    preprocess: str
    outputs: tuple[str, ...]
    precision: str
    engine: str | None = None


@dataclass(frozen=True)
class _Pixels:
    policy: str


@dataclass(frozen=True)
class _Spec:
    """Of a `StoreSpec` what others read."""

    backbone: _Backbone
    pixels: _Pixels
    dtype: str
    images: str
    views: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Origin:
    spec: str | None = None


@dataclass(frozen=True)
class _Facts:
    """Of the facts what others read."""

    dataset: str | None = None
    dataset_facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    created: str | None = None
    seconds: float | None = None
    rows_computed: int | None = None
    weights_path: str | None = None
    pixel_policy: str | None = None
    exif_turned: int = 0
    rounding: float | None = None
    origin: _Origin | None = None


def has_sealed(manifest: Manifest, commits: Mapping[int, Commit]) -> bool:
    """Whether a manifest is as it was written, and these are the commits that it was written for."""
    return manifest.intact and commits_digest(commits) == manifest.digest


def is_sealed(manifest: Manifest, commits: Mapping[int, Commit]) -> bool:
    """Whether a manifest says of its store what the commits say."""
    unread = sum(len(commit.unreadable) for commit in commits.values())
    return (
        has_sealed(manifest, commits)
        and len(commits) == manifest.layout.units
        and manifest.unreadable_count == unread
        and manifest.lists_enough
    )
