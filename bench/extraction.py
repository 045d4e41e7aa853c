"""Extraction end to end beside its parts, and beside what people write.

For each backbone, interleaved in rounds over the same JPEG files (500×375):

* ``probe``     this extractor end to end: files on disk to a sealed store;
* ``ceiling``   the same graph on batches that are ready in memory;
* ``decode``    reading, decoding and resizing alone;
* ``keras``     ``image_dataset_from_directory`` + ``model.predict`` in fp32, what people write. At its end it
  may wait for tf.data's tuning to wake up (5, 10, 20, 41 seconds after its start), and that is counted;
* ``function``  the Keras model in a plain ``tf.function`` on ready batches, fp32;
* ``openvino``  this extractor end to end by the engine ``openvino``, where it is installed; ``probe`` and
  ``ceiling`` are by ``tensorflow``.

The bound is 1/(1/ceiling + 1/decode), since both share the cores. The published weights need the open
internet; these are drawn, see `bench.weights`. Further tables give the cost of three outputs and of five
views in single passes, how close bfloat16 features are to fp32 ones, and peak memory at 1,000 and at 10,000
images.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, print_table, write_results
from bench.weights import write_weights
from probe.backbones import load, resolve
from probe.backbones.engines import ENGINES
from probe.config import Home
from probe.datasets import open_dataset
from probe.extract import ExtractJob, Views, extract
from probe.images.augment import parse_augment
from probe.images.reader import read_batches

SIZE, BATCH = 224, 32
BACKBONES = ("resnet50", "vgg16", "nasnetmobile", "efficientnet-lite0")
CONSTRUCTORS = {"resnet50": "ResNet50", "vgg16": "VGG16", "nasnetmobile": "NASNetMobile"}
MODULES = {"resnet50": "resnet", "vgg16": "vgg16", "nasnetmobile": "nasnet"}
OUTPUTS = {
    "resnet50": ("avg_pool", "conv4_block6_out", "conv3_block4_out"),
    "vgg16": ("avg_pool", "block4_pool", "block3_pool"),
    "nasnetmobile": ("avg_pool", "block4", "block3"),
}


def main(quick: bool = False, images: int = 256, rounds: int = 3) -> None:
    facts = machine()
    if quick:
        images, rounds = 128, 2
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder) / "photos", images)
        rows = [_measure(name, photos, rounds) for name in BACKBONES]
        print_table(f"extraction of {images} JPEGs of 500×375, images/s (medians of {rounds} rounds)", rows)
        passes = [_passes(name, photos) for name in list(OUTPUTS)[: None if images >= 1000 else 1]]
        print_table("three outputs and five views, in single passes", passes)
        close = [*(_cosine(name, photos) for name in CONSTRUCTORS), _sample_accuracy()]
        print_table("bfloat16 beside fp32", close)
        memory = [_memory(count) for count in ((200, 400) if quick else (1000, 10_000))]
        print_table("peak memory of extraction, resnet50", memory)
    facts |= {"images": images, "rounds": rounds}
    write_results("extraction", [*rows, *passes, *close, *memory], facts)


def make_photos(root: Path, count: int) -> Path:
    """JPEGs of 500×375 in two class folders: grain over smooth colour, which decodes like a photograph."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-12, 13, smooth.shape, np.int16)
        path = root / f"class{number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
    return root


def _measure(name: str, photos: Path, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        weights = write_weights(name, Path(folder))
        spec = resolve(name, weights=str(weights), engine="tensorflow", home=home)
        data = open_dataset(str(photos), home)
        extractor = load(spec, batch_size=BATCH)
        batches = [
            np.array(b.pixels) for b in read_batches(data.source.read, np.arange(BATCH * 4), SIZE, BATCH)
        ]
        sides: dict[str, Callable[[], float]] = {
            "probe": lambda: _end_to_end(ExtractJob(data, spec, BATCH)),
            "ceiling": lambda: _ready(extractor, batches, len(data)),
            "decode": lambda: _decode(data, len(data)),
            **_keras_sides(name, photos, batches, len(data), weights),
            **_openvino_side(name, data, home, weights),
        }
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, run in sides.items():
                speeds[side].append(run())
    return _row(name, spec.precision, speeds)


def _row(name: str, precision: str, speeds: dict[str, list[float]]) -> dict[str, Any]:
    bounds = zip(speeds["probe"], speeds["ceiling"], speeds["decode"], strict=True)
    row: dict[str, Any] = {"backbone": name, "precision": precision}
    row |= {side: round(statistics.median(values), 1) for side, values in speeds.items()}
    row["of_bound"] = round(statistics.median(p * (1 / c + 1 / d) for p, c, d in bounds), 3)
    if "keras" in speeds:
        row["times_keras"] = _ratio(speeds["probe"], speeds["keras"])
    if "openvino" in speeds:
        row["openvino_times_tensorflow"] = _ratio(speeds["openvino"], speeds["probe"])
    return row


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def _end_to_end(job: ExtractJob) -> float:
    """Images/s from the first batch to the last commit, into a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return extract(job, Home(Path(folder))).images_per_s


def _ready(extractor: Callable[[NDArray[np.uint8]], Any], batches: list[Any], images: int) -> float:
    count = -(-images // BATCH)
    began = time.perf_counter()
    for number in range(count):
        extractor(batches[number % len(batches)])
    return count * BATCH / (time.perf_counter() - began)


def _decode(data: Any, images: int) -> float:
    began = time.perf_counter()
    for _ in read_batches(data.source.read, np.arange(images), SIZE, BATCH, hashes=data.hashes):
        pass
    return images / (time.perf_counter() - began)


def _keras_sides(
    name: str, photos: Path, batches: list[Any], images: int, weights: Path
) -> dict[str, Callable[[], float]]:
    from probe.tensorflow_setup import keras, tf

    if name not in CONSTRUCTORS:  # not a network that people find in Keras
        return {}
    model = getattr(keras.applications, CONSTRUCTORS[name])(
        include_top=False, weights=None, pooling="avg", input_shape=(SIZE, SIZE, 3)
    )
    model.load_weights(weights)
    preprocess = getattr(keras.applications, MODULES[name]).preprocess_input
    function = tf.function(lambda pixels: model(preprocess(tf.cast(pixels, tf.float32)), training=False))

    def predict() -> float:
        files = keras.utils.image_dataset_from_directory(
            photos, image_size=(SIZE, SIZE), batch_size=BATCH, shuffle=False, verbose=False
        ).map(lambda pixels, _: preprocess(pixels))
        began = time.perf_counter()
        model.predict(files, verbose=0)
        return images / (time.perf_counter() - began)

    model.predict(preprocess(batches[0].astype(np.float32)), verbose=0)
    function(tf.constant(batches[0]))
    ready = lambda pixels: function(tf.constant(pixels)).numpy()  # noqa: E731 - a side in one line
    return {"keras": predict, "function": lambda: _ready(ready, batches, images // 4)}


def _openvino_side(name: str, data: Any, home: Home, weights: Path) -> dict[str, Callable[[], float]]:
    if ENGINES["openvino"].missing:
        print(f"openvino is not installed: {name} is not computed by it (pip install 'probe[openvino]')")
        return {}
    spec = resolve(name, weights=str(weights), engine="openvino", home=home)
    return {"openvino": lambda: _end_to_end(ExtractJob(data, spec, BATCH))}


def _passes(name: str, photos: Path) -> dict[str, Any]:
    """Cost of three outputs, and of one plain and five augmented views, in passes of one output."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        data = open_dataset(str(photos), home)
        data = data.take(np.arange(min(len(data), 256)))
        job = ExtractJob(data, resolve(name, weights="random", home=home), BATCH)
        three = replace(job, backbone=replace(job.backbone, outputs=OUTPUTS[name]))
        views = replace(job, views=Views(5, parse_augment("flip,zoom=0.2,rotate=15"), everywhere=True))
        singles, threes, fives = [], [], []
        for _ in range(3):
            singles.append(1 / _end_to_end(job))
            threes.append(1 / _end_to_end(three))
            fives.append(1 / _end_to_end(views))
    return {
        "backbone": name,
        "three_outputs": round(statistics.median(t / s for t, s in zip(threes, singles, strict=True)), 3),
        "plain_and_five_views": round(
            statistics.median(f / s for f, s in zip(fives, singles, strict=True)), 3
        ),
    }


def _cosine(name: str, photos: Path) -> dict[str, Any]:
    """Smallest cosine of an image's features in bfloat16 with those in fp32, by engine; random weights."""
    engines = [engine for engine in ("tensorflow", "openvino") if not ENGINES[engine].missing]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        data = open_dataset(str(photos), home)
        choices = [("fp32", "tensorflow"), *(("bf16", engine) for engine in engines)]
        specs = [resolve(name, weights="random", precision=p, engine=e, home=home) for p, e in choices]
        full, *low = (load(spec, batch_size=BATCH) for spec in specs)
        cosines: dict[str, list[Any]] = {engine: [] for engine in engines}
        for batch in read_batches(data.source.read, np.arange(2 * BATCH), SIZE, BATCH):
            b = full(batch.pixels)["avg_pool"]
            for engine, extractor in zip(engines, low, strict=True):
                a = extractor(batch.pixels)["avg_pool"]
                norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
                cosines[engine].append((a * b).sum(1) / norms)
    smallest = {f"min_cosine_{e}": float(np.concatenate(values).min()) for e, values in cosines.items()}
    return {"backbone": name, "weights": "random", **smallest}


def _sample_accuracy() -> dict[str, Any]:
    """EfficientNet-Lite0's trained weights on the bundled sample: cosine, and what a probe makes of both."""
    from probe.fit import FitJob, fit
    from probe.store import open_store

    features, accuracies = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        data = open_dataset("fashion-sample", home)
        for precision in ("bf16", "fp32"):
            job = ExtractJob(data, resolve("efficientnet-lite0", precision=precision, home=home), BATCH)
            store = open_store(Path(extract(job, home).path))
            features.append(store.features().read())
            accuracies.append(fit(FitJob(store), home).result["test"]["accuracy"])
    a, b = features
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "backbone": "efficientnet-lite0",
        "weights": "imagenet",
        "min_cosine": float(cosine.min()),
        "accuracy_bf16": accuracies[0],
        "accuracy_fp32": accuracies[1],
    }


MEMORY_CODE = """
import json, sys
from pathlib import Path
from bench.logreg_jobs import peak_mb
from probe.backbones import resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.extract import ExtractJob, extract
photos, home = sys.argv[1], Home(Path(sys.argv[2]))
spec = resolve("resnet50", size=64, weights="random", home=home)
result = extract(ExtractJob(open_dataset(photos, home), spec, 32), home)
print(json.dumps([result.rows, peak_mb()]))
"""


def _memory(images: int) -> dict[str, Any]:
    """Peak resident memory of a process that extracts so many files; a small input, for the count's sake."""
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder) / "photos", images)
        command = [sys.executable, "-c", MEMORY_CODE, str(photos), str(Path(folder) / "home")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    rows, peak = json.loads(done.stdout)
    return {"images": rows, "peak_mb": peak}
