"""How far long work has come: a bar on a terminal and in a notebook, plain lines elsewhere, with an estimate.

Elsewhere nothing is written of work that is done within `FIRST_S`, and then a line every `EVERY_S` at most,
also while a single step takes longer than that: a log stays short, and is never silent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from probe import signals
from probe.plain import one_line

FIRST_S, EVERY_S = 3.0, 10.0
"""Seconds of work before the first plain line, and between two of them."""

BEAT_S = 0.5
"""How often the clock of a bar moves, and it is asked whether a plain line is due."""

FALLBACK_SIZE = 80, 24


_past_stderr: int | None = None


@contextmanager
def shown_on(descriptor: int) -> Iterator[None]:
    """Write plain lines to this file descriptor, while that of stderr points elsewhere."""
    global _past_stderr
    before, _past_stderr = _past_stderr, descriptor
    try:
        yield
    finally:
        _past_stderr = before


class Progress:
    """Counts the steps of a piece of work; used as a context manager.

    Parameters
    ----------
    what : what is done, a word or two before the figures.
    total : steps in all, None where nobody can know.
    unit : what a step is: ``img``, ``cells``.
    initial : steps that had been done before; the estimate leaves them out.
    shown : False is silence (``--quiet``).
    in_bytes : the steps are bytes, shown as kB, MB, GB.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "",
        *,
        initial: int = 0,
        shown: bool = True,
        in_bytes: bool = False,
    ) -> None:
        self.n = initial
        self._shown: _Bar | _Lines | None = None
        if shown:
            kind = _Bar if sys.stderr.isatty() or in_notebook() else _Lines
            self._shown = kind(what, total, unit, initial, in_bytes)
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None

    def update(self, steps: int = 1) -> None:
        """`steps` more are done. Raises KeyboardInterrupt where one has come and was lost."""
        signals.check()
        self.n += steps
        if self._shown is not None:
            self._shown.show(self.n)

    def expect(self, steps: int) -> None:
        """`steps` more belong to the work than was known."""
        if self._shown is not None:
            self._shown.expect(steps)

    def __enter__(self) -> Self:
        signals.check()
        if self._shown is not None:
            self._heart = threading.Thread(target=self._beat, daemon=True)
            self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._heart is not None:
            self._heart.join()
        if self._shown is not None:
            self._shown.close(self.n)
        if kind is None:
            signals.check()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            if self._shown is not None:
                self._shown.show(self.n)


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this process: it has a place for bars, although it is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class _Bar:
    def __init__(self, what: str, total: int | None, unit: str, initial: int, in_bytes: bool) -> None:
        if in_notebook():
            # It costs the import of asyncio, which a kernel has imported already.
            from tqdm.auto import tqdm

            known_size = True
        else:
            from tqdm import tqdm

            known_size = all(os.get_terminal_size(sys.stderr.fileno()))
        # One that is gone leaves no line: what remains on the screen are notes and the result.
        self._bar: Any = tqdm(
            desc=what,
            total=total,
            initial=initial,
            unit=unit if in_bytes else f" {unit}".rstrip(),
            unit_scale=in_bytes,
            # Some terminals do not know their size, and tqdm would then draw nothing at all.
            dynamic_ncols=known_size,
            ncols=None if known_size else FALLBACK_SIZE[0],
            nrows=None if known_size else FALLBACK_SIZE[1],
            leave=False,
            file=sys.stderr,
        )
        self._lock = threading.Lock()
        self._drawn = time.monotonic()

    def expect(self, steps: int) -> None:
        with self._lock:
            self._bar.total = (self._bar.total or 0) + steps

    def show(self, n: int) -> None:
        with self._lock:
            self._bar.update(n - self._bar.n)
            if time.monotonic() - self._drawn >= BEAT_S:
                self._drawn = time.monotonic()
                self._bar.refresh()

    def close(self, n: int) -> None:
        self.show(n)
        self._bar.close()


class _Lines:
    def __init__(self, what: str, total: int | None, unit: str, initial: int, in_bytes: bool) -> None:
        self._what, self._total, self._unit, self._in_bytes = what, total, unit, in_bytes
        self._initial = initial
        self._start = time.monotonic()
        self._due = self._start + FIRST_S
        self._lock = threading.Lock()
        self._last: int | None = None

    def expect(self, steps: int) -> None:
        with self._lock:
            self._total = (self._total or 0) + steps

    def show(self, n: int) -> None:
        with self._lock:
            now = time.monotonic()
            if now >= self._due:
                self._due = now + EVERY_S
                self._write(n, now)

    def close(self, n: int) -> None:
        """A last line, where there has been one that does not say it already."""
        with self._lock:
            if self._last not in (None, n):
                self._write(n, time.monotonic())

    def _write(self, n: int, now: float) -> None:
        self._last = n
        figures = describe(
            n, self._total, self._unit, now - self._start, initial=self._initial, in_bytes=self._in_bytes
        )
        line = f"{self._what}: {figures}\n"
        if _past_stderr is not None:
            os.write(_past_stderr, line.encode(sys.stderr.encoding or "utf-8", "backslashreplace"))
            return
        sys.stderr.write(line)
        sys.stderr.flush()


def describe(
    n: int,
    total: int | None,
    unit: str,
    seconds: float,
    *,
    initial: int = 0,
    in_bytes: bool = False,
) -> str:
    """``1,200 of 5,000 img (24 %), 12 s, about 38 s left``; without an estimate before the first step."""
    count = _megabytes if in_bytes else "{:,}".format
    counted = unit if not in_bytes else ""
    parts = []
    if total:
        parts.append(f"{count(n)} of {count(total)} {counted}".rstrip() + f" ({100 * n // total} %)")
    elif n:
        parts.append(f"{count(n)} {counted}".rstrip())
    parts.append(duration(seconds))
    if total and initial < n < total:
        parts.append(f"about {duration(seconds / (n - initial) * (total - n))} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``12 s``, ``3 min 05 s``, ``1 h 02 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def counting(progress: Progress | None) -> Iterator[None]:
    """What `step` counts on in here: this piece of work, or nothing.

    Work deep inside says how far it has come without being handed a bar. In other processes, where parts of
    it may run, `step` counts nothing.
    """
    before = _counted[:]
    _counted[:] = [] if progress is None else [progress]
    try:
        yield
    finally:
        _counted[:] = before


def expect(steps: int) -> None:
    """The work that is counted takes so many more steps, at most where it may end early."""
    with _counting:
        for progress in _counted:
            progress.expect(steps)


def step(steps: int = 1) -> None:
    """So many steps of the work that is counted are done; from any thread."""
    with _counting:
        for progress in _counted:
            progress.update(steps)


_counted: list[Progress] = []
_counting = threading.Lock()


@contextmanager
def above_bars() -> Iterator[None]:
    """Lines that are written to stderr in here stand above the bars, not through them."""
    # Without tqdm there is no bar.
    if "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield


def say(line: str) -> None:
    """A line on stderr, above the bars where there are any; control characters in it are spelt out."""
    with above_bars():
        sys.stderr.write(one_line(line) + "\n")
        sys.stderr.flush()


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"
