"""A cut whose readers look at every second place: no other is computed once and kept."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from probe import backbones
from probe.config import Home
from probe.extract import extract
from probe.finetune.cut import cut_network
from probe.finetune.plan import prepare
from probe.finetune.prefix import extract_prefix
from probe.finetune.run import finetune
from probe.networks.builder import clone
from probe.store import open_store
from probe.train.rules import Optimiser
from tests.tiny_tuning import tiny_job, write_material


def strided(side=16, steps=(2, 2), **changes):
    """Two convolutions of one place above ``relu1``, each with its step, and their sum."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(16, 3, padding="same", name="conv1")(pixels)
    x = keras.layers.Activation("relu", name="relu1")(x)
    left, right = (
        keras.layers.Conv2D(16, **{"kernel_size": 1, "strides": step, **changes}, name=name)(x)
        for name, step in zip(("left", "right"), steps, strict=True)
    )
    ends = [keras.layers.GlobalAveragePooling2D()(some) for some in (left, right)]
    alike = left.shape == right.shape
    return keras.Model(pixels, keras.layers.Add(name="add3")([left, right] if alike else ends))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = write_material(tmp_path_factory.mktemp("strided"))
    strided().save(path / "tiny.keras")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


def prepared(folder, home, **choices):
    job = tiny_job(folder, home, **{"unfreeze": "left", **choices})
    return prepare(job, backbones.network_of(job.row, job.backbone), job.count_parts(), home)


@pytest.mark.parametrize(
    ("network", "step"),
    [
        ({}, 2),
        ({"side": 15, "steps": (3, 3)}, 3),
        ({"padding": "same"}, 2),
        ({"steps": (2, 1)}, 1),
        ({"steps": (2, 4)}, 1),
        ({"steps": ((2, 1), (2, 1))}, 1),
        ({"kernel_size": 2}, 1),
    ],
)
def test_every_so_many_places_are_kept_as_all_that_is_above_reads(network, step):
    model = strided(**network)
    cut = cut_network(model, {}, unfreeze="left")
    side = model.inputs[0].shape[1]
    assert cut.steps == {"relu1": step}
    assert cut.read_shapes(side) == {"relu1": (-(-side // step), -(-side // step), 16)}


def test_a_map_that_is_also_the_end_or_is_read_by_another_layer_is_kept_whole():
    model = strided()
    end = keras.Model(model.input, model.get_layer("relu1").output)
    assert cut_network(end, {}, unfreeze="none").steps == {"relu1": 1}
    middle = model.get_layer("relu1").output
    pooled = [keras.layers.GlobalMaxPooling2D()(some) for some in (middle, model.output)]
    both = keras.Model(model.input, keras.layers.Add()(pooled))
    assert cut_network(both, {}, unfreeze="left").steps == {"relu1": 1}


def test_the_cache_holds_the_very_values_at_those_places_under_a_name_of_its_own(folder, home):
    ready = prepared(folder, home)
    images = ready.job.images
    kept, _ = extract_prefix(images, ready.cut, home)
    backbone = replace(images.backbone, outputs=("relu1:map",))
    whole = replace(images, backbone=backbone, dtype="float16", internal=True)
    extract(whole, home)
    everything = open_store(whole.path(home))
    assert kept.path != everything.path
    rows = np.arange(len(kept.index.ids))
    mine, full = (store.features(store.outputs[0]).mapped(rows)[rows] for store in (kept, everything))
    assert mine.shape[1:] == ready.plan.crossing["relu1"] == (8, 8, 16)
    np.testing.assert_array_equal(mine, full[:, ::2, ::2])
    assert ready.plan.cache_bytes == mine.nbytes


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_stands_on_those_places_computes_what_the_network_does_on_all(folder, home, policy):
    suffix = prepared(folder, home).cut.suffix()
    values = np.random.default_rng(0).normal(size=(4, 16, 16, 16)).astype(np.float32)
    dense = clone(suffix, policy, trainable=True, inputs=keras.Input((8, 8, 16)), dense=["left", "right"])
    expected = clone(suffix, policy, trainable=True)(values)
    np.testing.assert_array_equal(np.array(dense(values[:, ::2, ::2])), np.array(expected))


def test_trained_on_them_it_is_the_network_that_is_trained_on_pictures(folder, home):
    runs = {}
    for cached in (True, False):
        gentle = {"optimiser": Optimiser("sgd", 1e-3), "prefix_cache": cached}
        job = tiny_job(folder, home, unfreeze="left", **gentle)
        runs[cached] = finetune(job, home)
    crossings = [runs[cached].result["plan"]["crossing"] for cached in (True, False)]
    assert crossings == [{"relu1": [8, 8, 16]}, {"relu1": [16, 16, 16]}]
    one, other = (keras.models.load_model(run.path / "network.keras") for run in runs.values())
    assert one.get_layer("left").strides == (2, 2)
    for mine, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-3)  # the cache is in float16
