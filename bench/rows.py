"""What it costs to add pictures to a set that is extracted, and to go from a tenth of a set to all of it.

Rounds, each in homes of its own, over JPEG files of 500×375: all pictures at once; then all where one per
cent is new; then all where a tenth is known. What is compared is the whole of ``extract`` without the time
that loading the network takes, which is the same whatever is computed, as processor seconds and as wall-clock
seconds. Every store has to be the same bits as the one that was computed at once. Weights are random; the
cost does not depend on them.

A further row says what copying costs by itself, a row of 2,028 values at a time, in order and shuffled.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results
from bench.extraction import make_photos
from probe import backbones
from probe.backbones import BackboneSpec, resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.datasets.dataset import Dataset
from probe.extract import ExtractJob, ExtractResult, extract
from probe.store import remove_store

BACKBONE, BATCH = "resnet50", 8
"""A small batch, as one per cent of the pictures is then about whole batches."""
SCENARIOS = (
    ("all after 10 %", 200, 0.1, 3, "fp32"),
    ("1 % more", 1500, 0.99, 1, "auto"),
    ("1 % more", 1500, 0.99, 1, "fp32"),
)
"""What is measured, of how many pictures, the share of them that is known, rounds, and the precision."""

PLAIN_ROWS = 20_000


@dataclass(frozen=True)
class Cost:
    """Of one call: seconds of the clock, of the processors, and what was done."""

    wall: float
    processor: float
    result: ExtractResult | None = None


def main(quick: bool = False) -> None:
    facts = machine()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, images, share, rounds, precision in SCENARIOS:
            photos = Path(folder) / name
            if not photos.exists():
                make_photos(photos, images // 10 if quick else images)
            data = open_dataset(str(photos), Home(Path(folder) / "home"))
            spec = resolve(BACKBONE, weights="random", precision=precision, home=Home(Path(folder)))
            costs = [_round(data, spec, share, Path(folder) / "homes") for _ in range(1 if quick else rounds)]
            computed_by = {"engine": spec.engine, "precision": spec.precision}
            rows.append(
                {"what": name, **computed_by, "pictures": len(data), "rounds": len(costs), **_medians(costs)}
            )
            print(rows[-1], flush=True)
        print_table(f"{BACKBONE}: costs relative to computing all at once (medians)", rows)
        plain = _plain(Path(folder))
        print_table("copying alone", plain)
    write_results("rows", [*rows, *plain], facts)


def _round(data: Dataset, spec: BackboneSpec, share: float, folder: Path) -> dict[str, Any]:
    """The cost of going from a share of the pictures to all, relative to computing all at once."""
    count = len(data)
    known = np.sort(np.random.default_rng(0).permutation(count)[: round(share * count)])
    home = Home(folder)
    whole = _extract(data, spec, home)
    assert whole.result is not None
    kept = _chunks(whole.result)
    # The known rows are copied from the whole, which is then taken away.
    _extract(data.take(known), spec, home)
    remove_store(home, whole.result.store)
    cost = _extract(data, spec, home)
    assert cost.result is not None
    found = {
        "computed": cost.result.rows_computed,
        "copied": cost.result.rows_copied,
        "of_whole_processor": cost.processor / whole.processor,
        "of_whole_wall": cost.wall / whole.wall,
        "whole_processor_s": whole.processor,
        "same_bits": _chunks(cost.result) == kept,
    }
    shutil.rmtree(folder)
    return found


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in rounds[0].items():
        values = [each[key] for each in rounds]
        found[key] = round(statistics.median(values), 4) if isinstance(value, float) else min(values)
    return found


def _extract(data: Dataset, spec: BackboneSpec, home: Home) -> Cost:
    """What ``extract`` costs without loading the network."""
    load, loads = backbones.load, []
    job = ExtractJob(data, spec, BATCH)

    def counted(*args: Any, **named: Any) -> Any:
        loaded: list[Any] = []
        loads.append(_cost(lambda: loaded.append(load(*args, **named))))
        return loaded[0]

    backbones.load = counted
    try:
        cost = _cost(lambda: extract(job, home))
    finally:
        backbones.load = load
    wall, processor = (sum(getattr(one, kind) for one in loads) for kind in ("wall", "processor"))
    return replace(cost, wall=cost.wall - wall, processor=cost.processor - processor)


def _plain(folder: Path) -> list[dict[str, Any]]:
    """Pixels of 26 × 26, copied in order and shuffled; as rows a second of a processor."""
    rng = np.random.default_rng(0)
    parts = {"train": PLAIN_ROWS, "val": 10, "test": 10}
    arrays: dict[str, Any] = {
        f"{p}_images": rng.integers(0, 256, (n, 4, 4, 3), np.uint8) for p, n in parts.items()
    }
    arrays |= {f"{p}_labels": np.zeros((n, 1), np.uint8) for p, n in parts.items()}
    np.savez(folder / "plain.npz", **arrays)
    home = Home(folder / "plain")
    data = open_dataset(str(folder / "plain.npz"), home).take(np.arange(PLAIN_ROWS))
    job = ExtractJob(data, resolve("pixels", size=26, home=home), BATCH)
    extract(job, home)
    rows = []
    orders = {"in order": np.arange(1, PLAIN_ROWS), "shuffled": rng.permutation(PLAIN_ROWS)}
    for name, order in orders.items():
        part = replace(job, dataset=data.take(order))
        cost = _cost(partial(extract, part, home))
        assert cost.result is not None
        assert cost.result.rows_copied == len(order)
        rows.append({"order": name, "rows": len(order), "rows_per_processor_s": len(order) / cost.processor})
    return rows


def _cost(run: Callable[[], Any]) -> Cost:
    began, used = time.perf_counter(), _processor_seconds()
    result = run()
    wall, processor = time.perf_counter() - began, _processor_seconds() - used
    return Cost(wall, processor, result if isinstance(result, ExtractResult) else None)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _chunks(result: ExtractResult) -> dict[str, bytes]:
    data = Path(result.path) / "data.zarr"
    return {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*/c/**/*") if p.is_file()}
