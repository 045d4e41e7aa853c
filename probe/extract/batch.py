"""Which batch size a new store gets."""

from __future__ import annotations

import time

import numpy as np

from probe import backbones
from probe.backbones.backbone import NO_WEIGHTS, Extractor
from probe.config import Home
from probe.extract.job import ExtractJob
from probe.machine import read_machine

DEFAULT_BATCH = 32
CANDIDATES = (32, 64)
GPU_CANDIDATES = (32, 64, 128, 256, 512)
TRIAL_FROM = 8192
"""Images from which a trial pays: tracing a second graph takes some seconds."""
TRIAL_IMAGES = 192
WORTH_IT = 1.05
"""A larger batch has to be this much faster, or memory is spent on noise."""


def settled_batch(job: ExtractJob) -> int | None:
    """The batch size asked for, or the usual one; None where a short trial pays."""
    if job.batch_size is not None or len(job.dataset) < TRIAL_FROM or job.backbone.weights == NO_WEIGHTS:
        return job.batch_size or DEFAULT_BATCH
    return None


def load_for_new_store(job: ExtractJob, home: Home) -> Extractor:
    """The backbone with its settled batch size, or the fastest of a short trial."""
    settled = settled_batch(job)
    if settled is not None:
        return backbones.load(job.backbone, batch_size=settled, home=home)
    on_gpu = read_machine().gpu_capability is not None
    first, *larger = GPU_CANDIDATES if on_gpu else CANDIDATES
    best = backbones.load(job.backbone, batch_size=first, home=home)
    best_speed = _speed(best, job.backbone.size)
    for size in larger:
        extractor = backbones.load(job.backbone, batch_size=size, home=home)
        speed = _speed(extractor, job.backbone.size)
        if speed <= WORTH_IT * best_speed:
            break
        best, best_speed = extractor, speed
    return best


def _speed(extractor: Extractor, side: int) -> float:
    """Images/s on ready batches; the fastest batch, since noise only slows."""
    pixels = np.zeros((extractor.batch_size, side, side, 3), np.uint8)
    times = []
    for _ in range(max(TRIAL_IMAGES // extractor.batch_size, 2)):
        began = time.perf_counter()
        extractor(pixels)
        times.append(time.perf_counter() - began)
    return extractor.batch_size / min(times)
