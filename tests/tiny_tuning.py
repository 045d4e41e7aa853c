"""A network that is tuned within seconds, and pictures for it."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np

from probe import backbones
from probe.datasets import open_dataset
from probe.extract import extract
from probe.finetune.material import open_material
from probe.finetune.plan import TuneJob, TuneSettings, prepare
from probe.train.rules import Optimiser


def write_material(path):
    """``tiny.keras``, with batch norm, dropout and a shortcut, and ``toy.npz``, whose val is its train."""
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((16, 16, 3))
    for i in (1, 2, 3):
        side = keras.layers.Conv2D(8, 1, name=f"side{i}")(x)
        x = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.Activation("relu", name=f"relu{i}")(x)
        x = keras.layers.Dropout(0.5, name=f"drop{i}")(x)
        x = keras.layers.Add(name=f"add{i}")([x, side])
    model = keras.Model(pixels, x)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith("bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, 8) for _ in range(4)])
    model.save(path / "tiny.keras")
    arrays = {}
    for split, seed, count in (("train", 0, 60), ("val", 0, 60), ("test", 1, 30)):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        noise = rng.normal(100, 50, (count, 16, 16, 3))
        arrays[f"{split}_images"] = np.clip(noise + 15 * labels[:, None, None, None], 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(path / "toy.npz", **arrays)
    return path


def tiny_job(folder, home, preprocess="unit", **choices):
    row = backbones.find_row(str(folder / "tiny.keras"))
    spec = backbones.resolve(
        str(folder / "tiny.keras"), preprocess=preprocess, outputs=["add3"], precision="fp32", home=home
    )
    settings = TuneSettings(**{"optimiser": Optimiser("adam", 1e-3), "epochs": 2, "batch_size": 8, **choices})
    return TuneJob(open_dataset(str(folder / "toy.npz"), home), spec, row, settings)


def extract_tiny(folder, home):
    """Extract in `home` what `tiny_job` is with two of its cuts tuned from; returns its folder."""
    job = tiny_job(folder, home)
    extract(job.images, home)
    for stage in ("conv2", "conv3"):
        job = tiny_job(folder, home, unfreeze=stage)
        ready = prepare(job, backbones.network_of(job.row, job.backbone), job.count_parts(), home)
        open_material(ready, home)
    return home.root


def trained(run):
    return keras.models.load_model(run.path / "network.keras")


def with_large_pictures(dataset):
    """The data set, indexed as if its pictures were JPEGs that are decoded at a fraction."""
    return replace(dataset, jpeg_sides=np.full(len(dataset), 4000, np.int32))
