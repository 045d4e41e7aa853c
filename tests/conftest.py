"""What every test may use: a home of its own, and small real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.config import Home
from tests.shell import Shell


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
