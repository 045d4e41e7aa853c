"""What a survey computes, and what of it is there: the outputs of a backbone, spread over stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from probe.backbones import by_any_engine, row_of
from probe.config import Home
from probe.errors import StoreError
from probe.extract import ExtractJob, missing_rows, settle_engine
from probe.store import LocalFiles, finished_rows, is_finished, read_manifest, store_folders


@dataclass(frozen=True)
class Pass:
    """One store: what of it is surveyed, and how many images the backbone has to see for it.

    Attributes
    ----------
    job : that fills the store, or finds it filled.
    outputs : those that the survey takes of the store, which may have more.
    finished : whether the store is there.
    computed, copied : images to compute, and rows that other stores of the home have.
    """

    job: ExtractJob
    outputs: tuple[str, ...]
    finished: bool
    computed: int = 0
    copied: int = 0


def find_passes(job: ExtractJob, home: Home) -> list[Pass]:
    """The stores that have, or will have, the outputs of a job of all of them.

    Finished stores of the same images and settings are taken, whatever other outputs they have, those with
    more of what is wanted first; what no store has is one pass more.
    """
    wanted = list(job.backbone.outputs)
    finished = list(_finished(job, home))
    passes = []
    while finished and wanted:
        best = max(finished, key=lambda other: len(set(wanted) & set(other.backbone.outputs)))
        taken = tuple(output for output in wanted if output in best.backbone.outputs)
        if not taken:
            break
        passes.append(Pass(best, taken, finished=True))
        wanted = [output for output in wanted if output not in taken]
    if wanted:
        passes.append(_new_pass(replace(job, backbone=replace(job.backbone, outputs=tuple(wanted))), home))
    return passes


def _finished(job: ExtractJob, home: Home) -> Iterator[ExtractJob]:
    """The job with the outputs of every finished store that it could take, by any engine that would do."""
    spec, engines = job.spec(), by_any_engine(row_of(job.backbone), job.backbone)
    found = []
    for path in store_folders(home):
        if not is_finished(path):
            continue
        try:
            manifest = read_manifest(LocalFiles(path))
            outputs = tuple(map(str, manifest.spec["backbone"]["outputs"]))
        except (StoreError, OSError, KeyError, TypeError):
            continue  # whoever opens it is told
        for place, engine in enumerate(engines):
            backbone = replace(engine, outputs=outputs, asked_engine="")
            same = replace(spec, backbone=backbone.key_part())
            if same.key == manifest.layout.key and not manifest.layout.internal:
                found.append((place, replace(job, backbone=backbone)))
    yield from (other for _, other in sorted(found, key=lambda pair: pair[0]))


def _new_pass(job: ExtractJob, home: Home) -> Pass:
    settled = settle_engine(job, home)
    path, images = settled.path(home), len(job.dataset)
    missing = len(missing_rows(settled, home, path))
    computed = max(missing - finished_rows(path), 0)
    return Pass(settled, job.backbone.outputs, False, computed, images - missing)
