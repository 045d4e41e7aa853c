"""Processes that answer one question each and live no longer than the one that asked.

What a process has allocated is given back whole when it ends; a question and its answer are JSON. A child
listens to its standard input: when that ends, whatever the reason, it ends too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from probe.errors import ProbeError
from probe.signals import EXIT_TERMINATED, exit_code, interrupt_work

GRACE_S = 15.0
"""How long an interrupted child may put its things in order."""
QUOTED = 3
"""Last lines of a child that ended without an answer that are quoted."""


class ChildError(ProbeError):
    """A process ended without an answer."""


class Children:
    """The processes that are running; they are ended with the ``with`` block.

    Threads may ask side by side, each a child of its own.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._over = False

    def ask(
        self,
        module: str,
        question: Mapping[str, Any],
        *,
        say: Callable[[str], None],
    ) -> Any:
        """What ``python -m module`` answers, see `answer_one`.

        Parameters
        ----------
        say : takes every line that the child writes to stderr.

        ChildError when it ends without an answer, or when the block is over.
        """
        process = self._start(module)
        try:
            return _converse(process, question, say)
        finally:
            with self._lock:
                self._running.discard(process)
            _end(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        with self._lock:
            if self._over:
                raise ChildError("nothing is started any more")
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=_environment(),
                # Ctrl-C reaches the asking process alone, which ends its children itself.
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            _end(process)


def answer_one(answer: Callable[[Any], Any]) -> None:
    """What a child does: read the question, write ``answer(question)``, and end when the asking one does.

    What is printed on the way goes to stderr: stdout is for the answer.
    """
    answers = os.dup(1)
    os.dup2(2, 1)
    interrupt_work()
    try:
        question = json.loads(_first_line())
        threading.Thread(target=_end_with_input, daemon=True).start()
        told = json.dumps(answer(question)).encode()
    except KeyboardInterrupt as stop:
        sys.exit(exit_code(stop))
    with os.fdopen(answers, "wb") as stream:
        stream.write(told)


def _converse(
    process: subprocess.Popen[bytes], question: Mapping[str, Any], say: Callable[[str], None]
) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    answered: list[bytes] = []
    stdout = process.stdout
    reader = threading.Thread(target=lambda: answered.append(stdout.read()), daemon=True)
    reader.start()
    last: deque[str] = deque(maxlen=QUOTED)
    with suppress(BrokenPipeError):  # It has ended already: what it said is read below.
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
    for line in process.stderr:
        last.append(line.decode(errors="replace").rstrip())
        say(last[-1])
    code = process.wait()
    reader.join()
    if code or not answered[0]:
        raise ChildError(_ending(code), found=" / ".join(last) or None)
    return json.loads(answered[0])


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the child's input, which ends it, and wait; a child that does not end is killed."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # A question that a child has not read is of no use any more.
            process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Ours, with this package found where it is here."""
    here = str(Path(__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _first_line() -> bytes:
    # Past Python's buffer, which a thread that waits for the end of the input would hold until the very end.
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(0, 1 << 16)
        if not byte:
            break
        found += byte
    return found


def _end_with_input() -> None:
    while os.read(0, 1 << 16):
        continue
    # Not SIGINT, which what is started in the background ignores.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(EXIT_TERMINATED)
