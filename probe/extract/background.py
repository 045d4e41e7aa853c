"""A store writer in a thread of its own, so that fsync never keeps the network waiting."""

from __future__ import annotations

import queue
import threading

from probe.extract.compute import UnitContent
from probe.store import StoreWriter

QUEUED_UNITS = 2
"""Units waiting for the disk; with the one being filled and the one being written, the memory bound."""


class BackgroundWriter:
    """Writes units in the order they are put. The first error stops it and is raised at the next call."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._queue: queue.Queue[UnitContent | None] = queue.Queue(QUEUED_UNITS)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        """Finish what is queued, also when the caller failed: a computed unit is worth keeping."""
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, content: UnitContent) -> None:
        """Queue a unit; waits while `QUEUED_UNITS` are before it."""
        self._raise()
        self._queue.put(content)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (content := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._writer.write_unit(
                        content.unit, content.arrays, content.unreadable, content.turned, content.rounding
                    )
                except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                    self._error = error
