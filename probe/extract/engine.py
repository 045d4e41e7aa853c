"""Whose features a job takes where several engines would do: those that are there."""

from __future__ import annotations

from dataclasses import replace

from probe.backbones import by_any_engine, row_of
from probe.backbones.backbone import BackboneSpec
from probe.backbones.engines import is_installed
from probe.config import Home
from probe.extract.job import ExtractJob
from probe.store import is_finished, store_path


def settle_engine(job: ExtractJob, home: Home) -> ExtractJob:
    """The job by the engine whose store of it is finished, else by one that has begun it, else as it is.

    What another engine, or an earlier version of this one, has computed differs by rounding: it is not
    computed anew, and never mixed. A job that means one engine and no other stays as it is.
    """
    candidates = by_any_engine(row_of(job.backbone), job.backbone)
    if len(candidates) == 1:
        return job
    spec, dataset = job.spec(), job.dataset.name  # once, since it hashes the ids of all images
    keys = [replace(spec, backbone=backbone.key_part()).key for backbone in candidates]
    paths = [store_path(home, dataset, job.backbone.name, key) for key in keys]
    places = list(zip(candidates, paths, strict=True))
    finished = [backbone for backbone, path in places if is_finished(path)]
    begun = [backbone for backbone, path in places if path.exists() and is_installed(backbone.engine)]
    chosen = next(iter([*finished, *begun]), job.backbone)
    return replace(job, backbone=replace(chosen, asked_engine=""))


def said_of_engine(asked: BackboneSpec, settled: BackboneSpec) -> str:
    """What the user should know where another engine is taken than for new work."""
    if settled.engine == asked.engine:
        return ""
    return f"features by the engine {settled.engine} are here and used; new ones would be by {asked.engine}"
