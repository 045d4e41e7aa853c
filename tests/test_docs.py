"""Documentation that cannot go stale: the reference is the help, and every command is in it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from probe.cli import COMMANDS

PROJECT = Path(__file__).parents[1]


def test_the_reference_is_what_the_commands_say() -> None:
    script = PROJECT / "docs" / "make_commands.py"
    spec = importlib.util.spec_from_file_location("make_commands", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = (PROJECT / "docs" / "commands.md").read_text(encoding="utf-8")
    # Words, not line breaks: where click wraps a line differs between its versions.
    assert found.split() == module.page().split(), "run: python docs/make_commands.py"
    assert all(f"## `probe {name}" in found for name in COMMANDS)
    # That is no word for a reader: what an option is without a value has to be said.
    assert '[default: ""]' not in found


def test_every_command_the_readme_names_exists() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^\$ )probe ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= {*COMMANDS}, named - {*COMMANDS}
