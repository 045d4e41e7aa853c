"""What every test may use: a home of its own, and small real images."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from probe.config import Home
from tests.shell import Shell

LONGEST = (
    "test_trainer.py",
    "test_backbone_networks.py",
    "test_studies.py",
    "test_transfer.py",
    "test_heads.py",
    "test_export.py",
    "test_finetune_resume.py",
    "test_finetune.py",
    "test_reproduce.py",
    "test_cli.py",
)
"""Files that take a minute and more, the longest first."""


def pytest_configure() -> None:
    """What tests start takes Ctrl-C, also where they run behind a script's ``&``, which has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


def pytest_collection_finish() -> None:
    """What is imported and collected stays until the end: no search for garbage has to look at it."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files are begun first, so that no core waits for one that was begun last."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was not tested for want of something on this machine is said where nobody can miss it."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason in sorted(
        {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    ):
        terminalreporter.write_line(f"*** NOT TESTED HERE: {reason} ***", red=True, bold=True)


@pytest.fixture(autouse=True)
def no_open_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see what a machine without the open internet sees; servers on this machine answer."""
    send = requests.adapters.HTTPAdapter.send

    def only_here(self: Any, request: Any, **rest: Any) -> Any:
        if urlsplit(request.url).hostname not in ("127.0.0.1", "localhost"):
            raise requests.ConnectionError("the tests keep off the open internet", request=request)
        return send(self, request, **rest)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", only_here)
    # Processes that a test starts find nobody at this port either.
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """A few real photographs, uint8 (H, W, 3)."""
    from skimage import data

    return {"chelsea": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut()}
