"""Checking a store against its own record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.errors import StoreError
from probe.images.status import Status
from probe.store.commits import commits_digest, ends_as_committed, has_exact_sizes, read_commits
from probe.store.files import LocalFiles
from probe.store.reader import Store, open_store


@dataclass(frozen=True)
class Verification:
    """`checked` counts what was looked at; `problems` is empty when the store is what it says it is."""

    checked: dict[str, int]
    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_store(path: Path, *, full: bool = False) -> Verification:
    """Check a store.

    Quick: every unit committed, every chunk of the exact size and with the checksum of its commit, manifest
    digest and key, the current index.
    Full: also every chunk's sha256, NaN exactly where the status says so, labels in range.
    """
    store = open_store(path)
    files, layout = LocalFiles(path), store.manifest.layout
    problems: list[str] = []
    key = store.manifest.key
    if key != layout.key:
        problems.append(f"MANIFEST.json: the key is {layout.key[:12]}, its parts hash to {key[:12]}")
    if not store.manifest.intact:
        problems.append("MANIFEST.json: changed since it was written")
    commits = read_commits(files, layout)
    for unit in range(layout.units):
        if unit not in commits:
            problems.append(f"unit {unit}: no commit line")
        elif not has_exact_sizes(files, layout, unit):
            problems.append(f"unit {unit}: a chunk is missing or has the wrong size")
        elif not ends_as_committed(files, layout, commits[unit]):
            problems.append(f"unit {unit}: a chunk is not the one that was committed there")
    if commits_digest(commits) != store.manifest.digest:
        problems.append("MANIFEST.json: the digest does not match the commit lines")
    problems += _index_problems(store)
    checked = {"units": layout.units, "rows": layout.rows, "chunks": 0}
    if full and not problems:
        for unit, commit in sorted(commits.items()):
            for array, digest in commit.chunks.items():
                checked["chunks"] += 1
                data = files.read(layout.chunk_name(array, unit), None)
                if hashlib.sha256(data).hexdigest() != digest:
                    problems.append(
                        f"{layout.chunk_name(array, unit)}: content changed since it was committed"
                    )
        if not problems:
            problems += _value_problems(store)
    return Verification(checked, problems)


def _index_problems(store: Store) -> list[str]:
    try:
        index = store.index
    except StoreError as error:
        return [f"index: {error.problem}"]
    problems = []
    try:
        if index.digest() != store.index_hash:
            problems.append("index: its content is not what its name says")
    except StoreError as error:
        return [f"index: {error.problem}"]
    if len(index.labels) and not (
        index.labels.min() >= -1 and index.labels.max() < max(len(index.classes), 1)
    ):
        problems.append(f"index: labels outside -1 … {len(index.classes) - 1}")
    if not np.isin(index.splits, ("train", "val", "test", "")).all():
        problems.append("index: a split that is none of train, val, test or empty")
    return problems


def _value_problems(store: Store) -> list[str]:
    problems = []
    unread = store.status != Status.READ
    for name in store.manifest.layout.shapes:
        output, _, view = name.partition("@")
        features = store.features(output, int(view or 0))
        absent = unread | ~store.viewed if view else unread
        for unit in range(store.manifest.layout.units):
            rows = np.arange(*store.manifest.layout.unit_range(unit))
            block = features.flat(rows)
            wrong = np.where(absent[rows], ~np.isnan(block).all(1), ~np.isfinite(block).all(1))
            if wrong.any():
                problems.append(
                    f"features/{name}: {int(wrong.sum())} rows of unit {unit} disagree with their status"
                )
    listed = {str(store.index.ids[row]) for row in np.flatnonzero(unread)}
    manifest = store.manifest
    known = set(manifest.unreadable) == listed if manifest.lists_all else set(manifest.unreadable) < listed
    if not (known and manifest.lists_enough and manifest.unreadable_count == len(listed)):
        problems.append("MANIFEST.json: the list of unreadable images does not match the status array")
    return problems
