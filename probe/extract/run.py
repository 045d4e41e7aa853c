"""Images through a backbone into a store: once, resumable, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.backbones.backbone import Extractor
from probe.config import Home
from probe.datasets.dataset import count_parts
from probe.extract.background import BackgroundWriter
from probe.extract.batch import load_for_new_store
from probe.extract.compute import compute_units
from probe.extract.job import ExtractJob
from probe.images.path import POLICY
from probe.images.reader import read_batches
from probe.images.status import Status
from probe.progress import Progress
from probe.store import (
    Layout,
    LocalFiles,
    Manifest,
    StoreWriter,
    create,
    is_finished,
    mark_used,
    put_index,
    read_layout,
    read_manifest,
    reuse_finished,
    store_path,
    unit_rows,
)
from probe.text import count_of
from probe.versions import versions


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`: the units whose index is `number` modulo `count`."""

    number: int = 0
    count: int = 1


@dataclass(frozen=True)
class ExtractResult:
    """What an extraction did; ``to_json`` is what ``probe extract --json`` prints.

    Attributes
    ----------
    rows_computed, rows_resumed : rows this call computed, and rows it found finished.
    unreadable : rows of the whole store whose image could not be read.
    label_conflicts : pictures that lie in the set under more than one label.
    broken : which of those are known to be broken as the data set is published.
    turned : images of the whole store with an EXIF orientation other than upright.
    exif : whether they were turned accordingly.
    duplicates : exact copies of one picture across splits, by pair of splits.
    parts : images of each split there is; ``none`` for those in no split.
    reused : the finished store was there already.
    seconds : wall time of the call; `images_per_s` is over the time from the first batch to the last commit.
    finished : False when other shards still have to run.
    """

    store: str
    path: str
    key: str
    rows: int
    rows_computed: int
    rows_resumed: int
    unreadable: int
    reused: bool
    seconds: float
    images_per_s: float
    finished: bool = True
    turned: int = 0
    exif: bool = False
    duplicates: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    label_conflicts: int = 0

    @property
    def surprises(self) -> int:
        """Images that could not be read although nobody said so before."""
        return self.unreadable - len(self.broken)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The result for people."""
        if self.reused:
            done = "reused, nothing computed"
        else:
            done = f"{self.rows_computed:,} computed at {self.images_per_s:,.0f} images/s"
            done += f", {self.rows_resumed:,} resumed" if self.rows_resumed else ""
        parts = ", ".join(f"{part} {count:,}" for part, count in self.parts.items())
        lines = [
            f"store   {self.path}",
            f"rows    {self.rows:,}: {done}",
            f"parts   {parts}",
            f"time    {self.seconds:.1f} s",
        ]
        if self.broken:
            number = count_of(len(self.broken), "image")
            lines.append(f"broken  {number} as published: {', '.join(self.broken)}")
        if self.surprises:
            number = count_of(self.surprises, "image")
            lines.append(f"unread  {number} could not be read: probe stores show {self.store}")
        if self.turned:
            done = "they were turned" if self.exif else "it was ignored, --exif turns them"
            lines.append(f"exif    {count_of(self.turned, 'image')} with an EXIF orientation: {done}")
        if not self.finished:
            lines.append("state   unfinished: other shards still have to run")
        return lines


def extract(
    job: ExtractJob, home: Home, *, shard: Shard | None = None, progress: bool = False
) -> ExtractResult:
    """Fill the job's store, or reuse it; rows already committed are not computed again.

    With a `shard`, only its units; whoever commits the last unit seals the store.
    Raises StoreError when the store cannot be written, WeightsError when the network cannot be loaded.
    """
    started = time.perf_counter()
    shard = shard or Shard()
    path = store_path(home, job.dataset.name, job.backbone.name, job.spec().key)
    if reuse(path, job):
        return summarise(path, job, 0, len(job.dataset), started, 0.0)
    with Progress(f"load {job.backbone.name}", shown=progress):
        extractor = None if path.exists() else create_store(path, job)
    with StoreWriter(path, shard.number, shard.count) as writer:
        pending = writer.pending_units()
        rows = np.array([row for unit in pending for row in range(*writer.layout.unit_range(unit))], np.intp)
        if pending and (extractor is None or extractor.batch_size != writer.layout.batch_size):
            with Progress(f"load {job.backbone.name}", shown=progress):
                extractor = backbones.load(job.backbone, batch_size=writer.layout.batch_size)
        began = time.perf_counter()
        if pending and extractor is not None:
            _compute(job, extractor, writer, rows, progress)
        computing = time.perf_counter() - began
        digest = put_index(path, job.index(), job.dataset.origin)
        if writer.seal(job.spec(), job.dataset.ids, _facts(job, computing)):
            # What is finished last is the newest, and not what began to be sealed last.
            mark_used(path, digest, job.dataset.origin)
    owned = sum(np.diff(writer.layout.unit_range(unit))[0] for unit in writer.owned_units())
    return summarise(path, job, len(rows), int(owned) - len(rows), started, computing)


def reuse(path: Path, job: ExtractJob) -> bool:
    """Whether the finished store can serve as it is; it then takes the job's labels and is the newest.

    A sealed store that has lost a chunk is unsealed, so that the caller resumes it.
    """
    return reuse_finished(path, job.index(), job.dataset.origin)


def create_store(path: Path, job: ExtractJob) -> Extractor:
    """Make the job's empty store and return the backbone loaded for it.

    Another shard may have made it meanwhile, with a batch size of its own: that one counts.
    """
    extractor = load_for_new_store(job)
    create(path, job.spec(), new_layout(job, extractor))
    return extractor


def new_layout(job: ExtractJob, extractor: Extractor) -> Layout:
    """How a new store of this job is laid out."""
    item = np.dtype(job.dtype).itemsize
    widest = max(int(np.prod(shape)) * item for shape in extractor.shapes.values())
    rows, views = len(job.dataset), range(1, job.views.count + 1 if job.views else 1)
    shapes = dict(extractor.shapes)
    shapes |= {f"{output}@{view}": shape for view in views for output, shape in extractor.shapes.items()}
    return Layout(
        key=job.spec().key,
        rows=rows,
        unit_rows=unit_rows(rows, extractor.batch_size, widest),
        batch_size=extractor.batch_size,
        shapes=shapes,
        dtype=job.dtype,
        internal=job.internal,
    )


def _compute(
    job: ExtractJob, extractor: Extractor, writer: StoreWriter, rows: NDArray[np.intp], progress: bool
) -> None:
    batches = read_batches(
        job.dataset.source.read,
        rows,
        job.backbone.size,
        extractor.batch_size,
        hashes=job.dataset.hashes,
        path=job.pixels,
    )
    total = len(job.dataset)
    bar = Progress("extract", total, "img", initial=total - len(rows), shown=progress)
    with bar, BackgroundWriter(writer) as background:
        for content in compute_units(batches, job, extractor, writer.layout):
            background.put(content)
            bar.update(len(content))


def _facts(job: ExtractJob, seconds: float) -> dict[str, Any]:
    return {
        "dataset": job.dataset.name,
        "dataset_facts": dict(job.dataset.facts),
        "notes": list(job.dataset.notes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "versions": versions(),
        "broken": sorted(job.dataset.broken),
        "origin": dict(job.dataset.origin),
        "pixel_policy": POLICY,
        "weights_path": _absolute(job.backbone.weights_path),
    }


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path else None


def summarise(
    path: Path, job: ExtractJob, computed: int, resumed: int, started: float, computing: float
) -> ExtractResult:
    """The result of a call that began at `started` (``time.perf_counter``) and computed for `computing` s."""
    manifest = read_manifest(LocalFiles(path)) if is_finished(path) else None
    index = job.index()
    return ExtractResult(
        store=path.name,
        path=str(path),
        key=read_layout(path).key,
        rows=len(job.dataset),
        rows_computed=computed,
        rows_resumed=resumed,
        unreadable=len(manifest.unreadable) if manifest else 0,
        reused=manifest is not None and not computed,
        seconds=round(time.perf_counter() - started, 3),
        images_per_s=round(computed / computing, 2) if computed else 0.0,
        finished=manifest is not None,
        turned=int(manifest.facts.get("exif_turned", 0)) if manifest else 0,
        exif=job.exif,
        duplicates=index.duplicates(),
        parts=count_parts(job.dataset.splits),
        broken=_broken(manifest, job) if manifest else (),
        label_conflicts=len(index.label_conflicts()),
    )


def _broken(manifest: Manifest, job: ExtractJob) -> tuple[str, ...]:
    """A file that changed under the extraction is a surprise whatever is known of it."""
    return tuple(
        name
        for name, (status, _) in manifest.unreadable.items()
        if name in job.dataset.broken and status != Status.CHANGED
    )


def summarise_shards(
    path: Path, job: ExtractJob, results: Sequence[ExtractResult], started: float, computing: float
) -> ExtractResult:
    """The result of a call whose shards ran elsewhere, see `summarise`."""
    computed = sum(result.rows_computed for result in results)
    resumed = sum(result.rows_resumed for result in results)
    return summarise(path, job, computed, resumed, started, computing)
