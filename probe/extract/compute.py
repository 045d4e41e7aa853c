"""Batches of pixels -> units of rows, with every output and every view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import Extractor
from probe.errors import DataError
from probe.extract.guard import Guard
from probe.extract.job import ExtractJob
from probe.images.augment import draw, transform_pixels, view_seed
from probe.images.reader import Batch
from probe.store import Layout


class HalfRangeError(DataError):
    """A feature is too large for float16."""


@dataclass
class UnitContent:
    """The rows of one unit.

    Attributes
    ----------
    unit, start : its number and its first row.
    arrays : array name -> (r, …).
    unreadable : row -> (status, reason).
    turned : images with an EXIF orientation other than upright.
    """

    unit: int
    start: int
    arrays: dict[str, NDArray[Any]]
    unreadable: dict[int, tuple[int, str]] = field(default_factory=dict)
    turned: int = 0

    def __len__(self) -> int:
        return len(self.arrays["status"])


def compute_units(
    batches: Iterable[Batch], job: ExtractJob, extractor: Extractor, layout: Layout
) -> Iterator[UnitContent]:
    """Gather batches into units. R is a multiple of the batch, so no batch crosses the end of a unit.

    DataError where the features cannot be right, see `probe.extract.guard`.
    """
    content: UnitContent | None = None
    guard = Guard(job)
    views = _Views(job, extractor, guard) if job.views else None
    for batch in batches:
        first = int(batch.rows[0])
        if content is None:
            content = _empty_unit(layout, first // layout.unit_rows)
        features = extractor(batch.pixels)
        guard.look(batch, features)
        _fill_plain(content, batch, features)
        content.turned += batch.turned
        if views is not None:
            views.add(content, batch)
        if first + batch.count == content.start + len(content):
            if views is not None:
                views.flush(content)
            guard.end_unit()
            yield content
            content = None


def _empty_unit(layout: Layout, unit: int) -> UnitContent:
    start, stop = layout.unit_range(unit)
    arrays = {}
    for name in layout.array_names():
        fill = np.nan if "@" in name else 0
        shape = (stop - start, *layout.row_shape(name))
        arrays[name] = np.full(shape, fill, layout.array_dtype(name))
    return UnitContent(unit, start, arrays)


def _fill_plain(content: UnitContent, batch: Batch, features: dict[str, NDArray[np.float32]]) -> None:
    at = int(batch.rows[0]) - content.start
    for output, values in features.items():
        _put(content.arrays[f"features/{output}"], slice(at, at + batch.count), values[: batch.count])
    for row, (status, reason) in batch.problems.items():
        for output in features:
            content.arrays[f"features/{output}"][row - content.start] = np.nan
        content.arrays["status"][row - content.start] = status
        content.unreadable[row] = (int(status), reason)


def _put(column: NDArray[Any], places: Any, values: NDArray[np.float32]) -> None:
    """Store `values`; `HalfRangeError` rather than infinities where float16 cannot hold them."""
    try:
        with np.errstate(over="raise"):
            column[places] = values
    except FloatingPointError as error:
        raise HalfRangeError(
            "these features do not fit in float16",
            expected="values up to 65,504",
            found=f"{np.abs(values).max():,.0f}",
            hint="--store-dtype float32",
        ) from error


class _Views:
    """Collects the rows that have views into full batches: a batch of test images alone costs nothing more.

    What it holds never crosses a unit, so a resumed unit sees the same batches as an undisturbed one.
    """

    def __init__(self, job: ExtractJob, extractor: Extractor, guard: Guard) -> None:
        assert job.views is not None
        self._views, self._extractor, self._guard = job.views, extractor, guard
        self._viewed, self._hashes = job.viewed_rows(), job.dataset.hashes
        self._rows: list[int] = []
        self._pixels = np.zeros((extractor.batch_size, job.backbone.size, job.backbone.size, 3), np.uint8)

    def add(self, content: UnitContent, batch: Batch) -> None:
        """Take the rows of a batch that have views; compute whenever a batch of them is full."""
        for place, row in enumerate(batch.rows.tolist()):
            if self._viewed[row] and row not in batch.problems:
                self._pixels[len(self._rows)] = batch.pixels[place]
                self._rows.append(row)
                content.arrays["viewed"][row - content.start] = 1
                if len(self._rows) == len(self._pixels):
                    self.flush(content)

    def flush(self, content: UnitContent) -> None:
        """Compute the K views of the rows at hand; places without a row are computed and dropped."""
        if not self._rows:
            return
        places = np.array(self._rows) - content.start
        hashes = [str(self._hashes[row]) for row in self._rows]
        hashes += [""] * (len(self._pixels) - len(hashes))
        augment = self._views.augment
        for view in range(1, self._views.count + 1):
            seeds = np.array([view_seed(self._views.seed, text, view) for text in hashes], np.uint64)
            pixels = transform_pixels(self._pixels, draw(augment, seeds), augment.fill).numpy()
            features = self._extractor(pixels)
            self._guard.finite(features, np.array(self._rows), list(range(len(places))))
            for output, values in features.items():
                _put(content.arrays[f"features/{output}@{view}"], places, values[: len(places)])
        self._rows.clear()
