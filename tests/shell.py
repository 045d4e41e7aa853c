"""``probe`` in this process, as the tests of commands use it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from probe.cli import main
from probe.report.findings import TAB

PROJECT = Path(__file__).parents[1]
PHOTOS = PROJECT / "data" / "samples" / "photos"


def unwrapped(lines: Iterable[str]) -> list[str]:
    """Lines with what a narrow terminal has put under them."""
    found: list[str] = []
    for line in lines:
        if line.startswith(" " * TAB) and found:
            found[-1] += " " + line.strip()
        else:
            found.append(line)
    return found


class Shell:
    """Runs ``probe`` with a home of its own; `error` is what the last call said on stderr."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys
        self.error = ""

    def __call__(self, *arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(self.home), *map(str, arguments)])
        captured = self._capsys.readouterr()
        self.error = captured.err
        assert stop.value.code == code, captured.out + captured.err
        assert "Traceback" not in captured.err
        return captured.out

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))
