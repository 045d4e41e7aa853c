"""Batches of pixels -> units of rows, with every output and every view, and copied rows in their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import Dispatcher, Extractor, Features
from probe.extract.copies import Copies
from probe.extract.guard import Guard
from probe.extract.job import ExtractJob
from probe.images.augment import draw, transform_pixels, view_seed
from probe.images.reader import Batch
from probe.store import INT8, Layout, encode, rounding_of


@dataclass
class UnitContent:
    """The rows of one unit.

    Attributes
    ----------
    unit, start : its number and its first row.
    arrays : array name -> (r, …).
    unreadable : row -> (status, reason).
    turned : rows of images with an EXIF orientation other than upright.
    rounding : at most so much of its length every vector differs from float32, None unless it is 8 bits.
    """

    unit: int
    start: int
    arrays: dict[str, NDArray[Any]]
    unreadable: dict[int, tuple[int, str]] = field(default_factory=dict)
    turned: list[int] = field(default_factory=list)
    rounding: float | None = None

    def __len__(self) -> int:
        return len(self.arrays["status"])

    @property
    def rows(self) -> NDArray[np.intp]:
        return self.start + np.arange(len(self))


def compute_units(
    units: Sequence[int],
    batches: Iterable[Batch],
    job: ExtractJob,
    extractor: Extractor | None,
    layout: Layout,
    copies: Copies,
) -> Iterator[UnitContent]:
    """The content of `units`, ascending, from what is copied and what is computed.

    `batches` hold the rows that `copies` does not have, ascending, and before them some that it has, which
    have to come out the same. R is a multiple of the batch, so where nothing is copied no batch crosses the
    end of a unit; where rows are, a picture's features are the same bits in any batch.

    DataError where the features cannot be right, see `probe.extract.guard`; LostSourceError where rows cannot
    be copied.
    """
    guard = Guard(job)
    computed = _ComputedRows(job, extractor, layout, copies, guard, iter(batches)) if extractor else None
    for unit in units:
        start, stop = layout.unit_range(unit)
        rows = np.arange(start, stop)
        missing = rows[~copies.has(rows)]
        if computed is not None:
            computed.compute(missing)
        content = UnitContent(unit, start, _empty_arrays(layout, len(rows)))
        if computed is not None:
            computed.move(missing, content)
        copied = copies.fill(start, content.arrays)
        content.turned += copied.turned
        if layout.dtype == INT8:
            content.rounding = max(copied.rounding, computed.rounding if computed is not None else 0.0)
        guard.end_unit()
        yield content


def _empty_arrays(layout: Layout, count: int) -> dict[str, NDArray[Any]]:
    """Every array of a store for `count` rows; views are absent until they are put in."""
    return {
        name: np.full((count, *layout.row_shape(name)), _unfilled(layout, name), layout.array_dtype(name))
        for name in layout.array_names()
    }


def _unfilled(layout: Layout, array: str) -> float | int:
    """What a row has until it is filled: no features where they are those of a view, which not all have."""
    return layout.absent(array) if "@" in array else 0


class _ComputedRows:
    """Rows that are computed, ascending, and wait until their unit takes them.

    No more wait than fill a unit and a batch, whatever the units that they belong to; and no more batches
    are with the engine than the one that is waited for and the next.

    Attributes
    ----------
    rounding : the most that a vector has lost so far (`probe.store.rounding_of`).
    """

    def __init__(
        self,
        job: ExtractJob,
        extractor: Extractor,
        layout: Layout,
        copies: Copies,
        guard: Guard,
        batches: Iterator[Batch],
    ) -> None:
        self._copies, self._guard, self._layout = copies, guard, layout
        self._features = _in_turn(extractor, batches)
        self.rounding = 0.0
        self._most = layout.unit_rows
        self._arrays = _empty_arrays(layout, layout.unit_rows + extractor.batch_size)
        self._rows: list[int] = []
        self._problems: dict[int, tuple[int, str]] = {}
        self._turned: set[int] = set()
        self._views = _Views(job, extractor, guard, self._put) if job.views else None
        while not self._rows:  # what is computed to be compared comes first
            self._next()

    def compute(self, rows: NDArray[np.intp]) -> None:
        """Compute until `rows`, the next in order, are whole."""
        while self._whole() < len(rows):
            self._next()
        assert self._rows[: len(rows)] == rows.tolist()

    def move(self, rows: NDArray[np.intp], content: UnitContent) -> None:
        """Put `rows`, which are computed, into their unit."""
        count, waiting = len(rows), len(self._rows)
        for name, column in self._arrays.items():
            content.arrays[name][rows - content.start] = column[:count]
            column[: waiting - count] = column[count:waiting]
        for row in self._rows[:count]:
            if row in self._problems:
                content.unreadable[row] = self._problems.pop(row)
            if row in self._turned:
                self._turned.remove(row)
                content.turned.append(row)
        del self._rows[:count]

    def _whole(self) -> int:
        """How many of the rows that wait have all that they are to have, from the first on."""
        first = self._views.first_waiting if self._views is not None else None
        return len(self._rows) if first is None else self._rows.index(first)

    def _next(self) -> None:
        """Compute one batch; and the views at hand, where no more rows may wait for a full batch of them."""
        batch, features = next(self._features, (None, {}))
        if batch is not None:
            self._add(batch, features)
        if self._views is not None and (batch is None or len(self._rows) >= self._most):
            self._views.flush(self._rows, self._arrays)

    def _add(self, batch: Batch, features: Features) -> None:
        self._guard.look(batch, features)
        copied = self._copies.has(batch.rows)
        for place in np.flatnonzero(copied).tolist():
            if (row := int(batch.rows[place])) not in batch.problems:
                self._copies.expect_same(row, features, place)
        places = np.flatnonzero(~copied)
        here = slice(len(self._rows), len(self._rows) + len(places))
        self._rows += batch.rows[places].tolist()
        for name, column in self._arrays.items():
            column[here] = _unfilled(self._layout, name)
        for output, values in features.items():
            self._put(output, here, values[places])
        for row in sorted(set(batch.problems) & set(self._rows[here])):
            status, reason = batch.problems[row]
            at = self._rows.index(row)
            for array in (array for output in features for array in self._layout.arrays_of(output)):
                self._arrays[array][at] = self._layout.absent(array)
            self._arrays["status"][at] = status
            self._problems[row] = (int(status), reason)
        self._turned |= set(batch.turned_rows) & set(self._rows[here])
        if self._views is not None:
            self._views.add(batch, places, self._rows, self._arrays)

    def _put(self, output: str, places: Any, values: NDArray[np.float32]) -> None:
        """Store the `values` of an output, or of a view of one, in the rows at `places`."""
        encoded = encode(values, self._layout.dtype)
        self.rounding = max(self.rounding, rounding_of(values, encoded))
        for array, content in zip(self._layout.arrays_of(output), encoded, strict=True):
            self._arrays[array][places] = content


def _in_turn(extractor: Extractor, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Features]]:
    """Each batch with its features, in order; the next is with the engine while one is waited for."""
    if not isinstance(extractor, Dispatcher):
        yield from ((batch, extractor(batch.pixels)) for batch in batches)
        return
    under_way: deque[tuple[Batch, Callable[[], Features]]] = deque()
    for batch in batches:
        under_way.append((batch, extractor.dispatch(batch.pixels)))
        if len(under_way) > 1:
            before, fetch = under_way.popleft()
            yield before, fetch()
    for batch, fetch in under_way:
        yield batch, fetch()


Put = Callable[[str, Any, NDArray[np.float32]], None]
"""Stores the values of an output, or of a view of it, at places."""


class _Views:
    """Collects rows that have views into full batches: a batch of test images alone costs nothing more."""

    def __init__(self, job: ExtractJob, extractor: Extractor, guard: Guard, put: Put) -> None:
        assert job.views is not None
        self._views, self._extractor, self._guard, self._put = job.views, extractor, guard, put
        self._viewed, self._hashes = job.viewed_rows(), job.dataset.hashes
        self._rows: list[int] = []
        self._pixels = np.zeros((extractor.batch_size, job.backbone.size, job.backbone.size, 3), np.uint8)

    @property
    def first_waiting(self) -> int | None:
        """The first row whose views are not computed yet."""
        return self._rows[0] if self._rows else None

    def add(
        self, batch: Batch, places: NDArray[np.intp], rows: list[int], arrays: dict[str, NDArray[Any]]
    ) -> None:
        """Take those at `places` of a batch that have views; compute whenever a batch of them is full.

        `rows` are those that the `arrays` hold, ascending.
        """
        for place in places.tolist():
            row = int(batch.rows[place])
            if self._viewed[row] and row not in batch.problems:
                self._pixels[len(self._rows)] = batch.pixels[place]
                self._rows.append(row)
                if len(self._rows) == len(self._pixels):
                    self.flush(rows, arrays)

    def flush(self, rows: list[int], arrays: dict[str, NDArray[Any]]) -> None:
        """Compute the K views of the rows at hand; places without a row are computed and dropped."""
        if not self._rows:
            return
        places = np.searchsorted(rows, self._rows)
        hashes = [str(self._hashes[row]) for row in self._rows]
        hashes += [""] * (len(self._pixels) - len(hashes))
        augment = self._views.augment
        for view in range(1, self._views.count + 1):
            seeds = np.array([view_seed(self._views.seed, text, view) for text in hashes], np.uint64)
            pixels = transform_pixels(self._pixels, draw(augment, seeds), augment.fill).numpy()
            features = self._extractor(pixels)
            self._guard.finite(features, np.array(self._rows), list(range(len(places))))
            for output, values in features.items():
                self._put(f"{output}@{view}", places, values[: len(places)])
        arrays["viewed"][places] = 1
        self._rows.clear()
