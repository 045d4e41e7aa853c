"""Embeddings computed elsewhere -> an ordinary finished store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from probe.config import Home
from probe.datasets.dataset import UNLABELLED, Dataset, count_parts
from probe.datasets.folder import short_name
from probe.datasets.listing import Listing
from probe.datasets.opening import DatasetOptions, finish
from probe.errors import DataError
from probe.store.catalog import put_index, reuse_finished, store_path
from probe.store.exchange.reading import read_features, with_labels
from probe.store.exchange.table import FeatureTable, Labelling, default_ids, no_splits
from probe.store.index import Index
from probe.store.spec import IMPORTED, Layout, StoreSpec, images_digest, unit_rows
from probe.store.writer import StoreWriter, create
from probe.versions import versions

OUTPUT = "features"
_ROWS_NAMED = 12


@dataclass(frozen=True)
class ImportResult:
    """What an import did; ``to_json`` is what ``probe stores import --json`` prints.

    `parts` are the rows of each split there is, ``none`` for those in no split.
    """

    store: str
    path: str
    key: str
    rows: int
    shape: tuple[int, ...]
    classes: int
    reused: bool
    seconds: float
    parts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        shape = "×".join(map(str, self.shape))
        done = "reused, the same embeddings were here already" if self.reused else "imported"
        return [
            f"store   {self.path}",
            f"rows    {self.rows:,} × {shape}, {self.classes} classes: {done}",
            f"parts   {', '.join(f'{part} {count:,}' for part, count in self.parts.items())}",
            f"time    {self.seconds:.1f} s",
        ]


@dataclass(frozen=True)
class _RowBytes:
    """The content of a row, for its hash: equal embeddings count as exact copies."""

    table: FeatureTable

    def read(self, row: int) -> bytes:
        return bytes(self.table.block(row, row + 1).tobytes())


def import_store(
    path: Path, home: Home, options: DatasetOptions | None = None
) -> tuple[ImportResult, tuple[str, ...]]:
    """A store of the embeddings in `path`; also the notes a user should see.

    Parameters
    ----------
    path : npy, npz or parquet, see `probe.store.exchange.reading`.
    options : ``labels`` names a CSV, npz or npy file; the split is made and carved as for images.

    The key covers the embeddings and the ids: importing the same again only renews labels and splits.
    Raises UsageError and DataError, among others for values that are not finite, naming their rows.
    """
    started = time.perf_counter()
    options = options or DatasetOptions()
    table = read_features(path, home.cache)
    if options.labels is not None:
        table = with_labels(table, options.labels, home.cache)
    digest = _checked_digest(table)
    dataset = _dataset(table, path, home, options)
    spec = _spec(dataset, table, digest)
    index = Index(
        dataset.ids,
        dataset.hashes,
        dataset.labels,
        dataset.splits,
        np.array(dataset.classes, np.str_),
        dataset.groups,
    )
    target = store_path(home, dataset.name, IMPORTED, spec.key)
    reused = reuse_finished(target, index)
    if not reused:
        _write(target, spec, table, index, dataset, started)
    notes = dataset.notes
    if (dataset.labels == UNLABELLED).all():
        notes = (*notes, "the rows have no labels: --labels FILE gives them, the store is kept")
    result = ImportResult(
        target.name,
        str(target),
        spec.key,
        len(table),
        tuple(table.features.shape[1:]),
        len(dataset.classes),
        reused,
        round(time.perf_counter() - started, 3),
        count_parts(dataset.splits),
    )
    return result, notes


def _checked_digest(table: FeatureTable) -> str:
    """sha256 over type, shape and values as they are stored; DataError names rows that are not finite."""
    digest = hashlib.sha256(f"{table.dtype} {table.features.shape}\n".encode())
    wrong: list[int] = []
    for start, block in table.blocks():
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        wrong += (start + np.flatnonzero(~finite)).tolist()
        digest.update(block.data)
    if wrong:
        named = ", ".join(map(str, wrong[:_ROWS_NAMED])) + (", …" if len(wrong) > _ROWS_NAMED else "")
        raise DataError(
            f"{table.origin} holds embeddings with NaN, infinite values or numbers beyond float32",
            expected="finite numbers in every row",
            found=f"{len(wrong):,} of {len(table):,} rows, counted from 0: {named}",
            hint="leave these rows out, and their labels too",
        )
    return digest.hexdigest()


def _dataset(table: FeatureTable, path: Path, home: Home, options: DatasetOptions) -> Dataset:
    """The rows with their splits, made by the same rules as for images."""
    who = table.labelling or Labelling.unknown(len(table))
    listing = Listing(
        name=short_name(path.stem),
        ids=default_ids(len(table)) if who.ids is None else who.ids,
        labels=who.labels,
        splits=no_splits(len(table)) if who.splits is None else who.splits,
        classes=who.classes,
        source=_RowBytes(table),
        groups=who.groups,
        facts={"imported_from": path.name},
        notes=table.notes,
    )
    if table.features.dtype == np.float64:
        listing = listing.noting("float64 is rounded to float32")
    return finish(listing, home, options, hashes=who.hashes)


def _spec(dataset: Dataset, table: FeatureTable, digest: str) -> StoreSpec:
    return StoreSpec(
        backbone={
            "name": IMPORTED,
            "weights": f"features:{digest}",
            "size": 0,
            "preprocess": "unknown",
            "precision": "unknown",
            "outputs": [OUTPUT],
        },
        pixels={"policy": "unknown", "resize": "unknown", "exif": False},
        views=None,
        dtype=table.dtype,
        images=images_digest(dataset.ids, dataset.hashes),
    )


def _write(
    path: Path, spec: StoreSpec, table: FeatureTable, index: Index, dataset: Dataset, started: float
) -> None:
    shape = tuple(table.features.shape[1:])
    widest = int(np.prod(shape)) * np.dtype(table.dtype).itemsize
    layout = Layout(spec.key, len(table), unit_rows(len(table), 1, widest), 1, {OUTPUT: shape}, table.dtype)
    if not path.exists():
        create(path, spec, layout)
    facts = {
        "dataset": dataset.name,
        "dataset_facts": dict(dataset.facts),
        "notes": list(dataset.notes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 3),
        "versions": versions(),
        "weights_path": None,
    }
    with StoreWriter(path) as writer:
        for unit in writer.pending_units():
            start, stop = writer.layout.unit_range(unit)
            status = np.zeros(stop - start, np.uint8)
            writer.write_unit(unit, {f"features/{OUTPUT}": table.block(start, stop), "status": status}, {})
        put_index(path, index)
        writer.seal(spec, dataset.ids, facts)
        put_index(path, index)
