"""What an extraction would cost: images, bytes on disk, time from a short trial."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.config import Home
from probe.extract.batch import DEFAULT_BATCH
from probe.extract.copies import Copies, find_candidates
from probe.extract.engine import settle_engine
from probe.extract.job import ExtractJob
from probe.extract.run import new_layout
from probe.images.reader import read_batches
from probe.store import is_finished

TRIAL_BATCHES = 3


@dataclass(frozen=True)
class Estimate:
    """`bytes` on disk of the whole store, `seconds` of computing what is not copied on this machine.

    `rows_copied` are those of other stores, their chunks not looked at yet.
    """

    images: int
    bytes: int
    seconds: float
    images_per_s: float
    exists: bool
    rows_copied: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        state = "a finished store exists and would be reused" if self.exists else "not extracted yet"
        copied = f", {self.rows_copied:,} of them are copied from other stores" if self.rows_copied else ""
        return [
            f"images   {self.images:,}{copied}",
            f"on disk  {self.bytes / 1e6:,.1f} MB",
            f"time     about {self.seconds:,.0f} s at {self.images_per_s:,.0f} images/s (a short trial)",
            f"state    {state}",
        ]


def estimate(job: ExtractJob, home: Home) -> Estimate:
    """Load the network, run a few real batches and extrapolate; nothing is written."""
    job = settle_engine(job, home)
    extractor = backbones.load(job.backbone, batch_size=job.batch_size or DEFAULT_BATCH)
    layout = new_layout(job, extractor.shapes, extractor.batch_size)
    rows = np.arange(min(len(job.dataset), TRIAL_BATCHES * extractor.batch_size))
    began = time.perf_counter()
    batches = read_batches(
        job.dataset.source.read, rows, job.backbone.size, extractor.batch_size, path=job.pixels
    )
    for batch in batches:
        extractor(batch.pixels)
    # A padded batch costs as much as a full one, so count places, not images.
    places = -(-len(rows) // extractor.batch_size) * extractor.batch_size
    speed = places / (time.perf_counter() - began)
    path = job.path(home)
    missing = missing_rows(job, home, path)
    images = len(missing) + int(job.viewed_rows()[missing].sum()) * (job.views.count if job.views else 0)
    return Estimate(
        images=len(job.dataset),
        bytes=layout.total_bytes(),
        seconds=round(images / speed, 1),
        images_per_s=round(speed, 1),
        exists=is_finished(path),
        rows_copied=len(job.dataset) - len(missing),
    )


def missing_rows(job: ExtractJob, home: Home, path: Path) -> NDArray[np.intp]:
    """(n,) the rows that no store of the home but the one at `path` has, as far as its records tell."""
    rows = np.arange(len(job.dataset))
    with Copies(job) as copies:
        copies.find(find_candidates(job, home, path), rows, check=False)
        return rows[~copies.has(rows)]
