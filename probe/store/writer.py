"""Writing a store unit by unit so that a kill at any moment costs one unit and never a wrong number."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from probe.errors import StoreError
from probe.store.commits import Commit, commits_digest, finished_units, read_commits
from probe.store.files import LocalFiles, disk_errors
from probe.store.manifest import MANIFEST, Manifest
from probe.store.spec import Layout, StoreSpec

NOT_COMPUTED = 255
"""Fill value of ``status``: a row no writer has reached."""

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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with disk_errors(path.parent):
        try:
            _create_arrays(temporary, spec, layout)
            (temporary / "commits").mkdir()
            (temporary / "index").mkdir()
            try:
                temporary.rename(path)
            except OSError:
                if not path.exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _create_arrays(root: Path, spec: StoreSpec, layout: Layout) -> None:
    root.mkdir(parents=True)
    record = {"probe": {"spec": spec.as_json(), "layout": layout.as_json()}}
    group = zarr.create_group(str(root / "data.zarr"), zarr_format=3, attributes=record)
    for name in layout.array_names():
        shape = layout.row_shape(name)
        dtype = np.dtype(layout.array_dtype(name))
        group.create_array(
            name,
            shape=(layout.rows, *shape),
            chunks=(layout.unit_rows, *shape),
            dtype=dtype,
            compressors=[Crc32cCodec()],
            fill_value=float("nan") if dtype.kind == "f" else NOT_COMPUTED,
            dimension_names=layout.dimensions(name),
        )


def read_layout(path: Path) -> Layout:
    """The record of a store that may be unfinished: how a later writer learns batch and unit size."""
    try:
        group = zarr.open_group(str(path / "data.zarr"), mode="r", zarr_format=3)
        record: Any = group.attrs.asdict()["probe"]["layout"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a store", found=str(error), hint="probe stores ls") from error
    return Layout.from_json(record, str(path))


def is_store(path: Path) -> bool:
    """Whether a folder is a store, finished or not, by what lies in it."""
    return (path / MANIFEST).is_file() or (path / "data.zarr").is_dir()


def is_whole(path: Path) -> bool:
    """Whether every unit is committed and every chunk has its exact size; reads no chunk, takes no lock."""
    layout = read_layout(path)
    return len(finished_units(LocalFiles(path), layout)) == layout.units


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
        self.layout = read_layout(path)
        self._files = LocalFiles(path)
        self._shard, self._shards = shard, shards
        self._log = self._files.append_log(f"commits/{shard}of{shards}.jsonl")
        with zarr.config.set(_OPEN):
            group = zarr.open_group(str(path / "data.zarr"), mode="r+", zarr_format=3)
            self._arrays = {name: group[name] for name in self.layout.array_names()}

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._log.close()

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
        turned: int = 0,
    ) -> None:
        """Write, fsync and commit one unit.

        Parameters
        ----------
        arrays : ``features/<output>``, ``status`` (and ``viewed``) -> (r, …) rows of this unit.
        unreadable : row -> (status, reason).
        turned : images with an EXIF orientation other than upright.
        """
        start, stop = self.layout.unit_range(unit)
        names = {name: self.layout.chunk_name(name, unit) for name in self.layout.array_names()}
        with disk_errors(self.path):
            for name in names:
                self._arrays[name][start:stop] = arrays[name]
            self._files.sync(list(names.values()))
        chunks = {name: self.chunk_hash(file) for name, file in names.items()}
        self._log.append(Commit(unit, chunks, unreadable, turned).to_line(self.layout))

    def chunk_hash(self, file: str) -> str:
        """sha256 of a chunk file as it lies on disk."""
        return hashlib.sha256(self._files.read(file, None)).hexdigest()

    def seal(self, spec: StoreSpec, ids: NDArray[np.str_], facts: Mapping[str, Any]) -> bool:
        """Write the manifest when every unit of every shard is committed; say whether that was so."""
        commits = read_commits(self._files, self.layout)
        done = len(finished_units(self._files, self.layout)) == self.layout.units
        if done:
            problems = {row: p for commit in commits.values() for row, p in commit.unreadable.items()}
            manifest = Manifest(
                self.layout,
                spec.as_json(),
                commits_digest(commits),
                {str(ids[row]): problems[row] for row in sorted(problems)},
                {**facts, "exif_turned": sum(commit.turned for commit in commits.values())},
            )
            self._files.write(MANIFEST, manifest.to_bytes())
        return done
