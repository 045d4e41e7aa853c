"""Batches of pixels in a fixed order from a bounded pool of decoding threads."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import numpy as np
from numpy.typing import NDArray

from probe.hashing import RawImage, content_hash
from probe.images.decode import ImageError, decode_to
from probe.images.path import IN_FULL, PixelPath
from probe.images.status import MEANING, Status
from probe.machine import usable_cpus

Problem = tuple[Status, str]

PICTURES_AHEAD = 4
"""For every thread: with fewer, most threads of a large machine wait for the network to take its batch."""


@dataclass
class Batch:
    """`count` images of B.

    Attributes
    ----------
    rows : (count,) row numbers, in the order asked for.
    pixels : (B, S, S, 3) uint8; always a full batch; unreadable images and places from `count` on are zeros.
    problems : row -> status and reason, for those that could not be read.
    turned_rows : those with an EXIF orientation other than upright, applied or not.
    """

    rows: NDArray[np.intp]
    pixels: NDArray[np.uint8]
    problems: dict[int, Problem] = field(default_factory=dict)
    turned_rows: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def turned(self) -> int:
        return len(self.turned_rows)


def read_batches(
    read: Callable[[int], RawImage],
    rows: Sequence[int] | NDArray[np.intp],
    size: int,
    batch_size: int,
    *,
    hashes: Sequence[str] | NDArray[np.str_] | None = None,
    path: PixelPath = IN_FULL,
    threads: int | None = None,
) -> Iterator[Batch]:
    """Decode `rows` and resize them to `size` along `path`, `batch_size` at a time, in order.

    `read` gives the bytes or the pixels of a row and is called from several threads; its OSErrors make an
    unreadable row, anything else is a bug and passes. `hashes` (N,), indexed by row number, holds the content
    hash of each image when it was indexed: a row whose content is another now is not read (status CHANGED).
    Memory is bounded by the batches being decoded, two or as many as have `PICTURES_AHEAD` for every thread,
    and the one in the caller's hands. Closing the generator stops the threads before it returns.
    """
    workers = threads or usable_cpus()
    job = _Job(read, size, path, hashes)
    # Small tasks keep every thread busy to the end of a batch; one an image would cost more than a thumbnail.
    step = max(1, min(8, batch_size // workers))
    starts = iter(range(0, len(rows), batch_size))
    pending: deque[tuple[Batch, list[Future[_Outcome]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def submit() -> None:
        start = next(starts, None)
        if start is None:
            return
        part = np.asarray(rows[start : start + batch_size], dtype=np.intp)
        batch = Batch(part, np.zeros((batch_size, size, size, 3), np.uint8))
        slices = [slice(first, first + step) for first in range(0, len(part), step)]
        pending.append((batch, [pool.submit(job.fill, part[s], batch.pixels[s]) for s in slices]))

    try:
        for _ in range(max(2, -(-PICTURES_AHEAD * workers // batch_size))):
            submit()
        while pending:
            batch, tasks = pending.popleft()
            for task in tasks:
                problems, turned = task.result()
                batch.problems.update(problems)
                batch.turned_rows += turned
            submit()
            yield batch
    finally:
        job.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_Outcome = tuple[dict[int, Problem], list[int]]


@dataclass
class _Job:
    read: Callable[[int], RawImage]
    size: int
    path: PixelPath
    hashes: Sequence[str] | NDArray[np.str_] | None
    stop: Event = field(default_factory=Event)

    def fill(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> _Outcome:
        """Decode `rows` into `out` (len(rows), S, S, 3); what went wrong and which were turned."""
        problems: dict[int, Problem] = {}
        turned: list[int] = []
        for place, row in enumerate(rows.tolist()):
            if self.stop.is_set():
                break
            try:
                out[place], asks_turn = decode_to(self._checked(row), self.size, self.path)
                if asks_turn:
                    turned.append(row)
            except ImageError as error:
                problems[row] = (error.status, error.reason)
            except OSError as error:
                status = Status.TOO_LARGE if error.errno == errno.EFBIG else Status.MISSING
                problems[row] = (status, error.strerror or str(error) or MEANING[status])
        return problems, turned

    def _checked(self, row: int) -> RawImage:
        raw = self.read(row)
        if self.hashes is not None and content_hash(raw) != self.hashes[row]:
            raise ImageError(Status.CHANGED, MEANING[Status.CHANGED])
        return raw
