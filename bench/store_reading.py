"""Reading a whole store beside ``numpy.fromfile`` of the same bytes.

The stores have the shapes of two studies, 5,994 × 2,048 and 90,000 × 1,056 float32; the plain file holds the
same rows. Interleaved, both from the page cache: what is compared is what reading costs, not the disk.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import interleave, machine, paired_ratio, print_table, write_results
from probe.config import Home
from probe.store import open_store
from probe.store.exchange.importing import import_store

SHAPES = ((5_994, 2_048), (90_000, 1_056))


def main(quick: bool = False) -> None:
    facts = machine()
    rows = [_measure(count // 10 if quick else count, width, 5 if quick else 25) for count, width in SHAPES]
    print_table("reading a store, GB/s (medians)", rows)
    write_results("store_reading", rows, facts | {"quick": quick})


def _measure(count: int, width: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        features = np.random.default_rng(0).standard_normal((count, width), dtype=np.float32)
        npy, plain = Path(folder) / "features.npy", Path(folder) / "features.bin"
        np.save(npy, features)
        features.tofile(plain)
        imported, _ = import_store(npy, Home(Path(folder) / "home"))
        path = Path(imported.path)
        sides = {
            "store": lambda: open_store(path).features().read(),
            "fromfile": lambda: np.fromfile(plain, np.float32).reshape(count, width),
        }
        assert all(np.array_equal(read(), features) for read in sides.values())
        times = interleave(sides, rounds)
    speeds = {name: features.nbytes / 1e9 / statistics.median(seconds) for name, seconds in times.items()}
    return {
        "rows": count,
        "width": width,
        **speeds,
        "store / fromfile": paired_ratio(times["fromfile"], times["store"]),
    }
