"""Engines beside one another on batches that are ready in memory, with weights as training leaves them.

Every engine that is installed and computes a backbone in a precision takes part, interleaved batch by batch;
``times`` are medians of pairs with the first of the table, and ``cosine`` is the smallest of an image's
features with those of the first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results
from bench.weights import write_weights
from probe.backbones import load, resolve, row_of
from probe.backbones.engines import ENGINES
from probe.config import Home

BATCH, ROUNDS = 32, 20
CASES = (
    ("resnet50", "auto"),
    ("resnet50", "fp32"),
    ("nasnetmobile", "auto"),
    ("vgg16", "auto"),
    ("efficientnet-lite0", "auto"),
)


def main(quick: bool = False) -> None:
    facts = machine()
    rounds = 5 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measure(name, precision, Path(folder), rounds) for name, precision in CASES]
    print_table(f"images/s by engine on ready batches of {BATCH} (medians of {rounds})", rows)
    write_results("engines", rows, facts | {"rounds": rounds})


def _measure(name: str, precision: str, folder: Path, rounds: int) -> dict[str, Any]:
    path = folder / f"{name}.weights.h5"
    weights = str(path if path.exists() else write_weights(name, folder))
    spec = resolve(name, weights=weights, precision=precision, home=Home(folder))
    able = [e.name for e in ENGINES.values() if e.computes(row_of(spec), spec.precision) and not e.missing]
    sides = {engine: load(replace(spec, engine=engine), batch_size=BATCH) for engine in able}
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, spec.size, spec.size, 3), np.uint8)
    features = {engine: run(pixels)["avg_pool"] for engine, run in sides.items()}
    seconds: dict[str, list[float]] = {engine: [] for engine in sides}
    for _ in range(rounds):
        for engine, run in sides.items():
            began = time.perf_counter()
            run(pixels)
            seconds[engine].append(time.perf_counter() - began)
    first, *others = sides
    row: dict[str, Any] = {"backbone": name, "precision": spec.precision}
    row |= {engine: round(BATCH / statistics.median(times), 1) for engine, times in seconds.items()}
    for other in others:
        pairs = zip(seconds[other], seconds[first], strict=True)
        row[f"times_{other}"] = round(statistics.median(b / a for b, a in pairs), 3)
        row[f"cosine_{other}"] = round(_smallest_cosine(features[first], features[other]), 6)
    return row


def _smallest_cosine(a: Any, b: Any) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
