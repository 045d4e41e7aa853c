"""The shards of one store in several local processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from probe.config import Home
from probe.errors import StoreError
from probe.extract.job import ExtractJob
from probe.extract.run import ExtractResult, Shard, extract, reuse, summarise, summarise_shards
from probe.progress import Progress
from probe.store import finished_rows, store_path

POLL_S = 0.5


def extract_in_processes(
    job: ExtractJob, home: Home, processes: int, *, gpus: int = 0, progress: bool = False
) -> ExtractResult:
    """Run one shard per process; the store is bit-identical to that of one process.

    Processes are spawned (TensorFlow hangs in forked ones). With several GPUs each process gets one, on a CPU
    each gets its share of the processors. StoreError when a process dies; what it committed is kept.
    """
    started = time.perf_counter()
    path = store_path(home, job.dataset.name, job.backbone.name, job.spec().key)
    if reuse(path, job):
        return summarise(path, job, 0, len(job.dataset), started, 0.0)
    began = time.perf_counter()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        shards = [Shard(number, processes) for number in range(processes)]
        futures = [pool.submit(_run_shard, job, home, shard, gpus) for shard in shards]
        _watch(futures, path, len(job.dataset), progress)
        try:
            results = [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise StoreError(
                "a process died while extracting, perhaps for want of memory",
                hint="run the same command again: finished units are kept; or use fewer --jobs",
            ) from error
    return summarise_shards(path, job, results, started, time.perf_counter() - began)


def _run_shard(job: ExtractJob, home: Home, shard: Shard, gpus: int) -> ExtractResult:
    """What a spawned process does; TensorFlow is not imported yet, so it sees only its own share."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(shard.number % gpus)
    _take_share_of_processors(shard)
    return extract(job, home, shard=shard)


def _take_share_of_processors(shard: Shard) -> None:
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) >= shard.count:
        os.sched_setaffinity(0, processors[shard.number :: shard.count])


def _watch(futures: list[Future[ExtractResult]], path: Path, total: int, progress: bool) -> None:
    """Show how many rows are committed until every process has ended."""
    with Progress("extract", total, "img", initial=finished_rows(path), shown=progress) as bar:
        while wait(futures, timeout=POLL_S).not_done:
            bar.update(finished_rows(path) - bar.n)
        bar.update(finished_rows(path) - bar.n)
