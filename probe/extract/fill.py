"""The units of one shard, filled: rows copied from other stores, and the others computed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from probe import backbones
from probe.backbones.backbone import Extractor
from probe.config import Home
from probe.extract.background import BackgroundWriter
from probe.extract.compute import compute_units
from probe.extract.copies import Candidate, Copies, LostSourceError
from probe.extract.job import ExtractJob
from probe.images.reader import read_batches
from probe.progress import Progress
from probe.store import StoreWriter


@dataclass(frozen=True)
class Work:
    """What a call did to a store.

    Attributes
    ----------
    computed, resumed : rows computed, and rows that were finished before.
    copied_from : store -> rows copied from it.
    passed_over : store -> why rows that it has, or may have, were not copied.
    seconds : from the first batch to the last commit.
    """

    computed: int = 0
    resumed: int = 0
    copied_from: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Filler:
    """Fills units until none is left; a source of rows that is lost on the way costs no finished unit."""

    def __init__(
        self,
        job: ExtractJob,
        home: Home,
        writer: StoreWriter,
        extractor: Extractor | None,
        *,
        progress: bool,
    ) -> None:
        self._job, self._home, self._writer = job, home, writer
        self._extractor, self._progress = extractor, progress
        self._copied: Counter[str] = Counter()
        self._seconds = 0.0

    def fill(self, candidates: Sequence[Candidate]) -> Work:
        """Commit every unit of the writer's shard that is not committed yet."""
        layout, pending = self._writer.layout, self._writer.pending_units()
        rows = layout.rows_of(pending)
        resumed = len(layout.rows_of(self._writer.owned_units())) - len(rows)
        with Copies(self._job) as copies:
            if pending and candidates:
                with Progress("find rows", shown=self._progress):
                    copies.find(candidates, rows)
            while pending:
                try:
                    self._fill(pending, copies)
                    break
                except LostSourceError as lost:
                    copies.drop(lost)
                    pending = self._writer.pending_units()
        computed = len(rows) - self._copied.total()
        return Work(computed, resumed, dict(self._copied), dict(copies.passed_over), self._seconds)

    def _fill(self, units: Sequence[int], copies: Copies) -> None:
        layout, total = self._writer.layout, len(self._job.dataset)
        rows = layout.rows_of(units)
        missing = rows[~copies.has(rows)]
        extractor = self._load(layout.batch_size) if len(missing) else None
        checked = copies.rows_to_check(rows, -len(missing) % layout.batch_size) if extractor else missing
        batches = read_batches(
            self._job.dataset.source.read,
            np.concatenate([checked, missing]),
            self._job.backbone.size,
            layout.batch_size,
            hashes=self._job.dataset.hashes,
            path=self._job.pixels,
        )
        began = time.perf_counter()
        bar = Progress("extract", total, "img", initial=total - len(rows), shown=self._progress)
        try:
            with bar, BackgroundWriter(self._writer) as background:
                for content in compute_units(units, batches, self._job, extractor, layout, copies):
                    background.put(content)
                    self._copied.update(copies.by_store(content.rows))
                    bar.update(len(content))
        finally:
            self._seconds += time.perf_counter() - began

    def _load(self, batch_size: int) -> Extractor:
        if self._extractor is None or self._extractor.batch_size != batch_size:
            with Progress(f"load {self._job.backbone.name}", shown=self._progress):
                self._extractor = backbones.load(self._job.backbone, batch_size=batch_size, home=self._home)
        return self._extractor
