"""Writing a store unit by unit so that a kill at any moment costs one unit and never a wrong number."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from probe.durable import WRITING, settle
from probe.errors import StoreError
from probe.failpoints import reach
from probe.scratch import scratch_folder
from probe.store.arrays import create_arrays, read_layout, read_record, wrong_metadata
from probe.store.commits import CHECKSUM_BYTES, Commit, commits_digest, finished_units, read_commits
from probe.store.files import LocalFiles, disk_errors
from probe.store.locks import writing
from probe.store.manifest import MANIFEST, MOST_LISTED, Manifest
from probe.store.spec import Layout, StoreSpec

_OPEN = {"array.write_empty_chunks": True}
# zarr does not keep this with the array: without it a chunk of genuine NaN rows is deleted on write.


def create(path: Path, spec: StoreSpec, layout: Layout) -> None:
    """Make an empty store at `path`, whole or not at all; a store made meanwhile by another process stays."""
    files = LocalFiles(path)
    needed, free = layout.total_bytes(), files.free_bytes()
    if needed > free:
        raise StoreError(
            f"the store would not fit on the disk of {path}",
            expected=f"{needed / 1e6:,.0f} MB",
            found=f"{free / 1e6:,.0f} MB free",
            hint="make room, set PROBE_HOME to a larger disk, or use --limit or fewer outputs",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path.parent), scratch_folder(path.parent, WRITING) as scratch:
        temporary = scratch / path.name
        create_arrays(temporary, spec.as_json(), layout)
        (temporary / "commits").mkdir()
        (temporary / "index").mkdir()
        try:
            settle(temporary, path)
        except OSError:
            if not path.exists():
                raise


def is_store(path: Path) -> bool:
    """Whether a folder is a store, finished or not, by what lies in it."""
    return (path / MANIFEST).is_file() or (path / "data.zarr").is_dir()


def finished_rows(path: Path) -> int:
    """How many rows of a store that is being written are committed; 0 while there is no store."""
    if not path.exists():
        return 0
    layout = read_layout(path)
    ranges = (layout.unit_range(unit) for unit in finished_units(LocalFiles(path), layout))
    return sum(stop - start for start, stop in ranges)


class StoreWriter:
    """One process's hand on a store: it owns the units whose number is `shard` modulo `shards`.

    Use as a context manager; StoreError when another process writes the same shard.
    """

    def __init__(self, path: Path, shard: int = 0, shards: int = 1) -> None:
        self.path = path
        record = read_record(path)
        self.layout = Layout.from_json(record["layout"], str(path))
        self._files = LocalFiles(path)
        self._shard, self._shards = shard, shards
        with ExitStack() as opened:
            opened.enter_context(writing(path))
            # zarr writes its files itself, past what refuses links.
            self._files.refuse_links_below("data.zarr")
            self._expect_metadata(record["spec"])
            log = self._files.append_log(f"commits/{shard}of{shards}.jsonl")
            self._log = opened.enter_context(closing(log))
            with zarr.config.set(_OPEN):
                group = zarr.open_group(
                    str(path / "data.zarr"), mode="r+", zarr_format=3, use_consolidated=False
                )
                self._arrays = {name: group[name] for name in self.layout.array_names()}
            self._opened = opened.pop_all()

    def _expect_metadata(self, spec: Mapping[str, Any]) -> None:
        """StoreError where zarr would be told of other shapes or codecs: it allocates what it is told."""
        wrong = wrong_metadata(self._files, self.layout, spec)
        if wrong:
            raise StoreError(
                f"{self.path.name} is damaged: {', '.join(wrong)} do not say what the store's record says",
                hint=self._files.repair_hint,
            )

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def owned_units(self) -> range:
        """The units of this shard, finished or not."""
        return range(self._shard, self.layout.units, self._shards)

    def pending_units(self) -> list[int]:
        """This shard's units that still have to be computed; partial files of theirs are swept."""
        done = finished_units(self._files, self.layout)
        pending = [unit for unit in self.owned_units() if unit not in done]
        self._sweep(pending)
        return pending

    def _sweep(self, units: list[int]) -> None:
        for unit in units:
            for array in self.layout.array_names():
                chunk = self._files.path(self.layout.chunk_name(array, unit))
                for leftover in (chunk, *chunk.parent.glob(f"{chunk.name}.*.partial")):
                    leftover.unlink(missing_ok=True)

    def write_unit(
        self,
        unit: int,
        arrays: Mapping[str, NDArray[Any]],
        unreadable: Mapping[int, tuple[int, str]],
        turned: Collection[int] = (),
        rounding: float | None = None,
    ) -> None:
        """Write, fsync and commit one unit.

        Parameters
        ----------
        arrays : every array of the layout -> (r, …) rows of this unit.
        unreadable : row -> (status, reason).
        turned : rows of images with an EXIF orientation other than upright.
        rounding : see `Commit`.
        """
        start, stop = self.layout.unit_range(unit)
        names = {name: self.layout.chunk_name(name, unit) for name in self.layout.array_names()}
        with disk_errors(self.path):
            for name in names:
                self._arrays[name][start:stop] = arrays[name]
                reach("unit-chunk")
            reach("unit-written")
            self._files.sync(list(names.values()))
        chunks, checksums = {}, {}
        for name, file in names.items():
            content = self._files.read(file, None)
            chunks[name] = hashlib.sha256(content).hexdigest()
            checksums[name] = int.from_bytes(content[-CHECKSUM_BYTES:], "little")
        reach("unit-synced")
        rows = tuple(sorted(turned))
        commit = Commit(unit, chunks, unreadable, len(rows), checksums, rows, rounding)
        self._log.append(commit.to_line(self.layout))
        reach("unit-committed")

    def seal(self, spec: StoreSpec, ids: NDArray[np.str_], facts: Mapping[str, Any]) -> bool:
        """Write the manifest when every unit of every shard is committed; say whether that was so."""
        commits = read_commits(self._files, self.layout)
        done = len(finished_units(self._files, self.layout)) == self.layout.units
        reach("seal-begun")
        if done:
            problems = {row: p for commit in commits.values() for row, p in commit.unreadable.items()}
            manifest = Manifest(
                self.layout,
                spec.as_json(),
                commits_digest(commits),
                {str(ids[row]): problems[row] for row in sorted(problems)[:MOST_LISTED]},
                {**facts, **_added_up(commits.values())},
                len(problems),
            )
            self._files.write(MANIFEST, manifest.to_bytes())
            reach("seal-done")
        return done


def _added_up(commits: Collection[Commit]) -> dict[str, Any]:
    """Facts of a store that its units have a part of each, whoever computed them."""
    roundings = [commit.rounding for commit in commits if commit.rounding is not None]
    worst = {"rounding": max(roundings)} if roundings else {}
    return {"exif_turned": sum(commit.turned for commit in commits), **worst}
