"""The shards of one store on an existing Dask cluster (``pip install 'probe[dask]'``)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from probe.cluster import connect, worker_count
from probe.config import Home
from probe.extract.job import ExtractJob
from probe.extract.run import ExtractResult, Shard, extract, reuse, summarise, summarise_shards
from probe.store import store_path

RETRIES = 3
"""How often a shard is tried elsewhere; Dask itself also moves the shards of a worker that is gone."""


def extract_on_cluster(job: ExtractJob, home: Home, address: str) -> ExtractResult:
    """Run one shard per Dask worker at `address` (``tcp://host:port``).

    The workers must see the images, the weights and PROBE_HOME under the same absolute paths. When a worker
    dies, Dask gives its shard to another, which goes on from the last commit. Raises as `connect`.
    """
    started = time.perf_counter()
    home = Home(home.root.resolve())
    job = _with_absolute_weights(job)
    path = store_path(home, job.dataset.name, job.backbone.name, job.spec().key)
    if reuse(path, job):
        return summarise(path, job, 0, len(job.dataset), started, 0.0)
    with connect(address) as client:
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
