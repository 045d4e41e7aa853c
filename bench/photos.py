"""Photographs of 12 megapixels: decoded at a fraction, as they are, beside decoded in full, as they were.

For each backbone, interleaved in rounds over the same JPEG files (4000×3000):

* ``extract``    files on disk to a sealed store;
* ``in_full``    the same with every picture decoded in full;
* ``predict``    what `probe predict` does once its network is loaded.

A further row is of decoding and resizing alone, with the largest and the mean difference in grey levels.
Weights are random; speed does not depend on them.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, paired_ratio, print_table, write_results
from probe.backbones import resolve
from probe.config import Home
from probe.datasets import Dataset, open_dataset
from probe.extract import ExtractJob, extract
from probe.fit import gather
from probe.fit.fit import FitJob, fit
from probe.fit.predict import load_predictor, predict_with
from probe.images.path import pixel_path
from probe.images.reader import read_batches
from probe.store import open_store

SIZE, BATCH = 224, 32
BACKBONES = ("efficientnet-lite0", "resnet50")
WIDTH, HEIGHT = 4000, 3000
GRAIN = 6
"""Grey levels either way; makes files of about 2.5 MB."""
DISTINCT = 4
"""Pictures that are drawn; the others are copies that differ in a comment, since their pixels cost alike."""


def main(quick: bool = False) -> None:
    facts = machine()
    images, rounds = (32, 2) if quick else (64, 5)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        size = make_photos(photos, images)
        facts |= {"images": images, "rounds": rounds, "MB_each": round(size / images / 1e6, 2)}
        decoding = [_decoding(photos, rounds)]
        print_table(f"decoding JPEGs of {WIDTH}×{HEIGHT} to {SIZE}, images/s (medians)", decoding)
        rows = [_measure(name, photos, rounds) for name in BACKBONES]
        print_table(f"from files of {WIDTH}×{HEIGHT}, images/s (medians of {rounds} rounds)", rows)
    write_results("photos", [*decoding, *rows], facts)


def make_photos(root: Path, count: int) -> int:
    """JPEGs of 12 megapixels in two class folders, half for training; returns their bytes."""
    drawn = [_draw(number) for number in range(min(count, DISTINCT))]
    total = 0
    for number in range(count):
        body, text = drawn[number % len(drawn)], f"{number:08d}".encode()
        content = body[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + body[2:]
        part = "train" if number < count // 2 else "test"
        path = root / part / f"class{number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        total += path.write_bytes(content)
    return total


def _draw(seed: int) -> bytes:
    """Noise of every scale, the finer the weaker, and some grain: decodes like a photograph."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    width, height = WIDTH // 2, HEIGHT // 2
    smooth = np.full((height, width, 3), 128, np.int16)
    cells, strength = 4, 64
    while cells < width:
        layer = Image.fromarray(rng.integers(0, 256, (cells * HEIGHT // WIDTH, cells, 3), np.uint8))
        layer = layer.resize((width, height), Image.Resampling.BICUBIC)
        smooth += (np.asarray(layer, np.int16) - 128) * strength // 128
        cells, strength = cells * 2, max(strength * 5 // 8, 2)
    # A camera works out two of three colours of a pixel from its neighbours: the finest detail is grain.
    large = Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8)).resize((WIDTH, HEIGHT))
    grained = np.asarray(large, np.int16) + rng.integers(-GRAIN, GRAIN + 1, (HEIGHT, WIDTH, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _in_full(data: Dataset) -> Dataset:
    """Without the sides of its pictures, a data set is decoded in full."""
    return replace(data, jpeg_sides=None)


def _decoding(photos: Path, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data = open_dataset(str(photos), Home(Path(folder)))
    read: dict[str, list[Any]] = {}

    def run(name: str, each: Dataset) -> float:
        path, began = pixel_path(each.jpeg_sides, SIZE), time.perf_counter()
        batches = read_batches(each.source.read, np.arange(len(each)), SIZE, BATCH, path=path)
        read[name] = [np.array(batch.pixels, np.int16) for batch in batches]
        return len(each) / (time.perf_counter() - began)

    speeds = _rounds(
        {"decode": lambda: run("scaled", data), "in_full": lambda: run("full", _in_full(data))}, rounds
    )
    difference = np.abs(np.concatenate(read["scaled"]) - np.concatenate(read["full"]))
    return {
        **_medians(speeds),
        "times_in_full": round(paired_ratio(speeds["decode"], speeds["in_full"]), 2),
        "largest_difference": int(difference.max()),
        "mean_difference": round(float(difference.mean()), 3),
    }


def _measure(name: str, photos: Path, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        spec = resolve(name, weights="random", home=home)
        data = open_dataset(str(photos), home)
        store = extract(ExtractJob(data, spec, BATCH), home)
        run = fit(FitJob(open_store(Path(store.path)), "centroid"), home)
        predictor, inputs = load_predictor(run, home), gather([photos])

        def predicting() -> float:
            began = time.perf_counter()
            return sum(1 for _ in predict_with(predictor, inputs)) / (time.perf_counter() - began)

        speeds = _rounds(
            {
                "extract": lambda: _end_to_end(ExtractJob(data, spec, BATCH)),
                "in_full": lambda: _end_to_end(ExtractJob(_in_full(data), spec, BATCH)),
                "predict": predicting,
            },
            rounds,
        )
    return {
        "backbone": name,
        "precision": spec.precision,
        **_medians(speeds),
        "times_in_full": round(paired_ratio(speeds["extract"], speeds["in_full"]), 2),
        "predict_over_extract": round(paired_ratio(speeds["predict"], speeds["extract"]), 2),
    }


def _rounds(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            speeds[name].append(run())
    return speeds


def _medians(speeds: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 1) for name, values in speeds.items()}


def _end_to_end(job: ExtractJob) -> float:
    """Images/s from the first batch to the last commit, into a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return extract(job, Home(Path(folder))).images_per_s
