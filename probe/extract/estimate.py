"""What an extraction would cost: images, bytes on disk, time from a short trial."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probe import backbones
from probe.config import Home
from probe.extract.batch import DEFAULT_BATCH
from probe.extract.job import ExtractJob
from probe.extract.run import new_layout
from probe.images.reader import read_batches
from probe.store import is_finished, store_path

TRIAL_BATCHES = 3


@dataclass(frozen=True)
class Estimate:
    """`bytes` on disk of the whole store, `seconds` of computing all of it on this machine."""

    images: int
    bytes: int
    seconds: float
    images_per_s: float
    exists: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        state = "a finished store exists and would be reused" if self.exists else "not extracted yet"
        return [
            f"images   {self.images:,}",
            f"on disk  {self.bytes / 1e6:,.1f} MB",
            f"time     about {self.seconds:,.0f} s at {self.images_per_s:,.0f} images/s (a short trial)",
            f"state    {state}",
        ]


def estimate(job: ExtractJob, home: Home) -> Estimate:
    """Load the network, run a few real batches and extrapolate; nothing is written."""
    extractor = backbones.load(job.backbone, batch_size=job.batch_size or DEFAULT_BATCH)
    layout = new_layout(job, extractor)
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
    images = len(job.dataset) + int(job.viewed_rows().sum()) * (job.views.count if job.views else 0)
    exists = is_finished(store_path(home, job.dataset.name, job.backbone.name, job.spec().key))
    return Estimate(len(job.dataset), layout.total_bytes(), round(images / speed, 1), round(speed, 1), exists)
