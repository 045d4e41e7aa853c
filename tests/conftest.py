"""What every test may use: a home of its own, and small real images."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from probe.config import Home
from probe.registry import load_object
from tests.shell import Shell

LONGEST = (
    "test_interrupted.py",
    "test_heads.py",
    "test_backbone_networks.py",
    "test_hub.py",
    "test_trainer.py",
    "test_signals.py",
    "test_export.py",
    "test_documented_commands.py",
    "test_finetune.py",
    "test_studies.py",
    "test_finetune_resume.py",
    "test_fusing.py",
    "test_copied_rows.py",
    "test_scale.py",
    "test_gpu.py",
    "test_transfer.py",
    "test_reproduce.py",
    "test_convergence.py",
    "test_python_docs.py",
    "test_sweep.py",
    "test_settings.py",
    "test_finetune_start.py",
    "test_exact_heads.py",
    "test_plots.py",
    "test_trained_network.py",
    "test_damage.py",
    "test_wheel.py",
    "test_finetune_command.py",
    "test_finetune_recompute.py",
    "test_finetune_plan.py",
    "test_openvino.py",
    "test_audit.py",
    "test_durable.py",
    "test_engine_versions.py",
    "test_bounds.py",
    "test_fit.py",
    "test_report.py",
    "test_survey.py",
)
"""Files that take a hundredth of the time and more, the longest first."""


def pytest_configure() -> None:
    """What tests start takes Ctrl-C, also where they run behind a script's ``&``, which has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


def pytest_collection_finish() -> None:
    """What is imported and collected stays until the end: no search for garbage has to look at it.

    And there are fewer searches: networks are made of many objects, and are looked at in each.
    """
    gc.freeze()
    gc.set_threshold(10 * gc.get_threshold()[0], *gc.get_threshold()[1:])
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


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What would be lost with the power is asked where the power is cut: in processes, and by `test_durable`.

    In all other tests nobody can tell whether the disk has been waited for.
    """
    with pytest.MonkeyPatch.context() as patch:
        # As the real call it refuses what is no open file.
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(scope="module", autouse=True)
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A network that is computed in many homes is built once, for all processes that run tests.

    Its graph is known by all that decides it, and believed by its hash, wherever it lies.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        for engine in ("graph_cache", "engine_openvino"):
            patch.setattr(f"probe.backbones.{engine}.FOLDER", str(shared / engine))
        yield


@pytest.fixture
def rows_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments of a study run in this process, which has TensorFlow; those of `test_reproduce` do not."""

    def ask(self: Any, module: str, question: Any, *, say: Any) -> Any:
        answer = load_object(f"{module}:answer")(json.loads(json.dumps(question)))
        return json.loads(json.dumps(answer))

    monkeypatch.setattr("probe.children.Children.ask", ask)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network that is tuned within seconds, and of pictures for it."""
    from tests.tiny_tuning import write_material

    return write_material(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with what most fine-tunings of it extract first: the embeddings, and what crosses two cuts."""
    from tests.tiny_tuning import extract_tiny

    return extract_tiny(tiny, Home(tmp_path_factory.mktemp("tiny") / "home"))


@pytest.fixture
def begun(tiny_home: Path, tmp_path: Path) -> Home:
    """A home of one's own that begins as `tiny_home`."""
    return Home(Path(shutil.copytree(tiny_home, tmp_path / "begun")))


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """A few real photographs, uint8 (H, W, 3)."""
    from skimage import data

    return {"chelsea": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut()}
