"""Whether a fit keeps to the memory it may have: with its features there, without them, or not at all.

Counted is what grows with rows, columns and classes. The interpreter, the libraries, blocks of rows and small
networks are the base that any fit takes (`probe.heads.head.BASE_BYTES`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from probe.errors import FitOptionError
from probe.heads.head import FitSize, HeadRow

HANDED_OVER = 3
"""Times the features of a draw are there where it is fitted in another process."""


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

    def fits(self, size: FitSize, features: int, memory: int, index: int = 0) -> bool:
        """Whether `features` bytes of them can be in memory, beside `index` bytes of who the rows are.

        FitOptionError where not even a fit that streams them keeps to `memory` bytes.
        """
        streamed = self.head.held_bytes(size, self.options, in_memory=False)
        there = features + self.head.held_bytes(size, self.options, in_memory=True)
        if self.curve:
            # The head is kept meanwhile, and a draw may have to be streamed past features that are in memory.
            there, streamed = there + streamed, 2 * streamed
        there, streamed = index + there, index + streamed
        if there <= memory:
            return True
        if streamed > memory:
            raise too_much(self.head, size, min(there, streamed), memory)
        return False


def too_much(head: HeadRow, size: FitSize, needed: int, memory: int) -> FitOptionError:
    """The error that says what a fit needs."""
    others = "" if head.name == "logreg" else ", or fit logreg, which streams features"
    return FitOptionError(
        f"{head.name} on {size.fitted:,} rows of {size.width:,} values needs more memory than it may have",
        expected=f"--memory {-(-needed // 1_000_000)}MB or more",
        found=f"--memory {memory / 1e6:,.0f}MB",
        hint=f"use fewer outputs{others}",
    )


def draws_at_once(need: Need, size: FitSize, draw: int, *, free: int, jobs: int) -> tuple[int, bool]:
    """How many draws of `draw` training rows can be fitted at the same time in `free` bytes beside the
    features they are drawn from, and whether with theirs in memory; one that is streamed in any case."""
    small = replace(size, train=draw)
    rows, others = 4 * draw * size.width, 4 * (size.val + size.test) * size.width
    held = need.head.held_bytes(small, need.options, in_memory=True)
    # To processes joblib hands large arrays over in files that lie in memory, and one more draw is prepared.
    together = (free - others) // (HANDED_OVER * rows + held)
    if jobs > 1 and together > 1:
        return min(jobs, together), True
    if rows + held <= free:
        return 1, True
    streamed = need.head.held_bytes(small, need.options, in_memory=False)
    return max(1, min(jobs, free // max(streamed, 1))), False
