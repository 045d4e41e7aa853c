"""What `probe fit HEAD` costs with ever more classes, as a user starts it.

    python -m bench classes [--quick]

Embeddings of five rows a class (three to train on, one each to choose and to test by) in 64 columns are
imported as a store; then each head's whole command runs in a process of its own with its defaults: start,
features, choice, refit, scores, the run on disk. `conv` takes them as maps of 4 × 4 places with 4 channels.
The table has seconds, the processor's seconds (which other work on the machine lengthens less) and the peak
of memory; what takes longer than the limit says so. Results go to bench/results/classes.json.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results

COUNTS = (10, 100, 1000, 10_000)
HEADS = ("majority", "centroid", "knn", "ridge", "logreg", "dense", "conv")
MAP, ROWS = (4, 4, 4), 5
MEMORY = "8GB"
"""Probabilities of 10,000 rows and 10,000 classes, several times over, are more than the default."""
TIME_LIMIT_S = 100
"""So that the whole table takes a quarter of an hour at most."""


def embeddings(path: Path, classes: int) -> None:
    """Rows around overlapping class centres; the splits by place within the class."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), ROWS)
    centres = generator.standard_normal((classes, *MAP), dtype=np.float32)
    noise = generator.standard_normal((len(labels), *MAP), dtype=np.float32)
    splits = np.tile(["train", "train", "train", "val", "test"], classes)
    names = np.array([f"class{label:05}" for label in labels])
    np.savez(path, features=centres[labels] + 0.7 * noise, labels=names, splits=splits)


def command(*arguments: str) -> dict[str, Any]:
    """What one `probe` in a process of its own costs; `exit` says where it ran out of time."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-m", "bench.classes", "--run", *arguments]
    try:
        done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        code, lines = str(done.returncode), done.stderr.splitlines()
    except subprocess.TimeoutExpired:
        code, lines = f"ended at the limit of {TIME_LIMIT_S} s", []
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = [float(line.split()[1]) for line in lines if line.startswith("peak ")]
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": peak[-1] if peak else None,
        "exit": code,
    }


def main(quick: bool = False, counts: Sequence[int] = COUNTS, heads: Sequence[str] = HEADS) -> None:
    facts = machine()
    rows: list[dict[str, Any]] = []
    for classes in counts[:3] if quick else counts:
        with tempfile.TemporaryDirectory() as folder:
            file, home = Path(folder) / "set.npz", str(Path(folder) / "home")
            embeddings(file, classes)
            jobs = {"stores import": ("stores", "import", str(file))}
            jobs |= {f"fit {head}": ("fit", head, "--quiet", "--memory", MEMORY) for head in heads}
            for name, arguments in jobs.items():
                rows.append({"classes": classes, "command": name, **command("--home", home, *arguments)})
                print("  ".join(str(value) for value in rows[-1].values()), flush=True)
                write_results("classes", rows, facts | {"quick": quick})
    print_table("whole commands with many classes", rows)


def _run(arguments: list[str]) -> None:
    """The program, and what it took of memory on the last line of stderr."""
    from probe.cli import main as program

    try:
        program(arguments)
    finally:
        from bench.logreg_jobs import peak_mb

        print(f"peak {peak_mb() or 0}", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        _run(sys.argv[2:])
    main(quick="--quick" in sys.argv[1:])
