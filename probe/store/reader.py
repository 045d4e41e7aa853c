"""Reading a finished store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import SPLITS, UNLABELLED
from probe.errors import StoreError, UnknownNameError, unknown_name
from probe.images.status import Status
from probe.notebook import facts_html
from probe.store.arrays import read_layout
from probe.store.chunks import read_rows
from probe.store.commits import Commit, checksums, read_commits
from probe.store.encoding import decode
from probe.store.files import LocalFiles
from probe.store.index import Index, expect_index, read_current, read_index
from probe.store.manifest import MANIFEST, Manifest, has_sealed, read_manifest
from probe.store.mapped import MappedRows
from probe.store.spec import IMPORTED
from probe.text import few, shapes_text

KEY_LETTERS = 12
KEYED = re.compile(f"-[0-9a-f]{{{KEY_LETTERS}}}$")
"""How the name of a store's folder ends, see `probe.store.catalog.store_path`."""


@dataclass(frozen=True, repr=False)
class Store:
    """A finished store: features by output, and who the rows are.

    Attributes
    ----------
    path : its folder.
    manifest : what it says about itself.
    index_hash : the index in force, see `probe.store.index`.
    used : ISO time of the last extract that made or reused it.
    sequence : what decides which store was used last, see `probe.store.index.Current`.
    origins : how its data set was opened, the last time last; empty where that is not known.
    """

    path: Path
    manifest: Manifest
    index_hash: str
    used: str
    sequence: int | None = None
    origins: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def key(self) -> str:
        return self.manifest.layout.key

    @property
    def outputs(self) -> list[str]:
        """Names of the plain outputs; the first is the default one."""
        return [name for name in self.manifest.layout.shapes if "@" not in name]

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Plain output -> shape of one row, (D,) or (H, W, C)."""
        return {name: self.manifest.layout.shapes[name] for name in self.outputs}

    @property
    def precision(self) -> str | None:
        """What the features were computed in; None for features that were imported."""
        backbone = self.manifest.spec["backbone"]
        return None if backbone["name"] == IMPORTED else str(backbone["precision"])

    @cached_property
    def index(self) -> Index:
        return read_index(LocalFiles(self.path), self.index_hash, self.manifest.layout.rows)

    @cached_property
    def status(self) -> NDArray[np.uint8]:
        """(N,) 0 where the image was read."""
        return self._whole("status")

    def features(self, output: str | None = None, view: int = 0) -> FeatureArray:
        """One output of all N rows, unread; `view` 0 is the plain image, 1 … K the augmented ones."""
        name = self._output_name(output, view)
        for array in self.manifest.layout.arrays_of(name):
            self._check_chunks(array)
        return FeatureArray(self, name)

    def _output_name(self, output: str | None, view: int) -> str:
        name = self.outputs[0] if output is None else output
        if name not in self.outputs:
            raise unknown_name(f"output of {self.name}", name, self.outputs)
        full = f"{name}@{view}" if view else name
        if full not in self.manifest.layout.shapes:
            raise UnknownNameError(
                f"{self.name} has no view {view}",
                expected=f"a view from 0 to {self.view_count}",
                hint="extract with --views",
            )
        return full

    @property
    def view_count(self) -> int:
        """K, the number of augmented views of each row that has them."""
        first = self.outputs[0]
        return sum(name.startswith(f"{first}@") for name in self.manifest.layout.shapes)

    @cached_property
    def unreadable(self) -> Mapping[str, tuple[int, str]]:
        """Id -> (status, reason) of every image that could not be read."""
        if self.manifest.lists_all:
            return self.manifest.unreadable
        problems = {row: p for commit in self._commits.values() for row, p in commit.unreadable.items()}
        ids = self.index.ids
        return {str(ids[row]): problems[row] for row in sorted(problems) if 0 <= row < len(ids)}

    @cached_property
    def viewed(self) -> NDArray[np.bool_]:
        """(N,) True where a row has augmented views."""
        if not self.view_count:
            return np.zeros(self.manifest.layout.rows, dtype=bool)
        return np.asarray(self._whole("viewed") == 1)

    def rows(self, split: str | None = None) -> NDArray[np.intp]:
        """Rows whose image was read, of one split or of all, in store order; UnknownNameError."""
        keep = self.status == Status.READ
        if split is not None:
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS)
            keep &= self.index.splits == split
        return np.flatnonzero(keep)

    def arrays(
        self, output: str | None = None, *, split: str | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """X and y, ready for any library: the rows whose image was read and whose class is known.

        Parameters
        ----------
        output : which of `outputs`; by default the first.
        split : ``train``, ``val`` or ``test``; by default all rows.

        Returns
        -------
        X : (N, D) float32, or (N, H, W, C) of a feature map.
        y : (N,) int32, places in ``index.classes``.

        Raises
        ------
        UnknownNameError : there is no such output or split.
        StoreError : no row is labelled, or the store is damaged.
        """
        labels = self.index.labels
        if (labels == UNLABELLED).all():
            raise StoreError(
                f"{self.name} has no labels",
                hint="extract again with labels; features() reads the embeddings without",
            )
        rows = self.rows(split)
        rows = rows[labels[rows] != UNLABELLED]
        return self.features(output).read(rows), labels[rows]

    def to_pandas(self, output: str | None = None, *, split: str | None = None) -> Any:
        """A ``pandas.DataFrame``: index ``id``, columns ``label``, ``split``, where there are any ``group``,
        and ``f0`` … of one output, a map flattened.

        A row for every image that was read. ProbeError without pandas, otherwise as `features` and `rows`.
        """
        from probe.store.frames import to_pandas

        return to_pandas(self, output, split)

    def to_xarray(self, output: str | None = None, *, split: str | None = None) -> Any:
        """An ``xarray.Dataset``: one output or all, over ``image`` (the ids), with the coordinates ``label``,
        ``split`` and, where there are any, ``group``.

        The images that were read; arrays (N, D) or (N, H, W, C). ProbeError without xarray, otherwise as
        `features` and `rows`.
        """
        from probe.store.frames import to_xarray

        return to_xarray(self, output, split)

    def __repr__(self) -> str:
        return f"<Store {self.name}: {self.manifest.layout.rows:,} images, {shapes_text(self.output_shapes)}>"

    def _repr_html_(self) -> str:
        return facts_html(f"Store {self.name}", self._facts())

    def _facts(self) -> dict[str, object]:
        """What a person wants to know of it first."""
        layout, backbone = self.manifest.layout, self.manifest.spec["backbone"]
        size = f" at {backbone['size']} px, {backbone['precision']}" if backbone["name"] != IMPORTED else ""
        known = self.index.facts()
        classes = known["classes"]
        return {
            "data set": self.manifest.facts.get("dataset"),
            "images": f"{layout.rows:,}",
            "parts": ", ".join(f"{part} {n:,}" for part, n in known["parts"].items()),
            "classes": f"{len(classes)}: {few(classes)}" if classes else "none",
            "backbone": f"{backbone['name']}{size}",
            "outputs": shapes_text(self.output_shapes),
            "views": self.view_count or None,
            "unread": self.manifest.unreadable_count or None,
            "size": f"{layout.total_bytes() / 1e6:,.1f} MB",
            "path": self.path,
        }

    def read(self, array: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of an array by its full name, see `probe.store.chunks.read_rows`."""
        files, layout = LocalFiles(self.path), self.manifest.layout
        return read_rows(files, layout, array, start, stop, self.committed(array))

    def committed(self, array: str) -> NDArray[np.int64]:
        """(units,) see `probe.store.commits.checksums`; StoreError where the store's records disagree."""
        if array not in self._committed:
            self._committed[array] = checksums(self._commits, self.manifest.layout, array)
        return self._committed[array]

    def _whole(self, array: str) -> NDArray[Any]:
        self._check_chunks(array)
        return self.read(array, 0, self.manifest.layout.rows)

    @cached_property
    def _commits(self) -> Mapping[int, Commit]:
        files = LocalFiles(self.path)
        commits = read_commits(files, self.manifest.layout)
        # Whole chunks with their commit lines can be another store's, all together.
        if self.manifest.key != self.key or not has_sealed(self.manifest, commits):
            raise StoreError(
                f"{self.name} is damaged: {MANIFEST} and the commit lines do not belong together",
                hint=files.repair_hint,
            )
        return commits

    @cached_property
    def _committed(self) -> dict[str, NDArray[np.int64]]:
        return {}

    def _check_chunks(self, name: str) -> None:
        """StoreError unless every chunk is there: zarr reads a missing one as fill."""
        layout, files = self.manifest.layout, LocalFiles(self.path)
        for unit in range(layout.units):
            chunk = layout.chunk_name(name, unit)
            if files.size(chunk) != layout.chunk_bytes(name):
                raise StoreError(
                    f"{self.name} is damaged: {chunk} is missing or has the wrong size",
                    expected=f"{layout.chunk_bytes(name)} bytes",
                    found=f"{files.size(chunk)} bytes",
                    hint=files.repair_hint,
                )


@dataclass(frozen=True)
class FeatureArray:
    """One output on disk, read a range or a selection of rows at a time."""

    store: Store
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) or (N, H, W, C)."""
        layout = self.store.manifest.layout
        return (layout.rows, *layout.shapes[self.name])

    def read(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """(n, …) float32 of `rows` in ascending order, or of all.

        Rows close together are read as one range: chunks side by side are read at the same time.
        """
        if rows is None:
            return self._range(0, self.shape[0])
        if not len(rows):
            return np.empty((0, *self.shape[1:]), np.float32)
        first, last = int(rows[0]), int(rows[-1]) + 1
        if last - first <= 2 * len(rows):
            block = self._range(first, last)
            return block if len(block) == len(rows) else block[rows - first]
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        unit = self.store.manifest.layout.unit_rows
        for number in np.unique(rows // unit):
            mine = rows // unit == number
            start = int(number) * unit
            out[mine] = self._range(start, min(start + unit, self.shape[0]))[rows[mine] - start]
        return out

    def flat(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """(n, D) float32 of `rows` as `read`, a map (H, W, C) in one row; also where there are no rows."""
        return self.read(rows).reshape(len(rows), math.prod(self.shape[1:]))

    def mapped(self, rows: NDArray[np.intp]) -> MappedRows:
        """`rows` for reading in any order, see `MappedRows`; nothing is read yet."""
        layout = self.store.manifest.layout
        committed = {array: self.store.committed(array) for array in layout.arrays_of(self.name)}
        return MappedRows(LocalFiles(self.store.path), layout, self.name, rows, committed)

    def _range(self, start: int, stop: int) -> NDArray[np.float32]:
        arrays = self.store.manifest.layout.arrays_of(self.name)
        return decode(*(self.store.read(array, start, stop) for array in arrays))


def expect_own(manifest: Manifest, path: Path) -> None:
    """StoreError where the arrays say that they are of another store; to be read they need to say nothing."""
    try:
        key = read_layout(path).key
    except StoreError:
        return
    if key != manifest.layout.key:
        raise StoreError(
            f"MANIFEST.json of {path.name} is that of another store",
            expected=f"key {key[:12]}, as its arrays say",
            found=f"key {manifest.layout.key[:12]}",
            hint=LocalFiles(path).repair_hint,
        )


def expect_named(path: Path, key: str) -> None:
    """StoreError where the name of a store's folder ends like that of a store with another key."""
    if is_misnamed(path, key):
        raise StoreError(
            f"{path.name} holds another store than its name says",
            expected=f"key {path.name[-KEY_LETTERS:]}",
            found=f"key {key[:KEY_LETTERS]}",
            hint=f"rename it so that it ends in -{key[:KEY_LETTERS]}, or probe stores rm {path.name}",
        )


def is_misnamed(path: Path, key: str) -> bool:
    """Whether the name of a store's folder ends in a key, and in another than its own."""
    return bool(KEYED.search(path.name)) and not path.name.endswith(key[:KEY_LETTERS])


def open_store(path: Path) -> Store:
    """Open a finished store; StoreError when it is missing, unfinished, damaged or of another version."""
    files = LocalFiles(path)
    if not path.is_dir():
        raise StoreError(f"there is no store at {path}", hint="probe stores ls")
    manifest = read_manifest(files)
    expect_own(manifest, path)
    expect_named(path, manifest.layout.key)
    current = read_current(files, manifest.layout.key)
    expect_index(files, current.index)
    first = manifest.facts.get("origin")
    origins = current.origins or ((first,) if first else ())
    return Store(path, manifest, current.index, current.used, current.sequence, origins)
