"""Start-up: CPU time and wall time of ``probe --help`` and of other commands that need no network.

And the way to the first batch of a network: ``probe extract`` of one batch of pictures, the first and the
second time in a home.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results
from bench.weights import write_weights

BATCH = 32
NETWORKS = ("resnet50", "nasnetmobile", "efficientnet-lite0")
LINES = ("--help", "stores ls", "fit logreg --help", "extract --help")


def main(quick: bool = False) -> None:
    facts = machine()
    rows = [_measure(line, 5 if quick else 15) for line in LINES]
    print_table("start-up (medians, seconds)", rows)
    firsts = [_first_batch(name, 1 if quick else 5) for name in NETWORKS]
    print_table("from the command to a sealed store of one batch (medians, seconds)", firsts)
    write_results("startup", [*rows, *firsts], facts)


def _measure(line: str, rounds: int) -> dict[str, Any]:
    cpu, wall = [], []
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PROBE_HOME": home}
        for _ in range(rounds + 1):
            before, began = os.times(), time.perf_counter()
            command = [sys.executable, "-m", "probe", *line.split()]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            wall.append(time.perf_counter() - began)
            after = os.times()
            cpu.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
    return {
        "command": f"probe {line}",
        "cpu_s": round(statistics.median(cpu[1:]), 3),
        "wall_s": round(statistics.median(wall[1:]), 3),
    }


def _first_batch(name: str, rounds: int) -> dict[str, Any]:
    first, second = [], []
    with tempfile.TemporaryDirectory() as folder:
        weights, pictures = write_weights(name, Path(folder)), Path(folder) / "pictures.npz"
        pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
        np.savez(pictures, train_images=pixels, train_labels=np.arange(BATCH) % 2)
        for number in range(rounds):
            home = Path(folder) / f"home{number}"
            line = ["extract", "--backbone", name, "--weights", str(weights), str(pictures), "--quiet"]
            command = [sys.executable, "-m", "probe", "--home", str(home), *line]
            for seconds in (first, second):
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds.append(time.perf_counter() - began)
                shutil.rmtree(home / "stores")
            shutil.rmtree(home)
    return {
        "command": f"probe extract --backbone {name}",
        "first_s": round(statistics.median(first), 2),
        "second_s": round(statistics.median(second), 2),
    }
