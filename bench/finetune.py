"""An epoch of fine-tuning from the prefix cache beside an epoch of Keras ``fit`` with the same frozen layers.

For VGG16 from block5 and ResNet50 from block5 (conv5), at 224×224 and batch 32, interleaved in rounds:

* ``cache bf16``, ``cache fp32``  this program's training step on the stored activations, mapped from disk;
* ``keras fp32``, ``keras bf16``  the whole network in Keras, layers below the cut frozen, batch norm in
  inference, in float32 and under ``mixed_bfloat16``, on decoded pictures in memory;
* ``matmul bf16``, ``matmul fp32``  TensorFlow's product of two square matrices, whose rate is the peak that
  the steps are compared with.

Each side trains over the same number of pictures with the same optimiser, and has warmed up before. The
one-off extraction is stated beside it, and after how many epochs it has paid for itself. Weights are random:
speed does not depend on them.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import interleave, machine, paired_ratio, print_table, write_results
from probe import backbones
from probe.backbones import preprocess
from probe.backbones.backbone import BackboneSpec
from probe.config import Home
from probe.datasets import open_dataset
from probe.datasets.dataset import TRAIN
from probe.finetune.assembly import assemble
from probe.finetune.cut import Cut
from probe.finetune.material import cached_parts
from probe.finetune.plan import Prepared, TuneJob, TuneSettings, prepare, trains_in_bfloat16
from probe.finetune.prefix import extract_prefix
from probe.train.inputs import ArrayInputs, Part
from probe.train.rules import POLICIES, LoopSettings

SIZE, BATCH, CLASSES = 224, 32, 10
UNFREEZE = "block5"
BACKBONES = ("vgg16", "resnet50")
PRECISIONS = ("bf16", "fp32")
SIDE, PRODUCTS = 4096, 4
MATMUL_OPERATIONS = 2 * SIDE**3 * PRODUCTS
"""Floating-point operations of a round of ``matmul``."""


def main(quick: bool = False) -> None:
    facts = machine()
    images, rounds = (64, 2) if quick else (256, 3)
    rows = [_measure(name, images, rounds) for name in BACKBONES]
    print_table(f"fine-tuning {UNFREEZE}, ms an image and step (medians of {rounds} rounds)", rows)
    write_results("finetune", rows, {**facts, "images": images, "rounds": rounds, "quick": quick})


def _measure(name: str, images: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        pictures = _pictures(Path(folder) / "pictures.npz", images)
        dataset = open_dataset(str(Path(folder) / "pictures.npz"), home)
        fast = backbones.resolve(name, weights="random", precision="bf16", home=home)
        settings = TuneSettings(unfreeze=UNFREEZE, batch_size=BATCH)
        job = TuneJob(dataset, fast, backbones.find_row(name), settings)
        ready = prepare(job, backbones.build_network(fast), job.count_parts(), home)
        store, _ = extract_prefix(job.images, ready.cut, home)
        part = cached_parts(store)[TRAIN]
        sides: dict[str, Callable[[], Any]] = {}
        for precision in PRECISIONS:
            sides[f"cache {precision}"] = _cached(ready, part, precision)
        for precision in PRECISIONS:
            whole = backbones.build_network(fast)
            decoded = Part(pictures, part.labels)
            sides[f"keras {precision}"] = _whole(whole, ready.cut, decoded, fast, precision)
            sides[f"matmul {precision}"] = _matmul(precision)
        operations = _operations(assemble(ready).model)
        for run in sides.values():
            run()
        times = interleave(sides, rounds)
        once = store.manifest.facts["seconds"]
    peaks = {precision: times.pop(f"matmul {precision}") for precision in PRECISIONS}
    per_image = {side: 1000 * statistics.median(values) / images for side, values in times.items()}
    saved = (per_image["keras fp32"] - per_image["cache bf16"]) * images / 1000
    return {
        "backbone": name,
        **per_image,
        "keras fp32 / cache bf16": paired_ratio(times["keras fp32"], times["cache bf16"]),
        "keras fp32 / cache fp32": paired_ratio(times["keras fp32"], times["cache fp32"]),
        "keras bf16 / cache bf16": paired_ratio(times["keras bf16"], times["cache bf16"]),
        **{
            f"cache {precision}, of the peak": paired_ratio(peaks[precision], times[f"cache {precision}"])
            * (operations * images / MATMUL_OPERATIONS)
            for precision in PRECISIONS
        },
        **{
            f"peak {precision}, GFLOP/s": MATMUL_OPERATIONS / statistics.median(peaks[precision]) / 1e9
            for precision in PRECISIONS
        },
        "GFLOP an image and step": operations / 1e9,
        "extraction, ms an image": 1000 * once / images,
        "pays after epochs": once / saved,
    }


def _pictures(path: Path, images: int) -> Any:
    """(N, S, S, 3) uint8 noise, all in the training part but one picture of each class for validation."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(images) % CLASSES
    held = generator.integers(0, 256, (CLASSES, SIZE, SIZE, 3), dtype=np.uint8)
    np.savez(path, train_images=pictures, train_labels=labels, val_images=held, val_labels=np.arange(CLASSES))
    return pictures


def _cached(ready: Prepared, part: Part, precision: str) -> Callable[[], Any]:
    """The network above the cut, on the same stored activations at every precision."""
    job = replace(ready.job, backbone=replace(ready.job.backbone, precision=precision))
    model = assemble(replace(ready, job=job)).model
    one_pass = trains_in_bfloat16(job, ready.cut)
    settings = LoopSettings(job.settings.optimiser, epochs=1, keep="last", one_pass=one_pass)
    inputs = ArrayInputs(part, None, batch_size=BATCH, seed=0)
    return _epoch(model, inputs, settings.keras_optimiser(inputs.steps))


def _matmul(precision: str) -> Callable[[], Any]:
    import tensorflow as tf

    dtype = tf.bfloat16 if precision == "bf16" else tf.float32
    matrix = tf.cast(tf.random.normal((SIDE, SIDE), seed=0), dtype)

    @tf.function
    def multiply() -> Any:
        product = matrix
        for _ in range(PRODUCTS):
            product = tf.matmul(matrix, product)
        return product

    return lambda: multiply().numpy()


def _operations(model: Any) -> float:
    """Floating-point operations of a training step for one image, those of convolutions and dense layers.

    Forward once; backward once for the weights, and once for the input but where that is the model's own.
    """
    total = 0.0
    inputs = {id(tensor) for tensor in model.inputs}
    for layer in model.layers:
        if hasattr(layer, "inner"):
            total += _operations(layer.inner)
        elif hasattr(layer, "kernel"):
            places = int(np.prod(layer.output.shape[1:-1], dtype=np.int64))
            forward = 2.0 * places * int(np.prod(layer.kernel.shape))
            total += forward * (2 if id(layer.input) in inputs else 3)
    return total


def _whole(network: Any, cut: Cut, part: Part, spec: BackboneSpec, precision: str) -> Callable[[], Any]:
    """The network as people fine-tune it: layers frozen one by one, pooled, a softmax on top."""
    import keras
    import tensorflow as tf

    convention = preprocess.convention(spec.preprocess)
    for layer in network.layers:
        layer.dtype_policy = POLICIES[precision]
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name in {kept.name for kept in cut.trunk.layers[cut.frozen :]} and not is_norm
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    output = keras.layers.Dense(CLASSES, activation="softmax", dtype="float32")(pooled)

    def prepare(pixels: Any) -> Any:
        return convention.apply(tf.cast(pixels, tf.float32))

    inputs = ArrayInputs(part, None, batch_size=BATCH, seed=0, prepare=prepare)
    return _epoch(keras.Model(network.input, output), inputs, keras.optimizers.RMSprop(1e-5))


def _epoch(model: Any, inputs: ArrayInputs, optimiser: Any) -> Callable[[], Any]:
    model.compile(optimiser, "sparse_categorical_crossentropy")
    epochs = itertools.count()
    return lambda: model.fit(inputs.training(next(epochs)), shuffle=False, verbose=0)
