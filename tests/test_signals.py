"""Ctrl-C and SIGTERM at any moment: one line, 130 or 143, nothing lost, nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


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
