"""The shards of one store in several local processes, or on an existing Dask cluster."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from probe.cluster import connect, worker_count
from probe.config import Home
from probe.errors import StoreError
from probe.extract.engine import settle_engine
from probe.extract.fill import Work
from probe.extract.job import ExtractJob
from probe.extract.run import ExtractResult, Shard, extract, reuse, summarise, summarise_shards
from probe.progress import Progress
from probe.store import finished_rows
from probe.workers import process_pool

POLL_S = 0.5
RETRIES = 3
"""How often a shard is tried elsewhere; Dask itself also moves the shards of a worker that is gone."""


def extract_in_processes(
    job: ExtractJob, home: Home, processes: int, *, progress: bool = False
) -> ExtractResult:
    """Run one shard per process; the store is bit-identical to that of one process.

    Each process has its own share of the processors and GPUs (`probe.workers`). StoreError when one dies;
    what it committed is kept.
    """
    started = time.perf_counter()
    job = settle_engine(job, home)
    path = job.path(home)
    if reuse(path, job):
        return summarise(path, job, Work(resumed=len(job.dataset)), started)
    began = time.perf_counter()
    with process_pool(processes) as pool:
        shards = [Shard(number, processes) for number in range(processes)]
        futures = [pool.submit(extract, job, home, shard=shard) for shard in shards]
        _watch(futures, path, len(job.dataset), progress)
        try:
            results = [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise StoreError(
                "a process died while extracting, perhaps for want of memory",
                hint="run the same command again: finished units are kept; or use fewer --jobs",
            ) from error
    return summarise_shards(path, job, results, started, time.perf_counter() - began)


def _watch(futures: list[Future[ExtractResult]], path: Path, total: int, progress: bool) -> None:
    """Show how many rows are committed until every process has ended."""
    with Progress("extract", total, "img", initial=finished_rows(path), shown=progress) as bar:
        while wait(futures, timeout=POLL_S).not_done:
            bar.update(finished_rows(path) - bar.n)
        bar.update(finished_rows(path) - bar.n)


def extract_on_cluster(job: ExtractJob, home: Home, address: str, *, progress: bool = False) -> ExtractResult:
    """Run one shard per Dask worker at `address` (``tcp://host:port``).

    The workers must see the images, the weights and PROBE_HOME under the same absolute paths. When a worker
    dies, Dask gives its shard to another, which goes on from the last commit. Raises as `connect`.
    """
    started = time.perf_counter()
    home = Home(home.root.resolve())
    job = settle_engine(_with_absolute_weights(job), home)
    path = job.path(home)
    if reuse(path, job):
        return summarise(path, job, Work(resumed=len(job.dataset)), started)
    with connect(address, progress=progress) as client:
        count = worker_count(client)
        began = time.perf_counter()
        shards = [Shard(number, count) for number in range(count)]
        futures = [client.submit(extract, job, home, shard=s, retries=RETRIES, pure=False) for s in shards]
        results: list[ExtractResult] = client.gather(futures)
    return summarise_shards(path, job, results, started, time.perf_counter() - began)


def _with_absolute_weights(job: ExtractJob) -> ExtractJob:
    if job.backbone.weights_path is None:
        return job
    absolute = str(Path(job.backbone.weights_path).resolve())
    return replace(job, backbone=replace(job.backbone, weights_path=absolute))
