"""How long it takes to know 10,000 files by their content: the first time, and once they are remembered.

Cold reads and hashes every file (its bytes may be in the page cache, which only root can empty); warm finds
them unchanged by name, size and time. "index" is that alone; "open" also walks the
folders and makes the split, which is the same work both times.
"""

from __future__ import annotations

import io
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import interleave, machine, paired_ratio, print_table, write_results
from probe.config import Home
from probe.datasets import open_dataset
from probe.datasets.files import find_images
from probe.datasets.indexing import index_rows
from probe.datasets.sources import FileSource

CLASSES = 100


def main(quick: bool = False) -> None:
    facts = machine()
    files, rounds = (1_000, 3) if quick else (10_000, 5)
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        size = make_images(images, files)
        common = {"files": files, "kB_each": round(size / files / 1000, 1), "rounds": rounds}
        rows = [common | row for row in measure(images, Home(Path(scratch) / "home"), rounds)]
    print_table("indexing (medians, seconds)", rows)
    write_results("indexing", rows, facts)


def make_images(folder: Path, count: int) -> int:
    """`count` JPEG files of about 20 kB in class folders, no two alike, an hour old; returns their bytes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 190, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", quality=75)
    body = stream.getvalue()
    total = 0
    for number in range(count):
        # A comment segment after the start marker makes distinct bytes of an image that still decodes.
        text = f"{number:08d}".encode()
        content = body[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + body[2:]
        path = folder / f"{number % CLASSES:03d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        total += path.write_bytes(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return total


def measure(images: Path, home: Home, rounds: int) -> list[dict[str, Any]]:
    """A row for the index alone and one for opening the data set."""
    source = FileSource(images, find_images(images).images)
    jobs: dict[str, Callable[[], object]] = {
        "index": lambda: index_rows(source, len(source.files), home.cache),
        "open": lambda: open_dataset(str(images), home),
    }
    return [{"what": name, **_cold_and_warm(job, home, rounds)} for name, job in jobs.items()]


def _cold_and_warm(job: Callable[[], object], home: Home, rounds: int) -> dict[str, Any]:
    def cold() -> None:
        shutil.rmtree(home.cache, ignore_errors=True)
        job()

    times = interleave({"cold": cold, "warm": job}, rounds)
    return {
        "cold_s": round(statistics.median(times["cold"]), 3),
        "warm_s": round(statistics.median(times["warm"]), 3),
        "cold_over_warm": round(paired_ratio(times["cold"], times["warm"]), 1),
    }
