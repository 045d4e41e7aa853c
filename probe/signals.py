"""Ctrl-C, SIGTERM and a terminal that is closed: one line, an exit code, and what was finished is kept.

Nothing large is imported here: the program listens before it imports anything else.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

INTERRUPTED = "interrupted: what was finished is kept, the same command goes on from there"
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_HUNG_UP = 128 + signal.SIGHUP
EXIT_UNHEARD = 128 + signal.SIGPIPE
JSON_FLAG = "--json"
HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end work."""
PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""

_came: type[KeyboardInterrupt] | None = None
_holds = False
_ours = False


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; work ends on it in the way it ends on Ctrl-C."""


class HungUp(KeyboardInterrupt):
    """SIGHUP has come: the terminal was closed, and what is said reaches nobody any more."""


_MEANT: Mapping[int, type[KeyboardInterrupt]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}


def exit_code(stop: BaseException) -> int:
    """130, 143 or 129, by what stopped the work or caused it to be stopped."""
    for cause in (stop, stop.__cause__):
        if isinstance(cause, Terminated | HungUp):
            return EXIT_TERMINATED if isinstance(cause, Terminated) else EXIT_HUNG_UP
    return EXIT_INTERRUPTED


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, also one that cannot be read further."""
    words = list(arguments)
    return JSON_FLAG in (words[: words.index("--")] if "--" in words else words)


def leave_at_once() -> None:
    """From here on a signal says so and ends the process: before there is work, and after it."""
    # The first that is registered is called last: what Python and libraries take down after it would be ended
    # by the signal itself, and not with the code of what was done.
    atexit.register(_ignore)
    for number in HEARD:
        _set(number, _leave)


def leave_in_silence() -> None:
    """From here on a signal ends the process: what there was to say has been said."""
    for number in HEARD:
        _set(number, lambda number, frame: os._exit(128 + number))
    sys.unraisablehook = _drop


def interrupt_work() -> None:
    """From here on a signal is an exception, so that work can put its things in order.

    Python drops exceptions in callbacks of its own, such as those of imports, and some libraries catch them
    all: the first are sent once more, the others found by `check`. Only who owns the process may ask for it.
    """
    global _ours
    _ours = True
    for number in HEARD:
        _set(number, _interrupt)
    sys.unraisablehook = _send_again


def is_ours() -> bool:
    """Whether this process was started by and for this program; a notebook that imports it is none."""
    return _ours


@contextmanager
def held() -> Iterator[None]:
    """A signal in here is answered at the end; processes that are started in here never hear of Ctrl-C
    or of a terminal that is closed."""
    global _holds
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    # Another thread may receive it, and Python would then run the handler in this one.
    _holds = True
    try:
        yield
    finally:
        _holds = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    check()


def end_with(parent: int) -> None:
    """In a worker: end when the process that started it does, however that ends; on Linux."""
    global _ours
    _ours = True
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it could be asked for
        os._exit(EXIT_TERMINATED)


def check() -> None:
    """Raise the exception of a signal once more, where a library has swallowed it; asked at every step."""
    if _came is not None and threading.current_thread() is threading.main_thread():
        raise _came


def _ignore() -> None:
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)


def _set(number: signal.Signals, handler: Any) -> None:
    # What was started to ignore a signal (nohup, a job in the background) goes on ignoring it.
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    global _came
    _leave_closed_terminal()
    _came = _MEANT[number]
    if not _holds:
        raise _came


def _leave(number: int, frame: Any) -> None:
    error = {
        "type": "Interrupted",
        "problem": INTERRUPTED,
        "expected": None,
        "found": None,
        "hint": None,
        "exit_code": 128 + number,
    }
    line = json.dumps({"error": error}) if wants_json(sys.argv[1:]) else f"probe: {INTERRUPTED}"
    _leave_closed_terminal()
    os.write(2, f"{line}\n".encode())
    os._exit(128 + number)


def _leave_closed_terminal() -> None:
    """Let what is printed lead nowhere where it went to a terminal that is closed: each write would fail."""
    for number in (1, 2):
        poll = select.poll()
        poll.register(number, 0)
        if any(events & select.POLLHUP for _, events in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def _drop(dropped: Any) -> None:
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)


def _send_again(dropped: Any) -> None:
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        return sys.__unraisablehook__(dropped)
    os.kill(os.getpid(), exit_code(dropped.exc_type()) - 128)
