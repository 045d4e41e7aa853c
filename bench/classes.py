"""What `probe fit HEAD` costs with ever more classes, as a user starts it.

    python -m bench classes [--quick]

Embeddings of five rows a class (three to train on, one each to choose and to test by) in 64 columns are
imported as a store; then each head's whole command runs in a process of its own with its defaults: start,
features, choice, refit, scores, the run on disk. The table has seconds and the peak of its memory. Results go
to bench/results/classes.json.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results

COUNTS = (10, 100, 1000, 10_000)
HEADS = ("majority", "centroid", "knn", "ridge", "logreg", "dense")
WIDTH, ROWS = 64, 5
TIME_LIMIT_S = 1800


def embeddings(path: Path, classes: int) -> None:
    """Rows around overlapping class centres; the splits by place within the class."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), ROWS)
    centres = generator.standard_normal((classes, WIDTH), dtype=np.float32)
    noise = generator.standard_normal((len(labels), WIDTH), dtype=np.float32)
    splits = np.tile(["train", "train", "train", "val", "test"], classes)
    names = np.array([f"class{label:05}" for label in labels])
    np.savez(path, features=centres[labels] + 0.7 * noise, labels=names, splits=splits)


def command(*arguments: str) -> tuple[float, float, int]:
    """Seconds, peak MB and exit code of one `probe` in a process of its own."""
    began = time.perf_counter()
    program = [sys.executable, "-m", "bench.classes", "--run", *arguments]
    try:
        done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        return time.perf_counter() - began, float("nan"), -1
    seconds = time.perf_counter() - began
    peak = [line for line in done.stderr.splitlines() if line.startswith("peak ")]
    return seconds, float(peak[-1].split()[1]) if peak else float("nan"), done.returncode


def main(quick: bool = False) -> None:
    facts = machine()
    rows: list[dict[str, Any]] = []
    for classes in COUNTS[:3] if quick else COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            file, home = Path(folder) / "set.npz", str(Path(folder) / "home")
            embeddings(file, classes)
            seconds, peak, code = command("--home", home, "stores", "import", str(file))
            rows.append(_row(classes, "stores import", seconds, peak, code))
            for head in HEADS:
                seconds, peak, code = command("--home", home, "fit", head, "--quiet")
                rows.append(_row(classes, f"fit {head}", seconds, peak, code))
    print_table("whole commands with many classes", rows)
    write_results("classes", rows, facts | {"quick": quick})


def _row(classes: int, name: str, seconds: float, peak: float, code: int) -> dict[str, Any]:
    row = {"classes": classes, "command": name, "seconds": seconds, "peak_mb": peak, "exit": code}
    print(f"{classes:6} {name:14} {seconds:8.1f} s {peak:8.0f} MB  exit {code}", flush=True)
    return row


def _run(arguments: list[str]) -> int:
    """The program, and what it took of memory on the last line of stderr."""
    from probe.cli import run

    try:
        return run(arguments)
    finally:
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        sys.exit(_run(sys.argv[2:]))
    main(quick="--quick" in sys.argv[1:])
