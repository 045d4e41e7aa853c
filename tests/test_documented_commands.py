"""Every block of the documentation: commands are run over small data, or at least read as ``probe`` does.

What cannot run in a test says so where it stands: a comment with "needs" or "takes", behind a command or as
the first line of its block. Blocks of Python are run too, here or by the test of their page.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.cli import cli, main
from probe.commands.transfer import parse_line
from probe.config import Home
from tests.shell import PROJECT

DOCS = PROJECT / "docs"
SHOWN = [
    PROJECT / "README.md",
    *sorted((DOCS / "tutorials").glob("*.md")),
    DOCS / "survey.md",
    DOCS / "other-programs.md",
]
"""In the order in which they are run, in one folder with one home."""
RUN_ELSEWHERE = {
    "python.md": "test_python_docs",
    "store-format.md": "test_store_format",
    "adding.md": "test_adding",
}
"""Pages without commands, whose blocks other tests run."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = re.compile(r"#.*\b(needs|takes)\b")

SMALL = {
    "PROBE_EXTRACT_LIMIT": "120",
    "PROBE_EXTRACT_SIZE": "32",
    "PROBE_SURVEY_SIZE": "32",
    "PROBE_FIT_DENSE_EPOCHS": "2",
    "PROBE_FIT_LOGREG_C": "0.001,0.01,0.1,1",
}
"""Settings that stand in for patience; what a command itself says goes before them."""


@dataclass(frozen=True)
class Line:
    """A command as it is shown, and whether it is run here."""

    text: str
    runs: bool

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fence."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[Line]:
    """The lines of a block that begin with a ``$``; the others are what they print."""
    first = text.partition("\n")[0]
    nowhere = first.startswith("#") and NOT_HERE.search(first)
    assert first.startswith(("$ ", "# ")), first
    for line in text.splitlines():
        if line.startswith("$ "):
            yield Line(line[2:], not nowhere and not NOT_HERE.search(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands: with a folder ``photos`` of two classes."""
    here = tmp_path_factory.mktemp("reader")
    noise = np.random.default_rng(0)
    for name, shade in (("dark", 60), ("light", 160)):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(noise.normal(shade, 60, (12, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(here / "photos" / name / f"{number}.png")
    return here


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_what_is_shown_works(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    space: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python":
            code = compile(text.replace("EACH = 350", "EACH = 45"), page.name, "exec")
            if not NOT_HERE.match(text):
                exec(code, space)
            continue
        assert language == "console", language
        for line in commands(text):
            _read(line)
            if line.runs and line.words[0] == "probe":
                with pytest.raises(SystemExit) as stop:
                    main(line.words[1:])
                said = capsys.readouterr()
                assert not stop.value.code, f"{line.text}\n{said.out}{said.err}"


def _read(line: Line) -> None:
    """Names of commands and options, and their values as far as they can be read without running anything."""
    first = line.words[0]
    if first == "probe":
        parse_line(cli, " ".join(map(shlex.quote, line.words)), Home(Path("data")))
    elif first == "pip":
        extras = set(",".join(re.findall(r"\[(.*?)\]", line.text)).split(",")) - {""}
        assert extras <= set(re.findall(r"^(\w+) =$", (PROJECT / "setup.cfg").read_text(), re.MULTILINE))
    else:
        assert subprocess.run(["bash", "-n", "-c", line.text]).returncode == 0, line.text


def test_no_block_is_left_out() -> None:
    for page in sorted({PROJECT / "README.md", *DOCS.rglob("*.md")} - {*SHOWN, DOCS / "commands.md"}):
        languages = {language for language, _ in blocks(page)}
        if page.name in RUN_ELSEWHERE:
            assert (PROJECT / "tests" / f"{RUN_ELSEWHERE[page.name]}.py").is_file()
            assert languages <= {"python", "text"}, page
        else:
            # A drawing of folders or rooms is no code.
            assert languages <= {""}, page
