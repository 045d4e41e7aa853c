"""A damaged store made whole: mended from its own records, then just the lost rows computed again."""

from __future__ import annotations

from pathlib import Path

from probe.config import Home, own_place
from probe.errors import ProbeError, StoreError
from probe.extract.job import ExtractJob
from probe.extract.reopen import backbone_of, dataset_of
from probe.extract.run import ExtractResult, extract
from probe.store import Repair, Store, is_finished, mend, open_store, unsealed_store


def repair(path: Path, home: Home, *, progress: bool = False) -> tuple[Repair, ExtractResult | None]:
    """Mend a store and, where rows were lost, compute them again; what is whole stays as it is.

    Returns what was found and the extraction that followed, None where none was needed. StoreError when the
    images or the backbone cannot be had again: the store is mended, and whatever made it completes it.
    """
    try:
        known = _open(own_place(path.parent, path.name))
    except StoreError:
        known = None
    found = mend(path)
    if is_finished(path):
        _expect_labels(path)
        return found, None
    # A manifest whose parts do not hash to its key says of other rows than those that are there.
    store = known if known and known.manifest.key == known.key else unsealed_store(path)
    try:
        job = _job(store, home)
    except ProbeError as error:
        raise _incomplete(path, found, str(error.problem)) from error
    if job.spec().key != store.key:
        raise _incomplete(path, found, "its rows were made in a way that the store alone does not tell")
    return found, extract(job, home, progress=progress)


def _open(path: Path) -> Store:
    """The store with its labels read; StoreError where manifest or labels cannot be."""
    store = open_store(path)
    store.index  # noqa: B018 - a store keeps the labels it has read, also when a repair takes the file away
    return store


def _expect_labels(path: Path) -> None:
    try:
        _open(path)
    except StoreError as error:
        raise StoreError(
            f"{path.name} is mended, but which labels its rows have is not known any more",
            found=error.problem,
            hint="run the command that made it again: it computes nothing and writes the labels",
        ) from error


def _job(store: Store, home: Home) -> ExtractJob:
    spec = store.manifest.spec
    layout = store.manifest.layout
    return ExtractJob(
        dataset_of(store, home),
        backbone_of(store, home),
        exif=bool(spec["pixels"].get("exif")),
        dtype=str(spec["dtype"]),
        internal=layout.internal,
    )


def _incomplete(path: Path, found: Repair, why: str) -> StoreError:
    return StoreError(
        f"{path.name} is mended, but {found.rows:,} of its rows have to be computed again",
        found=why,
        hint="run the command that made it again: it computes these rows and no others",
    )
