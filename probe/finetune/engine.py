"""Which engine computes the frozen part, where several would do: the one that it was begun with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from probe.backbones import by_any_engine
from probe.backbones.backbone import BackboneSpec
from probe.config import Home, own_place
from probe.extract import settle_engine
from probe.finetune.plan import Prepared
from probe.finetune.prefix import DTYPES, prefix_job
from probe.runs import FINE_TUNED, find_finished


def state_folder(ready: Prepared, home: Home) -> Path:
    """Where the state of a training lies after every epoch, a folder a stage."""
    return own_place(home.cache, FINE_TUNED, ready.identity[:16])


def settle_tuning(ready: Prepared, home: Home, *, resume: bool) -> Prepared:
    """The fine-tuning by the engine of its finished run or its state, where it is resumed; else of its cache.

    Without a prefix cache no engine has a part in it.
    """
    if not ready.plan.prefix_cache:
        return ready
    candidates = [_by(ready, backbone) for backbone in by_any_engine(ready.job.row, ready.job.backbone)]
    for known in candidates if resume else ():
        if find_finished(home, known.run_identity) or state_folder(known, home).exists():
            return known
    job = ready.job.on_labelled_rows()
    for dtype in DTYPES:
        cache = settle_engine(prefix_job(job.images, ready.cut, job.settings.stored_views, dtype), home)
        if cache.path(home).exists():
            return _by(ready, replace(job.backbone, engine=cache.backbone.engine))
    return candidates[0]


def _by(ready: Prepared, backbone: BackboneSpec) -> Prepared:
    return replace(ready, job=replace(ready.job, backbone=replace(backbone, asked_engine="")))
