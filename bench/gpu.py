"""What a machine with GPUs makes of this program: run by whoever has one (``make gpu``), its table sent back.

Checked against the CPU, each line says ``ok`` or what is wrong:

* ``features``   every network and precision, by the cosine to float32 on a CPU;
* ``shards``     an extraction in two parts, one after the other, against one that is not: the same features;
* ``jobs``       the same by two processes;
* ``place``      features are computed on the device of the call, in bfloat16 by the CPU's pass on the CPU;
* ``devices``    33 pictures in batches of 8 trained on all devices, twice in one process: losses are numbers.

Measured: images a second of every network and batch, and beside them decoding alone and the share of copying.
Weights are random; neither depends on them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, print_table, write_results
from probe.backbones import BACKBONES, BackboneSpec, find_row, load, resolve
from probe.backbones.precision import expect_capable
from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import ProbeError
from probe.extract import ExtractJob, Shard, extract, extract_in_processes
from probe.finetune.plan import TuneJob, TuneSettings
from probe.finetune.run import finetune
from probe.images.reader import read_batches
from probe.store import open_store
from probe.tensorflow_setup import keras, tf

NETWORKS = ("resnet50", "vgg16", "nasnetmobile", "efficientnet-lite0")
BATCHES = (32, 64, 128, 256, 512)
PRECISIONS = ("fp32", "bf16", "fp16")
PICTURES = Path(__file__).parents[1] / "data" / "samples" / "photos"
LEAST = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.999}
"""Cosine to float32 on a CPU."""
ENGINE = "tensorflow"
"""The one for GPUs, also where there is none."""
ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was found, and write it to ``bench/results/gpu.json``."""
    asked = _read_arguments(arguments)
    devices = asked.devices or [device.name for device in tf.config.list_logical_devices("GPU")]
    if not devices:
        raise SystemExit("no GPU: TensorFlow lists none (pip install 'probe[gpu]'; nvidia-smi)")
    facts = {**machine(), "devices": [_described(device) for device in devices]}
    rows = []
    for network in asked.networks:
        rows += list(_features(network, asked.size, devices[0]))
        rows += list(_speeds(network, asked.size, asked.batches, devices[0]))
    rows += [
        *_in_parts(asked),
        _checked("place", lambda: _places(asked.networks[0], devices)),
        _checked("devices", lambda: _trains_on(devices)),
    ]
    print_table("GPUs", rows)
    if not asked.devices:
        print(write_results("gpu", rows, facts))


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=BACKBONES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--size", type=int, help="side of the pictures; by default each network's own")
    parser.add_argument(
        "--devices", nargs="+", help="in place of all GPUs, as TensorFlow names them; nothing is written"
    )
    return parser.parse_args(arguments)


def _described(device: str) -> str:
    found = next((one for one in tf.config.list_physical_devices() if device.endswith(one.name[-5:])), None)
    details = tf.config.experimental.get_device_details(found) if found is not None else {}
    return f"{device} {details.get('device_name', '')} {details.get('compute_capability', '')}".strip()


def _checked(what: str, check: Callable[[], str]) -> dict[str, Any]:
    """A row: ``ok``, what the check says is wrong, or what it raised: one must not hide the others."""
    try:
        return {"what": what, "found": check() or "ok"}
    except Exception as error:  # noqa: BLE001 - whatever a strange machine comes up with is found
        return {"what": what, "found": f"{type(error).__name__}: {error}".partition("\n")[0]}


def _features(network: str, size: int | None, device: str) -> Iterator[dict[str, Any]]:
    pixels = _noise(4, size or BACKBONES[network].size)
    with tf.device("/CPU:0"):
        expected = _extractor(network, size, "fp32", 4)(pixels)
    for precision in PRECISIONS:
        try:
            expect_capable(precision)
        except ProbeError as error:
            yield {"what": f"features {network} {precision}", "found": f"refused: {error.problem}"}
            continue

        def cosine(precision: str = precision) -> str:
            with tf.device(device):
                found = _extractor(network, size, precision, 4)(pixels)
            least = min(_cosines(found[name], expected[name]).min() for name in expected)
            return "" if least >= LEAST[precision] else f"cosine {least:.5f}, expected {LEAST[precision]}"

        yield _checked(f"features {network} {precision}", cosine)


def _speeds(network: str, size: int | None, batches: Sequence[int], device: str) -> Iterator[dict[str, Any]]:
    """Images a second by batch; ends where memory does."""
    for batch in batches:
        pixels = _noise(batch, size or BACKBONES[network].size)
        try:
            with tf.device(device):
                whole = _seconds(_extractor(network, size, "auto", batch), pixels)
                copying = _seconds(lambda some: tf.identity(tf.constant(some)).numpy(), pixels)
        except (tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
            yield {"what": f"speed {network} batch {batch}", "found": type(error).__name__}
            return
        yield {
            "what": f"speed {network} batch {batch}",
            "found": f"{batch / whole:,.0f} images/s",
            "decoding": f"{batch / _seconds(_decode, pixels):,.0f} images/s",
            "copying": f"{100 * copying / whole:.0f} % of the time",
        }


def _extractor(network: str, size: int | None, precision: str, batch: int) -> Any:
    return load(_spec(network, size, precision), batch_size=batch)


def _spec(network: str, size: int | None, precision: str, engine: str = "") -> BackboneSpec:
    """By TensorFlow, in the version that is for this machine, or in that of `engine`."""
    choices = {"weights": "random", "precision": precision, "engine": "tensorflow"}
    spec = resolve(network, size=size, home=Home(Path("none")), **choices)
    return replace(spec, engine=engine or spec.engine)


def _seconds(run: Callable[[Any], Any], pixels: NDArray[np.uint8]) -> float:
    run(pixels)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _decode(pixels: NDArray[np.uint8]) -> None:
    """As many pictures of the sample as there are `pixels`, at their size."""
    files = sorted(PICTURES.rglob("*.jpg"))
    rows = np.resize(np.arange(len(files)), len(pixels))
    for _ in read_batches(lambda row: files[row].read_bytes(), rows, pixels.shape[1], len(pixels)):
        pass


def _noise(batch: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    cosines: NDArray[np.float32] = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines


def _in_parts(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What differs between an undisturbed extraction and those in parts."""
    whole = functools.cache(lambda: _extracted(asked, extract))

    def compare(run: Callable[[ExtractJob, Home], Any]) -> str:
        found, expected = _extracted(asked, run), whole()
        same = np.array_equal(found, expected)
        return "" if same else f"bits differ, cosine {_cosines(found, expected).min():.7f}"

    yield _checked("shards", lambda: compare(_by_shards))
    yield _checked("jobs", lambda: compare(_by_jobs))


def _extracted(asked: argparse.Namespace, run: Callable[[ExtractJob, Home], Any]) -> NDArray[np.float32]:
    """The features of the pictures, in a home of their own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        spec = resolve(asked.networks[0], size=asked.size, weights="random", engine="tensorflow", home=home)
        job = ExtractJob(open_dataset(str(PICTURES), home), spec, batch_size=min(asked.batches))
        run(job, home)
        store = open_store(job.path(home))
        return store.features(store.outputs[0]).read(store.rows())


def _by_shards(job: ExtractJob, home: Home) -> None:
    for number in range(2):
        extract(job, home, shard=Shard(number, 2))


def _by_jobs(job: ExtractJob, home: Home) -> None:
    extract_in_processes(job, home, 2)


def _places(network: str, devices: Sequence[str]) -> str:
    """Which features lie elsewhere than where they were asked for; the network is traced on the first."""
    pixels, wrong = _noise(2, 32), []
    for precision in ("fp32", "bf16"):
        try:
            expect_capable(precision)
        except ProbeError:
            continue
        with tf.device(devices[0]):
            extractor = load(_spec(network, 32, precision, ENGINE), batch_size=2)
        passed = precision == "bf16" and not tf.config.list_physical_devices("GPU")
        for device in devices:
            with tf.device(device):
                found = {tensor.device for tensor in extractor.tensors(pixels).values()}
            expected = "CPU:0" if passed else device[-5:]
            wrong += [f"{precision} of {device} on {place}" for place in found if place[-5:] != expected]
    return ", ".join(wrong)


def _trains_on(devices: Sequence[str]) -> str:
    """What is wrong with two trainings on all devices, whose last batch is a picture."""
    side = 16
    pixels = x = keras.Input((side, side, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, name="conv")(x))
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    with tempfile.TemporaryDirectory() as folder:
        home, path, labels = Home(Path(folder) / "home"), Path(folder) / "some.npz", np.arange(33) % 3
        network.save(Path(folder) / "tiny.keras")
        np.savez(
            path,
            train_images=_noise(33, side),
            train_labels=labels,
            test_images=_noise(9, side),
            test_labels=labels[:9],
        )
        name = str(Path(folder) / "tiny.keras")
        spec = resolve(name, preprocess="unit", precision="fp32", home=home)
        for epochs in (1, 2):
            settings = TuneSettings(
                unfreeze="conv", train_bn=True, batch_size=8, epochs=epochs, head_epochs=0
            )
            job = TuneJob(open_dataset(str(path), home), spec, find_row(name), settings)
            losses = finetune(job, home, devices=devices).result["history"]["loss"]
            if not np.isfinite(losses).all():
                return f"losses {losses}"
    return ""


if __name__ == "__main__":
    main()
