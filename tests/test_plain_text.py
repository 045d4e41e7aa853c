"""Names are text from outside: they steer no terminal and are no formulas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.plain import cell, lines, one_line

from .shell import Shell

ANSI, BROKEN, FORMULA = "\x1b[31mred", "two\nlines", "=1+1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 😀 a b", "café 😀 a b"),
        (ANSI, "\\x1b[31mred"),
        (BROKEN, "two\\nlines"),
        ("a\rb\tc\x00\x9b", "a\\rb\\tc\\x00\\x9b"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("cat\u200b \ufeffcat \U000e0041", "cat\\u200b \\ufeffcat \\U000e0041"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_lines_stay_lines() -> None:
    assert lines(f"{ANSI}\nb\n") == "\\x1b[31mred\nb\n"


def test_only_text_that_would_be_a_formula_changes_in_a_cell() -> None:
    for text in (FORMULA, "+1", "-1", "@sum", "\t=1", "\r=1", "＝1+1"):
        assert cell(text) == f"'{text}"
    for value in ("a=1", "", "cats", -0.5, 3, None):
        assert cell(value) == value


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number, name in enumerate((ANSI, BROKEN, FORMULA)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 60, (8, 8, 3)) + 60 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_class_names_steer_no_terminal_and_are_no_formulas(photos: Path, shell: Shell) -> None:
    said = shell("extract", "--backbone", "pixels", "--size", "8", photos) + shell.error
    calls = [("fit", "knn"), ("runs", "ls"), ("runs", "show", "latest"), ("stores", "ls"), ("stores", "show")]
    for words in (*calls, ("data", "check", photos)):
        said += shell(*words) + shell.error
    assert "\x1b" not in said
    assert not any(line.startswith("lines") for line in said.splitlines())
    assert "\\x1b[31mred" in said
    predicted = shell("predict", "latest", photos / FORMULA / "0.png")
    assert next(csv.DictReader(io.StringIO(predicted)))["class"] == f"'{FORMULA}"


def test_an_error_steers_no_terminal(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / ANSI).mkdir()
    shell("extract", "--backbone", "pixels", tmp_path / ANSI, code=1)
    assert "\x1b" not in shell.error
    (tmp_path / BROKEN).mkdir()
    shell("extract", "--backbone", "pixels", tmp_path / BROKEN, code=1)
    assert "two\\nlines" in shell.error
    shell("extract", "--backbone", "pixels", "--labels", tmp_path / ANSI / ANSI, tmp_path, code=2)
    shell("stores", "show", "--no-such", f"--{ANSI}", code=2)
    assert "\x1b" not in shell.error
