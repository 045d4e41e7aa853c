"""Named places at which a test ends or fails this process: ``PROBE_FAILPOINT=NAME[:N][:HOW]``.

The N-th time (1) that the place is reached the process is killed (HOW ``kill``, the default), asked to end
(``term``, ``int``), or told that the disk is full or broken (``enospc``, ``eio``). Without the variable a
place costs one comparison.
"""

from __future__ import annotations

import errno
import os
import signal

VARIABLE = "PROBE_FAILPOINT"
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}

_armed: list[str | int] = []
"""Name, how often it has still to be reached, and what happens then; empty where nothing shall."""


def arm(text: str) -> None:
    """Make what ``NAME[:N][:HOW]`` says happen in this process; nothing for an empty text.

    ValueError for another spelling.
    """
    name, *rest = text.split(":")
    number = int(rest.pop(0)) if rest and rest[0].isdecimal() else 1
    how = rest.pop(0) if rest else "kill"
    if rest or how not in (*SIGNALS, *ERRORS):
        raise ValueError(f"{VARIABLE}={text} is not NAME[:N][:HOW]")
    _armed[:] = [name, number, how] if name else []


def is_armed() -> bool:
    """Whether a place is still to be reached at which something happens."""
    return bool(_armed)


def reach(name: str) -> None:
    """Say that a place is reached. OSError where it is one that fails."""
    if not _armed or _armed[0] != name:
        return
    _armed[1] = int(_armed[1]) - 1
    if _armed[1]:
        return
    how = str(_armed[2])
    _armed.clear()
    if how in SIGNALS:
        os.kill(os.getpid(), SIGNALS[how])
        return
    raise OSError(ERRORS[how], os.strerror(ERRORS[how]), name)


arm(os.environ.get(VARIABLE, ""))
