"""Ctrl-C and SIGTERM at any moment: one line, 130 or 143, nothing lost, nothing left running."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def start(home: Path, *words: str, python: tuple[str, ...] = ("-m", "probe")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *python, "--home", str(home), *words],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stop_in(module: str, number: int, *, swallowed: bool = False) -> tuple[str, ...]:
    """Python that sends itself a signal when it comes to import `module`, and may lose the exception."""
    code = f"""
import os, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), {int(number)})
            except BaseException:
                if not {swallowed}:
                    raise
sys.meta_path.insert(0, Stop())
from probe.__main__ import main
main()
"""
    return ("-c", code)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    "module", ["click", "probe.commands.console", "probe.commands.extract", "numpy", "PIL"]
)
def test_a_signal_while_importing(tmp_path: Path, module: str, number: signal.Signals) -> None:
    done = start(
        tmp_path, "extract", "--backbone", "pixels", "fashion-sample", python=stop_in(module, number)
    )
    _, errors = done.communicate(timeout=60)
    assert done.returncode == CODES[number], errors
    lines = [line for line in errors.splitlines() if line]
    assert lines[-1] == "probe: interrupted: what was finished is kept, the same command goes on from there"
    assert "Traceback" not in errors


@pytest.mark.parametrize("module", ["click", "numpy"])
def test_a_signal_while_importing_in_json(tmp_path: Path, module: str) -> None:
    done = start(tmp_path, "stores", "ls", "--json", python=stop_in(module, signal.SIGTERM))
    _, errors = done.communicate(timeout=60)
    assert json.loads(errors.splitlines()[-1])["error"]["exit_code"] == done.returncode == 143


@pytest.mark.parametrize("number", CODES)
def test_a_signal_that_a_library_swallows_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    words = ("extract", "--backbone", "pixels", "fashion-sample")
    done = start(tmp_path, *words, python=stop_in("probe.images", number, swallowed=True))
    _, errors = done.communicate(timeout=60)
    assert done.returncode == CODES[number], errors
    assert "Traceback" not in errors


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes of the same session, without the one that was started."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split() if int(pid) != process.pid]


def wait_for_workers(process: subprocess.Popen[str], count: int) -> None:
    while len(workers_of(process)) < count:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.0, 1.0])
def test_workers_end_with_what_started_them(
    pictures: Path, tmp_path: Path, number: signal.Signals, after: float
) -> None:
    process = start(
        tmp_path, "extract", "--backbone", "pixels", "--size", "300", "--jobs", "2", str(pictures)
    )
    wait_for_workers(process, 2)
    time.sleep(after)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends it to all
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == CODES.get(number, -number), errors
    # A worker that is killed with its parent while it starts says so itself.
    assert number == signal.SIGKILL or "Traceback" not in errors
    while workers_of(process):  # the system ends those of a process that was killed
        time.sleep(0.02)


@pytest.mark.parametrize("start", ["process_pool", "joblib_workers"])
def test_workers_never_hear_of_ctrl_c(start: str) -> None:
    ask = {
        "process_pool": "masks = [started.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result()]",
        "joblib_workers": "masks = Parallel()([delayed(signal.pthread_sigmask)(signal.SIG_BLOCK, ())] * 2)",
    }
    code = f"""
import signal
from joblib import Parallel, delayed
from probe.workers import {start}
with {start}(2) as started:
    {ask[start]}
assert all(signal.SIGINT in mask for mask in masks), masks
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work for some seconds: one picture of noise under many names and a few bytes more each."""
    root = tmp_path_factory.mktemp("pictures") / "pictures"
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (500, 500, 3), np.uint8)).save(stream, "png", compress_level=1)
    for number in range(400):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(stream.getvalue() + bytes([number % 256, number // 256]))
    return root


@pytest.mark.parametrize("number", list(CODES))
def test_a_signal_while_python_is_taken_down_changes_no_exit_code(number: signal.Signals) -> None:
    late = f"""
from probe.signals import leave_at_once, leave_in_silence
leave_at_once()
import os, sys
class Late:
    def __del__(self, kill=os.kill, me=os.getpid()):
        kill(me, {int(number)})
late = Late()
leave_in_silence()
sys.exit(3)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", late], capture_output=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (3, b"")


def test_a_terminal_that_is_closed_ends_work_and_workers(pictures: Path, tmp_path: Path) -> None:
    words = ("extract", "--backbone", "pixels", "--size", "300", "--jobs", "2", str(pictures))
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, "--home", str(tmp_path / "home"), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    wait_for_workers(process, 2)
    os.close(ours)
    assert process.wait(60) == 129
    while workers_of(process):
        time.sleep(0.02)


IN_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from probe.__main__ import main
main()
"""
"""The program as a shell's window starts it: its terminal tells it when it is closed."""
