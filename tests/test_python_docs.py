"""What the documentation shows in Python works, in the order in which it is shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.shell import PHOTOS, PROJECT

PAGE, SCRIPT = PROJECT / "docs" / "python.md", PROJECT / "docs" / "first_steps.py"


def run(folder: Path, *arguments: object) -> str:
    """The output of a fresh Python in `folder`, which knows the package and nothing of this process."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "HOME": str(folder), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_every_block_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    shutil.copytree(PHOTOS, tmp_path / "photos")
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    said = run(tmp_path, "page.py")
    assert "95 % interval" in said
    assert "expected: a whole number or None" in said
    assert (tmp_path / "small-with-head.keras").is_file()
    assert (tmp_path / "survey.svg").is_file()
    assert len(list((tmp_path / "data" / "runs").iterdir())) == 7


def test_the_first_steps_lead_somewhere(tmp_path: Path) -> None:
    said = run(tmp_path, SCRIPT, tmp_path / "home")
    assert re.search(r"test accuracy 0\.[67]\d\d, 95 % interval", said)
    assert "is better than" in said
    assert "shots 5" in said
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 3


def test_the_readme_leads_to_both() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert "docs/python.md" in text
    assert "docs/first_steps.py" in text
