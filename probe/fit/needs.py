"""Whether a fit keeps to the memory it may have: with its features there, without them, or not at all.

Counted is what grows with rows, columns and classes. The interpreter, the libraries, blocks of rows and small
networks are the base that any fit takes (`probe.heads.head.BASE_BYTES`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from probe.errors import FitOptionError
from probe.heads import HEADS
from probe.heads.head import FitSize, HeadRow

HANDED_OVER = 3
"""Times the features of a draw are there where it is fitted in another process."""
HELPS = 0.75
"""A smaller fit that needs no more than this share is worth being told of."""


@dataclass(frozen=True)
class Room:
    """Whether features can be in memory, and whether the fit has what makes it faster (`Samples.spare`)."""

    in_memory: bool
    spare: bool


@dataclass(frozen=True)
class Need:
    """What is to be fitted.

    Attributes
    ----------
    options : of the head; None for its defaults.
    curve : whether draws of the training rows are fitted as well, beside the features of all.
    """

    head: HeadRow
    options: Any = None
    curve: bool = False

    def room(self, size: FitSize, features: int, memory: int, index: int = 0) -> Room:
        """What there is room for: `features` bytes of them, beside `index` bytes of who the rows are.

        FitOptionError where not even a fit that streams them keeps to `memory` bytes.
        """
        needed = dict(zip((True, False), self._bytes(size, features, index), strict=True))
        # Looking at rows faster saves more than not reading them.
        for spare in (True, False):
            for in_memory in (True, False):
                more = self.head.spare_bytes(size, self.options, in_memory=in_memory) if spare else 0
                if needed[in_memory] + more <= memory:
                    return Room(in_memory, spare)
        raise self._too_much(size, features, memory, index)

    def _bytes(self, size: FitSize, features: int, index: int) -> tuple[int, int]:
        """What a fit takes with its features in memory, and without them."""
        streamed = self.head.held_bytes(size, self.options, in_memory=False)
        there = features + self.head.held_bytes(size, self.options, in_memory=True)
        if self.curve:
            # The head is kept meanwhile, and a draw may have to be streamed past features that are in memory.
            there, streamed = there + streamed, 2 * streamed
        return index + there, index + streamed

    def _too_much(self, size: FitSize, features: int, memory: int, index: int) -> FitOptionError:
        """The error that says what a fit needs, and what would need less."""
        needed = min(self._bytes(size, features, index))
        less = {text: min(smaller) for text, smaller in self._smaller(size, features, index)}
        least = min(less.values())
        helpful = [text for text, smaller in less.items() if smaller <= max(HELPS * needed, least)]
        logreg = replace(self, head=HEADS["logreg"], options=None)
        if self.head is not logreg.head and min(logreg._bytes(size, features, index)) <= memory:
            helpful.append("logreg, which streams features")
        return FitOptionError(
            f"{self.head.name} on {size.fitted:,} rows of {size.width:,} values and {size.classes:,} classes"
            " needs more memory than it may have",
            expected=f"--memory {-(-needed // 1_000_000)}MB or more",
            found=f"--memory {memory / 1e6:,.0f}MB",
            hint="use " + ", or ".join(helpful),
        )

    def _smaller(self, size: FitSize, features: int, index: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """What could be asked for in place of this fit, and what it would take (`_bytes`)."""
        half = features // 2
        yield "fewer outputs", self._bytes(replace(size, width=size.width // 2), half, index)
        if size.classes > 2:
            classes = replace(size, classes=max(2, size.classes // 2))
            yield "fewer classes (--drop-small-classes)", self._bytes(classes, features, index)
        if getattr(self.options, "cv", 0):
            alone = replace(self, options=replace(self.options, cv=0))
            yield "no folds (--cv 0)", alone._bytes(size, features, index)
        if self.curve:
            yield "no learning curve", replace(self, curve=False)._bytes(size, features, index)
        rows = replace(size, train=size.train // 2, val=size.val // 2, test=size.test // 2)
        yield "fewer images", self._bytes(rows, half, index // 2)


@dataclass(frozen=True)
class DrawRoom(Room):
    """What there is room for where `at_once` draws are fitted at the same time."""

    at_once: int


def draws_at_once(need: Need, size: FitSize, draw: int, *, free: int, jobs: int) -> DrawRoom:
    """How many draws of `draw` training rows can be fitted at the same time in `free` bytes beside the
    features they are drawn from, and whether with theirs in memory; one that is streamed in any case."""
    small = replace(size, train=draw)
    rows, others = 4 * draw * size.width, 4 * (size.val + size.test) * size.width
    held = need.head.held_bytes(small, need.options, in_memory=True)
    more = need.head.spare_bytes(small, need.options, in_memory=True)
    # To processes joblib hands large arrays over in files that lie in memory, and one more draw is prepared.
    together = (free - others) // (HANDED_OVER * rows + held + more)
    if jobs > 1 and together > 1:
        return DrawRoom(in_memory=True, spare=True, at_once=min(jobs, together))
    if rows + held + more <= free:
        return DrawRoom(in_memory=True, spare=True, at_once=1)
    streamed = need.head.held_bytes(small, need.options, in_memory=False)
    more = need.head.spare_bytes(small, need.options, in_memory=False)
    at_once = max(1, min(jobs, free // max(streamed + more, 1)))
    return DrawRoom(in_memory=False, spare=streamed + more <= free, at_once=at_once)
