"""``make faults``: kill -9 at random moments, many times, and compare every byte with an undisturbed store.

Each trial starts the same extraction in a home of its own, kills it at a random moment, starts it again,
kills it again, and at last lets it finish. The test suite does this once; here it is done many times.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import print_table

LINE = ("extract", "--backbone", "efficientnet-lite0", "--size", "32", "--quiet", "fashion-sample")
KILLS = 3


def main(trials: int = 10) -> int:
    """Run the trials; the number of stores that differ from the undisturbed one, which must be 0."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        began = time.perf_counter()
        _start(undisturbed).wait()
        whole = time.perf_counter() - began
        rows = [_trial(Path(folder) / str(n), undisturbed, chance, whole) for n in range(trials)]
    print_table(f"{trials} extractions, each killed up to {KILLS} times", rows)
    return sum(row["verdict"] != "same bytes" for row in rows)


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "probe", "--home", str(home), *LINE]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _trial(home: Path, undisturbed: Path, chance: random.Random, whole: float) -> dict[str, Any]:
    kills, committed = 0, []
    for _ in range(KILLS):
        process = _start(home)
        time.sleep(chance.uniform(0.3, 1.0) * whole)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        logs = list(home.glob("stores/*/commits/*.jsonl"))
        committed.append(sum(len(log.read_bytes().splitlines()) for log in logs))
    code = _start(home).wait()
    same = code == 0 and _bytes(home) == _bytes(undisturbed)
    return {
        "kills": kills,
        "units_committed": " ".join(map(str, committed)),
        "verdict": "same bytes" if same else f"DIFFERS (exit code {code})",
    }


def _bytes(home: Path) -> dict[str, bytes]:
    (data,) = home.glob("stores/*/data.zarr")
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main() > 0)
