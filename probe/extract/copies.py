"""Rows that need not be computed: those of other finished stores with the same code path and picture.

A row depends on its picture and on what computes it, and on nothing else, so that its bits can be copied
wherever a store of the home has them. Which stores could serve is told by their manifests alone; only of
those the content hashes are read, and only of the rows that are wanted the chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import engines
from probe.config import Home
from probe.errors import StoreError
from probe.extract.job import ExtractJob
from probe.images.path import same_pixels
from probe.store import (
    INT8,
    CopySource,
    LocalFiles,
    Manifest,
    encode,
    hash_bytes,
    is_finished,
    open_copy_source,
    read_layout,
    read_manifest,
    rounding_of,
    store_folders,
    stored_arrays,
)

SERVING = {INT8: (INT8, "float32")}
"""Type -> those of stores whose rows serve, where its own are not all: 8 bits are made of float32 by one
rule, whether a row is computed or copied."""
CHECKED_ROWS = 8
"""Copied rows that are computed once more where a batch has room for them."""


class LostSourceError(Exception):
    """A store that rows are copied from cannot be copied from any more. `number` is its place among them."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number, self.reason = number, reason


@dataclass(frozen=True)
class Copied:
    """What is to be known of rows that were copied: those `turned`, and the `rounding` of a `UnitContent`."""

    turned: list[int]
    rounding: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A finished store that could have rows of a job, judged by its manifest."""

    path: Path
    manifest: Manifest


def find_candidates(job: ExtractJob, home: Home, own: Path) -> list[Candidate]:
    """The stores with the same code path but the job's `own`, the one of most rows first.

    None where the engine does not say that a picture's features are the same bits in any batch.
    """
    if not engines.ENGINES[job.backbone.engine].bit_stable:
        return []
    found = []
    for path in store_folders(home):
        if path == own:
            continue
        try:
            if not is_finished(path):
                continue
            manifest = read_manifest(LocalFiles(path))
            serves = _same_code_path(manifest, job) and read_layout(path) == manifest.layout
        except (StoreError, OSError):
            continue  # whoever opens it is told
        if serves:
            found.append(Candidate(path, manifest))
    return sorted(found, key=lambda one: (-one.manifest.layout.rows, one.path.name))


def _same_code_path(manifest: Manifest, job: ExtractJob) -> bool:
    spec, backbone = manifest.spec, job.backbone.key_part()
    recorded = spec.get("backbone")
    return (
        isinstance(recorded, dict)
        and {**recorded, "outputs": backbone["outputs"]} == backbone
        and spec.get("dtype") in SERVING.get(job.dtype, (job.dtype,))
        and _has_outputs(manifest, job, recorded.get("outputs"))
        and bool(_same_pixels(manifest, job).any())
    )


def _has_outputs(manifest: Manifest, job: ExtractJob, outputs: Any) -> bool:
    wanted = job.backbone.outputs
    if not engines.ENGINES[job.backbone.engine].separate_outputs:
        return bool(outputs == list(wanted))
    return set(wanted) <= set(manifest.layout.shapes)


def _same_pixels(manifest: Manifest, job: ExtractJob) -> NDArray[np.bool_]:
    """(N,) which of the job's pictures that store saw, or would have seen, as the job does."""
    data, recorded = job.dataset, manifest.spec.get("pixels")
    known = recorded if isinstance(recorded, dict) else {}
    return same_pixels(known, job.pixels, data.jpeg_sides, job.backbone.size, len(data))


def _has_views(manifest: Manifest, job: ExtractJob) -> bool:
    """Whether the views that the job asks for are among those of the store, where a row has any."""
    if job.views is None:
        return True
    views = manifest.spec.get("views")
    return (
        isinstance(views, dict)
        and views.get("augment") == job.views.augment.key_part()
        and views.get("seed") == job.views.seed
        and f"{job.backbone.outputs[0]}@{job.views.count}" in manifest.layout.shapes
    )


class Copies:
    """Where each row of a job is copied from; a context, since the stores are kept from removal meanwhile.

    Attributes
    ----------
    passed_over : store -> why rows that it has, or may have, were not copied.
    """

    def __init__(self, job: ExtractJob) -> None:
        self._job = job
        self._source = np.full(len(job.dataset), -1, np.int32)
        self._row = np.zeros(len(job.dataset), np.intp)
        self._sources: list[CopySource] = []
        self._viewed = job.viewed_rows()
        self._open = ExitStack()
        self.passed_over: dict[str, str] = {}

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def find(self, candidates: Sequence[Candidate], rows: NDArray[np.intp], *, check: bool = True) -> None:
        """Find `rows` (n,) in the stores; with `check` their chunks are compared with the commits."""
        rows = rows[self._job.dataset.hashes[rows] != ""]
        contents = hash_bytes(self._job.dataset.hashes[rows])
        for candidate in candidates:
            left = self._source[rows] < 0
            if not left.any():
                return
            try:
                self._find_in(candidate, rows[left], contents[left], check)
            except StoreError as error:
                self.passed_over[candidate.path.name] = error.problem
            except OSError as error:
                self.passed_over[candidate.path.name] = error.strerror or str(error)

    def _find_in(
        self, candidate: Candidate, rows: NDArray[np.intp], contents: NDArray[np.bytes_], check: bool
    ) -> None:
        with ExitStack() as opened:
            source = opened.enter_context(open_copy_source(candidate.path))
            if source.manifest != candidate.manifest:
                return  # it was repaired just now
            known = self._locate(source, rows, contents)
            found, theirs = rows[known >= 0], known[known >= 0]
            if check and len(found):
                good = self._are_whole(source, theirs)
                found, theirs = found[good], theirs[good]
            if len(found):
                self._source[found], self._row[found] = len(self._sources), theirs
                self._sources.append(source)
                self._open.push(opened.pop_all())

    def _locate(
        self, source: CopySource, rows: NDArray[np.intp], contents: NDArray[np.bytes_]
    ) -> NDArray[np.intp]:
        """(n,) the source's row with the picture of each row, and with views where it needs any; else -1."""
        theirs, hashes = source.rows(), source.contents()
        known = np.full(len(rows), -1, np.intp)
        same = _same_pixels(source.manifest, self._job)[rows]
        plain, viewed = same & ~self._viewed[rows], same & self._viewed[rows]
        known[plain] = _look_up(contents[plain], theirs, hashes)
        if viewed.any() and _has_views(source.manifest, self._job):
            with_views = theirs[source.read("viewed", theirs) == 1]
            known[viewed] = _look_up(contents[viewed], with_views, hashes)
        return known

    def _are_whole(self, source: CopySource, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether the chunks that each of the source's `rows` lies in are those that were committed."""
        units = rows // source.manifest.layout.unit_rows
        damaged = source.damaged_units(np.unique(units), self._arrays(source.manifest))
        good = ~np.isin(units, damaged)
        if damaged:
            self.passed_over[source.name] = f"{int((~good).sum()):,} rows are damaged"
        good[good] = source.are_read(rows[good])
        return good

    def _arrays(self, manifest: Manifest) -> list[str]:
        """The arrays of a source that are looked at."""
        views = self._view_outputs() if _has_views(manifest, self._job) else []
        outputs = [*self._job.backbone.outputs, *views]
        arrays = [array for output in outputs for array in manifest.layout.arrays_of(output)]
        return [*arrays, "status", *(["viewed"] if views else [])]

    def _view_outputs(self) -> list[str]:
        count = self._job.views.count if self._job.views else 0
        return [f"{o}@{view}" for view in range(1, count + 1) for o in self._job.backbone.outputs]

    def has(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether each row is copied."""
        return self._source[rows] >= 0

    def drop(self, lost: LostSourceError) -> None:
        """Copy nothing more from a source: its rows are to be computed."""
        self._source[self._source == lost.number] = -1
        self.passed_over[self._sources[lost.number].name] = lost.reason

    def rows_to_check(self, rows: NDArray[np.intp], room: int) -> NDArray[np.intp]:
        """Some of the copied among `rows`, to be computed beside the others: one a source, more where `room`
        places of a batch are free anyway."""
        copied = rows[self.has(rows)]
        copied = copied[np.argsort(self._source[copied], kind="stable")]
        _, first = np.unique(self._source[copied], return_index=True)
        more = max(min(room, CHECKED_ROWS) - len(first), 0) if len(copied) else 0
        spread = np.linspace(0, len(copied) - 1, more).astype(np.intp)
        return copied[np.union1d(first, spread)]

    def expect_same(self, row: int, features: Mapping[str, NDArray[np.float32]], place: int) -> None:
        """LostSourceError unless what is computed for a copied row, at `place` of a batch, is the copy."""
        number = int(self._source[row])
        for output, values in features.items():
            copied, _ = self._encoded(number, output, np.array([row]))
            computed = encode(values[place : place + 1], self._job.dtype)
            if any(a.tobytes() != b.tobytes() for a, b in zip(computed, copied, strict=True)):
                raise LostSourceError(number, "its features are not the bits that are computed here today")

    def fill(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> Copied:
        """Put the copied rows of a unit that begins at `start` in place.

        LostSourceError where a source cannot be read any more.
        """
        numbers = self._source[start : start + len(arrays["status"])]
        turned: list[int] = []
        roundings = [0.0]
        for number in np.unique(numbers[numbers >= 0]).tolist():
            rows = start + np.flatnonzero(numbers == number)
            with_views = rows[self._viewed[rows]]
            for output in self._job.backbone.outputs:
                roundings.append(self._fill_output(number, output, rows, start, arrays))
            if len(with_views):
                for output in self._view_outputs():
                    roundings.append(self._fill_output(number, output, with_views, start, arrays))
                arrays["viewed"][with_views - start] = 1
            known = self._sources[number].turned
            turned += [row for row in rows.tolist() if int(self._row[row]) in known]
        return Copied(turned, max(roundings))

    def _fill_output(
        self,
        number: int,
        output: str,
        rows: NDArray[np.intp],
        start: int,
        arrays: Mapping[str, NDArray[Any]],
    ) -> float:
        """Put an output of `rows` in place; by how much of its length a vector differs from float32."""
        encoded, rounding = self._encoded(number, output, rows)
        for array, content in zip(stored_arrays(output, self._job.dtype), encoded, strict=True):
            arrays[array][rows - start] = content
        return rounding

    def _encoded(
        self, number: int, output: str, rows: NDArray[np.intp]
    ) -> tuple[tuple[NDArray[Any], ...], float]:
        """An output of `rows` as the job stores it, and the rounding of it."""
        source = self._sources[number]
        stored = source.manifest.layout
        found = tuple(self._read(number, array, rows) for array in stored.arrays_of(output))
        if stored.dtype == self._job.dtype:
            return found, source.rounding(self._row[rows]) if stored.dtype == INT8 else 0.0
        encoded = encode(found[0], self._job.dtype)
        return encoded, rounding_of(found[0], encoded)

    def _read(self, number: int, array: str, rows: NDArray[np.intp]) -> NDArray[Any]:
        try:
            return self._sources[number].read(array, self._row[rows])
        except StoreError as error:
            raise LostSourceError(number, error.problem) from error
        except OSError as error:
            raise LostSourceError(number, error.strerror or str(error)) from error

    def by_store(self, rows: NDArray[np.intp]) -> dict[str, int]:
        """Store -> how many of `rows` are copied from it."""
        numbers = self._source[rows]
        found = {s.name: int((numbers == number).sum()) for number, s in enumerate(self._sources)}
        return {name: count for name, count in found.items() if count}


def _look_up(
    wanted: NDArray[np.bytes_], rows: NDArray[np.intp], contents: NDArray[np.bytes_]
) -> NDArray[np.intp]:
    """(n,) which of `rows` has each of the `wanted` contents, else -1; `contents` has those of all rows."""
    if not len(rows):
        return np.full(len(wanted), -1, np.intp)
    # Numbers are sorted ten times faster than texts; which rows are equal the whole hashes say.
    mine, keys = _first_bytes(contents[rows]), _first_bytes(wanted)
    order = np.argsort(mine, kind="stable")
    places = order[np.minimum(np.searchsorted(mine, keys, sorter=order), len(mine) - 1)]
    return np.where(contents[rows[places]] == wanted, rows[places], -1)


def _first_bytes(contents: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """(n,) the first eight bytes of hashes as numbers."""
    return np.ascontiguousarray(contents).view(np.uint64).reshape(-1, 4)[:, 0].copy()
