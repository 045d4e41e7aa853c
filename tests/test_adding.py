"""``docs/adding.md``: what it adds to a copy of the package works there, and is as long as it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import probe
from tests.shell import PROJECT

PAGE = (PROJECT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROW = "a row of "

SESSION = """
import contextlib, io, json, sys
from probe.signals import interrupt_work
interrupt_work()  # as `python -m probe` begins
from probe.cli import main
for arguments in json.load(sys.stdin):
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code or 0
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and everything that the page adds to it."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(PROJECT / "probe", root / "probe", ignore=shutil.ignore_patterns("__pycache__"))
    for place, text in BLOCKS:
        path = root / place.removeprefix(ROW)
        if not place.startswith(ROW):
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
            continue
        table = path.read_text(encoding="utf-8")
        # The end of the table of the file, a Registry or a tuple.
        end = table.rfind("\n    ],\n)") if "Registry(" in table else table.rfind("\n)")
        path.write_text(table[: end + 1] + text.rstrip() + "," + table[end:], encoding="utf-8")
    (root / "stamps" / "pictures").mkdir(parents=True)
    noise, lines = np.random.default_rng(0), []
    for number in range(10):
        name = f"{number}.png"
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), np.uint8)).save(root / "stamps" / "pictures" / name)
        lines.append(f"{name} {('blue', 'red')[number % 2]} {'test' if number > 7 else 'train'}")
    (root / "stamps" / "stamps.txt").write_text("\n".join(lines))
    return root


def test_all_four_kinds_are_used_in_one_session(copy: Path) -> None:
    how = ["--weights", "random", "--size", "32", "--precision", "fp32", "--limit", "40", "--quiet", "--json"]
    commands = [
        ["data", "check", "ten-stamps", "--from", "stamps"],
        ["extract", "--backbone", "pixels", "--size", "4", "--limit", "400", "--quiet", "fashion-sample"],
        ["fit", "lda", "--shrinkage", "0.3", "--json", "--quiet"],
        ["fit", "lda", "--shrinkage", "2"],
        ["fit", "lda", "--help"],
        [
            "extract",
            "--backbone",
            "vgg19",
            "--outputs",
            "block2",
            "--engine",
            "eager",
            *how,
            "fashion-sample",
        ],
    ]
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        input=json.dumps(commands),
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PROBE_HOME": str(copy / "home"), "PATH": "", "HOME": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _ in answers] == [0, 0, 0, 2, 0, 0], done.stdout
    checked, _, fitted, refused, helped, eager = (said for _, said in answers)
    assert "differs" not in checked
    assert json.loads(fitted)["test"]["accuracy"] > 0.3
    assert "shrinkage is a share" in refused
    assert "share of the identity in the covariance" in helped
    store = probe.Workspace(copy / "home", quiet=True).stores[json.loads(eager)["store"]]
    assert store.manifest.spec["backbone"]["engine"] == "eager"
    features, _ = store.arrays()
    assert features.shape == (40, 128)
    assert features.std(axis=0).max() > 0


def test_it_is_as_long_as_the_page_says() -> None:
    lines = {place: text.count("\n") for place, text in BLOCKS}
    for kind, table, file in (
        ("backbone", "probe/backbones/table.py", ""),
        ("data set", "probe/datasets/catalog.py", "probe/datasets/stamps.py"),
        ("head", "probe/heads/__init__.py", "probe/heads/lda.py"),
        ("engine", "probe/backbones/engines.py", "probe/backbones/engine_eager.py"),
    ):
        said = f"{lines[ROW + table]}" + (f" + {lines[file]}" if file else "")
        (row,) = re.findall(rf"^\| {kind} \| `{re.escape(table)}` \|.*\| (.*) lines \|$", PAGE, re.MULTILINE)
        assert row == said, kind
