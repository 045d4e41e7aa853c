"""A home that cannot be written: what is there still answers, and what is lost is said."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from probe.cli import run
from tests.shell import PHOTOS, Shell

EXTRACT = ("extract", "--backbone", "pixels", "--size", 4)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("filled") / "home"
    run(["--home", str(home), *map(str, EXTRACT), "--quiet", str(PHOTOS)])
    return home


@pytest.fixture(params=[errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
def refusing(
    request: pytest.FixtureRequest, filled: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> int:
    """The copied home, in which the system refuses to write: permissions do not bind every user."""
    shutil.copytree(filled, shell.home)
    _refuse(monkeypatch, shell.home, request.param)
    code: int = request.param
    return code


def _refuse(monkeypatch: pytest.MonkeyPatch, home: Path, code: int) -> None:
    make, open_file = Path.mkdir, Path.open

    def inside(path: Path) -> bool:
        return path.resolve().is_relative_to(home.resolve())

    def mkdir(self: Path, *arguments: Any, **rest: Any) -> None:
        if inside(self) and not self.exists():
            raise OSError(code, "refused", str(self))
        make(self, *arguments, **rest)

    def opened(self: Path, mode: str = "r", *arguments: Any, **rest: Any) -> Any:
        if inside(self) and set(mode) & set("wax+"):
            raise OSError(code, "refused", str(self))
        return open_file(self, mode, *arguments, **rest)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "open", opened)


def test_fit_prints_its_figures_and_then_that_the_run_is_not_kept(refusing: int, shell: Shell) -> None:
    assert "accuracy" in shell("fit", "centroid", code=1)
    assert "the run could not be kept" in shell.error
    assert "--home or PROBE_HOME" in shell.error
    assert ("make room" in shell.error) == (refusing == errno.ENOSPC)
    printed = shell("fit", "centroid", "--json", code=1)
    assert json.loads(printed)["test"]["n"] > 0
    assert json.loads(shell.error.splitlines()[-1])["error"]["type"] == "NotKeptError"


def test_a_finished_store_is_reused_unless_it_would_need_other_labels(refusing: int, shell: Shell) -> None:
    if refusing == errno.ENOSPC:
        shell(*EXTRACT, PHOTOS, code=1)
        assert "make room" in shell.error
        return
    assert shell.json(*EXTRACT, PHOTOS)["reused"]
    shell(*EXTRACT, "--split-seed", 3, PHOTOS, code=1)
    assert "cannot write" in shell.error
    assert "make room" not in shell.error
    assert "--home or PROBE_HOME" in shell.error


def test_a_new_store_is_refused_with_the_right_advice(refusing: int, shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", 5, PHOTOS, code=1)
    assert ("make room" in shell.error) == (refusing == errno.ENOSPC)
