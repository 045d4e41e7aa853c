"""Images through a backbone into a store: once, resumable, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from probe.backbones.backbone import Extractor
from probe.config import Home
from probe.datasets.dataset import count_parts
from probe.errors import StoreError
from probe.extract.batch import load_for_new_store, settled_batch
from probe.extract.copies import Candidate, find_candidates
from probe.extract.engine import settle_engine
from probe.extract.fill import Filler, Work
from probe.extract.job import ExtractJob
from probe.failpoints import reach
from probe.images.path import POLICY
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
    rounding_text,
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
    rows_computed, rows_copied, rows_resumed : rows this call computed, rows it took from other stores of the
        home, and rows it found finished.
    copied_from : store -> rows copied from it.
    passed_over : store -> why rows that it has, or may have, were not copied.
    rounding : by how much of its length a vector of the whole store differs from float32 at most, None unless
        it is stored in 8 bits.
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
    rows_copied: int = 0
    copied_from: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    rounding: float | None = None

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
            speed = f" at {self.images_per_s:,.0f} images/s" if self.rows_computed else ""
            done = f"{self.rows_computed:,} computed{speed}"
            done += f", {self.rows_copied:,} copied" if self.rows_copied else ""
            done += f", {self.rows_resumed:,} resumed" if self.rows_resumed else ""
        parts = ", ".join(f"{part} {count:,}" for part, count in self.parts.items())
        lines = [
            f"store   {self.path}",
            f"rows    {self.rows:,}: {done}",
            f"parts   {parts}",
            f"time    {self.seconds:.1f} s",
        ]
        lines += [f"copied  {count:,} rows of {name}" for name, count in self.copied_from.items()]
        lines += [
            f"passed  {name}, which may have more of these rows: {why}"
            for name, why in self.passed_over.items()
        ]
        if self.rounding is not None:
            lines.append(f"stored  {rounding_text(self.rounding)}")
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

    Rows that other finished stores of the home have are copied, see `probe.extract.copies`. With a `shard`,
    only its units; whoever commits the last unit seals the store. `settle_engine` says by which engine, where
    several would do.
    Raises StoreError when the store cannot be written, WeightsError when the network cannot be loaded.
    """
    started = time.perf_counter()
    shard = shard or Shard()
    job = settle_engine(job, home)
    path = job.path(home)
    if reuse(path, job):
        return summarise(path, job, Work(resumed=len(job.dataset)), started)
    candidates = find_candidates(job, home, path)
    extractor = None if path.exists() else create_store(path, job, home, candidates, progress=progress)
    with StoreWriter(path, shard.number, shard.count) as writer:
        _expect_own(writer.layout, job, path)
        work = Filler(job, home, writer, extractor, progress=progress).fill(candidates)
        reach("rows-filled")
        digest = put_index(path, job.index(), job.dataset.origin)
        if writer.seal(job.spec(), job.dataset.ids, _facts(job, work)):
            # What is finished last is the newest, and not what began to be sealed last.
            mark_used(path, digest, job.dataset.origin)
    return summarise(path, job, work, started)


def _expect_own(layout: Layout, job: ExtractJob, path: Path) -> None:
    """StoreError where an unfinished store says of itself that it is another."""
    if (layout.key, layout.rows, layout.dtype) != (job.spec().key, len(job.dataset), job.dtype):
        raise StoreError(
            f"{path.name} is damaged: its record is that of another store",
            expected=f"{len(job.dataset):,} rows as {job.dtype}, key {job.spec().key[:12]}",
            found=f"{layout.rows:,} rows as {layout.dtype}, key {layout.key[:12]}",
            hint=f"probe stores rm {path.name}, then run the same command again",
        )


def reuse(path: Path, job: ExtractJob) -> bool:
    """Whether the finished store can serve as it is; it then takes the job's labels and is the newest.

    A sealed store that has lost a chunk is unsealed, so that the caller resumes it. StoreError where another
    store lies there.
    """
    return reuse_finished(path, job.index(), job.dataset.origin)


def create_store(
    path: Path, job: ExtractJob, home: Home, candidates: Sequence[Candidate], *, progress: bool = False
) -> Extractor | None:
    """Make the job's empty store; the backbone, where it had to be loaded to know how.

    A store of the same code path tells as well. Another shard may have made it meanwhile, with a batch size
    of its own: that one counts.
    """
    if candidates:
        known = candidates[0].manifest.layout
        shapes = {output: known.shapes[output] for output in job.backbone.outputs}
        create(path, job.spec(), new_layout(job, shapes, settled_batch(job) or known.batch_size))
        return None
    with Progress(f"load {job.backbone.name}", shown=progress):
        extractor = load_for_new_store(job, home)
    create(path, job.spec(), new_layout(job, extractor.shapes, extractor.batch_size))
    return extractor


def new_layout(job: ExtractJob, outputs: Mapping[str, tuple[int, ...]], batch_size: int) -> Layout:
    """How a new store of this job is laid out; `outputs` are the shapes of one row."""
    item = np.dtype(job.dtype).itemsize
    widest = max(int(np.prod(shape)) * item for shape in outputs.values())
    rows, views = len(job.dataset), range(1, job.views.count + 1 if job.views else 1)
    shapes = dict(outputs)
    shapes |= {f"{output}@{view}": shape for view in views for output, shape in outputs.items()}
    return Layout(
        key=job.spec().key,
        rows=rows,
        unit_rows=unit_rows(rows, batch_size, widest),
        batch_size=batch_size,
        shapes=shapes,
        dtype=job.dtype,
        internal=job.internal,
    )


def _facts(job: ExtractJob, work: Work) -> dict[str, Any]:
    return {
        "dataset": job.dataset.name,
        "dataset_facts": dict(job.dataset.facts),
        "notes": list(job.dataset.notes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(work.seconds, 3),
        "rows_computed": work.computed,
        "versions": versions(),
        "broken": sorted(job.dataset.broken),
        "origin": dict(job.dataset.origin),
        "pixel_policy": POLICY,
        "weights_path": _absolute(job.backbone.weights_path),
    }


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path else None


def summarise(path: Path, job: ExtractJob, work: Work, started: float) -> ExtractResult:
    """The result of a call that began at `started` (``time.perf_counter``)."""
    manifest = read_manifest(LocalFiles(path)) if is_finished(path) else None
    index, copied = job.index(), sum(work.copied_from.values())
    return ExtractResult(
        store=path.name,
        path=str(path),
        key=read_layout(path).key,
        rows=len(job.dataset),
        rows_computed=work.computed,
        rows_resumed=work.resumed,
        unreadable=manifest.unreadable_count if manifest else 0,
        reused=manifest is not None and not work.computed and not copied,
        seconds=round(time.perf_counter() - started, 3),
        images_per_s=round(work.computed / work.seconds, 2) if work.computed else 0.0,
        finished=manifest is not None,
        turned=int(manifest.facts.get("exif_turned", 0)) if manifest else 0,
        exif=job.exif,
        duplicates=index.duplicates(),
        parts=count_parts(job.dataset.splits),
        broken=_broken(manifest, job) if manifest else (),
        label_conflicts=len(index.label_conflicts()),
        rows_copied=copied,
        copied_from=work.copied_from,
        passed_over=work.passed_over,
        rounding=manifest.facts.get("rounding") if manifest else None,
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
    copied: Counter[str] = Counter()
    for result in results:
        copied.update(result.copied_from)
    work = Work(
        computed=sum(result.rows_computed for result in results),
        resumed=sum(result.rows_resumed for result in results),
        copied_from=dict(copied),
        passed_over={name: why for result in results for name, why in result.passed_over.items()},
        seconds=computing,
    )
    return summarise(path, job, work, started)
