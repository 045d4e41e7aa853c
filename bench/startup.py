"""CPU time and wall time of ``probe --help`` and of other commands that need no network."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from bench.common import machine, print_table, write_results

LINES = ("--help", "stores ls", "fit logreg --help", "extract --help")


def main(quick: bool = False) -> None:
    facts = machine()
    rows = [_measure(line, 5 if quick else 15) for line in LINES]
    print_table("start-up (medians, seconds)", rows)
    write_results("startup", rows, facts)


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
