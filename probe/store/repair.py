"""A damaged store put right: what its own records say is written again, what is lost is made to be computed.

Nothing that is whole is touched. A unit that is not what was committed loses its chunks, and the store its
seal, so that the next extraction computes just these rows and seals it anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probe.errors import StoreError, is_passing
from probe.failpoints import reach
from probe.machine import usable_cpus
from probe.store.arrays import read_record, wrong_metadata
from probe.store.chunks import chunk_checksum
from probe.store.commits import Commit, commits_digest, read_commits
from probe.store.files import LocalFiles
from probe.store.index import CURRENT, Current, read_current, read_index, set_current
from probe.store.locks import alone
from probe.store.manifest import MANIFEST, Manifest, is_sealed, read_manifest
from probe.store.reader import KEY_LETTERS, Store, expect_named, expect_own, is_misnamed
from probe.store.spec import Layout


@dataclass(frozen=True)
class Repair:
    """What was found and put right.

    Attributes
    ----------
    units : whose rows have to be computed again.
    rows : how many these are.
    files : what was written again or taken away.
    """

    units: tuple[int, ...] = ()
    rows: int = 0
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.units or self.files)

    def lines(self) -> list[str]:
        """The repair for people."""
        lines = [f"written again or taken away: {name}" for name in self.files]
        if self.units:
            units = ", ".join(map(str, self.units[:12])) + (", …" if len(self.units) > 12 else "")
            lines.append(f"damaged: {self.rows:,} rows, units {units}")
        return lines


def is_sound(path: Path) -> bool:
    """Whether a finished store is whole: its name, its records, and every chunk the one committed there.

    Reads every chunk once. Labellings are not looked at.
    """
    files = LocalFiles(path)
    try:
        manifest = read_manifest(files)
        record = read_record(path)
    except StoreError:
        return False
    layout = manifest.layout
    commits = read_commits(files, layout)
    return (
        not is_misnamed(path, layout.key)
        and record == json.loads(json.dumps({"spec": manifest.spec, "layout": layout.as_json()}))
        and is_sealed(manifest, commits)
        and not wrong_metadata(files, layout, record["spec"])
        and not _damaged(files, layout, commits)
    )


def mend(path: Path) -> Repair:
    """Put right what the store itself knows, and unseal it where rows have to be computed again.

    StoreError when another process is at the store, or when nothing says any more what it holds.
    """
    files = LocalFiles(path)
    with alone(path):
        files.refuse_links_below("data.zarr")
        layout, spec, manifest = _known(path, files)
        written = list(_mend_metadata(path, files, layout, spec))
        reach("mend-metadata")
        commits = read_commits(files, layout)
        lost = [unit for unit in range(layout.units) if unit not in commits]
        foreign = manifest is not None and not lost and not _are_those(manifest, commits)
        # Whole lines and whole chunks that are not those that were sealed: any of them may be another's.
        damaged = list(range(layout.units)) if foreign else _damaged(files, layout, commits)
        for unit in damaged:
            for array in layout.array_names():
                _take_away(path, layout.chunk_name(array, unit))
                reach("mend-chunk")
        written += _mend_index(files, layout, manifest.facts.get("origin") if manifest is not None else None)
        reach("mend-index")
        units = tuple(sorted({*lost, *damaged}))
        if not (manifest is not None and not units and is_sealed(manifest, commits)):
            written += _take_away(path, MANIFEST)
            reach("mend-unsealed")
        rows = sum(stop - start for start, stop in map(layout.unit_range, units))
        return Repair(units, rows, tuple(written))


def _expect_damage(error: StoreError) -> None:
    """StoreError unless what cannot be read is damaged: what a disk does not give now may be whole."""
    if is_passing(error):
        raise StoreError(
            error.problem,
            found=error.found,
            hint="see what the system's log says of the disk, and run the same command again:"
            " nothing was taken away",
        ) from error


def _are_those(manifest: Manifest, commits: dict[int, Commit]) -> bool:
    """Whether the commits are those that a manifest has sealed, as far as it can still be believed."""
    return not manifest.intact or commits_digest(commits) == manifest.digest


def unsealed_store(path: Path) -> Store:
    """What is known of a store without a manifest, enough to compute its missing rows.

    StoreError when no labelling of it can be read.
    """
    files = LocalFiles(path)
    layout, spec, _ = _known(path, files)
    current = read_current(files, layout.key)
    manifest = Manifest(layout, spec, "", {})
    return Store(path, manifest, current.index, current.used, current.sequence, current.origins)


def _take_away(path: Path, name: str) -> list[str]:
    """Remove a file of a store, or what lies in its place; the name where there was something."""
    place = path / name
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.is_symlink() or place.exists():
        place.unlink()
    else:
        return []
    return [name]


def _known(path: Path, files: LocalFiles) -> tuple[Layout, dict[str, Any], Manifest | None]:
    """`_recorded`; StoreError where that is another store than the folder's name says."""
    found = _recorded(path, files)
    expect_named(path, found[0].key)
    return found


def _recorded(path: Path, files: LocalFiles) -> tuple[Layout, dict[str, Any], Manifest | None]:
    """Layout and specification by the manifest, or else by what is kept with the arrays."""
    try:
        manifest = read_manifest(files)
        if manifest.key != manifest.layout.key:
            raise StoreError(f"{path.name}: the key of {MANIFEST} is not that of its parts")
        if not path.name.endswith(manifest.key[:KEY_LETTERS]):
            expect_own(manifest, path)
        return manifest.layout, dict(manifest.spec), manifest
    except StoreError as error:
        _expect_damage(error)
        try:
            record = read_record(path)
            return Layout.from_json(record["layout"], str(path)), record["spec"], None
        except StoreError as error:
            _expect_damage(error)
            raise StoreError(
                f"{path.name} cannot be repaired: nothing says any more what it holds",
                expected=f"{MANIFEST} or data.zarr/zarr.json",
                found=error.found,
                hint=f"probe stores rm {path.name}, then extract again",
            ) from error


def _damaged(files: LocalFiles, layout: Layout, commits: dict[int, Commit]) -> list[int]:
    """Committed units with a chunk that is missing, changed, or another's."""

    def is_damaged(unit: int) -> bool:
        commit = commits[unit]
        found = {array: chunk_checksum(files, layout, array, unit) for array in layout.array_names()}
        return any(
            checksum is None or commit.checksums.get(array, checksum) != checksum
            for array, checksum in found.items()
        )

    units = sorted(commits)
    with ThreadPoolExecutor(usable_cpus() + 1) as pool:
        return [unit for unit, bad in zip(units, pool.map(is_damaged, units), strict=True) if bad]


def _mend_metadata(path: Path, files: LocalFiles, layout: Layout, spec: dict[str, Any]) -> list[str]:
    wrong = wrong_metadata(files, layout, spec)
    for name, content in wrong.items():
        if (path / name).is_dir():
            _take_away(path, name)
        files.write(name, content)
    return list(wrong)


def _mend_index(files: LocalFiles, layout: Layout, origin: Mapping[str, Any] | None) -> list[str]:
    """Take away labellings that cannot be read; the one in force becomes one that can, where there is one.

    `origin` is how the data set was opened, where that is known from elsewhere.
    """
    gone, whole = [], []
    for name in [name for name in files.list("index") if name.endswith(".npz")]:
        digest = name.removeprefix("index/").removesuffix(".npz")
        try:
            if read_index(files, digest, layout.rows).digest() != digest:
                raise StoreError(f"{name} was changed")
            whole.append(digest)
        except StoreError as error:
            _expect_damage(error)
            gone += _take_away(files.root, name)
    try:
        current = read_current(files, layout.key)
    except StoreError as error:
        _expect_damage(error)
        current = None
    if current is not None and current.index in whole:
        return gone
    if len(whole) == 1:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        known = current or Current("", now, None, (origin,) if origin else ())
        set_current(files, replace(known, index=whole[0]), layout.key)
        return [*gone, CURRENT]
    return [*gone, *_take_away(files.root, CURRENT)]
