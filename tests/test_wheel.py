"""What is installed from a wheel works without a checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.shell import PROJECT

SESSION = """
import contextlib, io, json, sys
from probe.signals import interrupt_work
interrupt_work()  # as `python -m probe` begins
from probe.cli import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main(arguments)
        except SystemExit as stop:
            assert not stop.code, arguments
    assert said.getvalue(), arguments
"""


def test_the_demo_runs_from_a_wheel_outside_of_a_checkout(tmp_path: Path) -> None:
    """The lines of ``make demo``, of fewer and smaller images."""
    source, empty = tmp_path / "source", tmp_path / "empty"
    shutil.copytree(PROJECT / "probe", source / "probe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("probe-*.whl")
    assert "probe/py.typed" in zipfile.ZipFile(wheel).namelist()
    installed = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--no-compile", "--target", installed, wheel], check=True)
    shutil.rmtree(source)
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed), "PROBE_HOME": str(tmp_path / "home")}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=empty, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python("-c", "import probe; print(probe.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    lines = re.findall(r"^\t\$\(BIN\)/python -m probe (.*)$", makefile, re.MULTILINE)
    assert len(lines) == 10
    (empty / "data").mkdir()
    first, *others = [line.partition(" > ")[0].split() for line in lines]
    for words in (first, *others):
        words += ["--limit", "200", "--size", "32"] if words[0] in ("extract", "survey") else []
    assert python("-m", "probe", *first)
    # TensorFlow starts once for all that need it.
    python("-c", SESSION, json.dumps(others))
