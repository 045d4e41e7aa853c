"""Fine-tuning before anything is trained: where a network is cut, and what that comes to."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from probe import backbones
from probe.commands.finetune import command
from probe.config import Home
from probe.errors import UnknownNameError, UsageError
from probe.finetune.cut import cut_network
from probe.finetune.plan import TuneJob, TuneSettings, prepare
from probe.studies.baselines import BASELINES
from probe.workspace.finetune import tune_keywords, tune_settings

HEAD8 = "F D1024 R B DO.5 D1024 R B DO.5 D512 R B DO.5"


@pytest.fixture(scope="module")
def network():
    """Untrained networks by name and size, built once."""
    built = {}

    def build(name, size=32):
        if (name, size) not in built:
            spec = backbones.resolve(
                name, size=size, weights="random", precision="fp32", home=Home(Path("unused"))
            )
            built[name, size] = backbones.build_network(spec)
        return built[name, size]

    return build


def cut(network, name, size=32, **choices):
    return cut_network(network(name, size), backbones.find_row(name).stages, **choices)


GOLDEN = [
    ("vgg16", 32, {}, "F D120 R", 15, 63_375, 14_714_688),
    ("resnet50", 32, {}, "F D120 R", 15, 247_695, 23_587_712),
    ("vgg16", 150, {}, "F D256 R DO.5", 2, 2_097_665, 14_714_688),
    (
        "vgg16",
        32,
        {"trunk": "block3_pool", "unfreeze": "block3"},
        f"C512k3s R {HEAD8}",
        10,
        12_895_050 - 260_160 - 2 * (1024 + 1024 + 512),
        260_160 + 2 * (1024 + 1024 + 512),
    ),
    (
        "vgg16",
        32,
        {"trunk": "block3_pool", "unfreeze": "block3"},
        "C512k3s R GAP",
        10,
        2_655_488 + 5_130,
        260_160,
    ),
]


@pytest.mark.parametrize(("name", "size", "choices", "head", "classes", "trainable", "frozen"), GOLDEN)
def test_parameters_are_those_of_the_studies(
    network, tmp_path, name, size, choices, head, classes, trainable, frozen
):
    job = TuneJob(
        replace_classes(classes),
        backbones.resolve(name, size=size, weights="random", precision="fp32", home=Home(tmp_path)),
        backbones.find_row(name),
        TuneSettings(head=head, **choices),
    )
    found = prepare(job, network(name, size), {"train": 10, "val": 0, "test": 0}, Home(tmp_path)).plan
    assert (found.trainable_params, found.frozen_params) == (trainable, frozen)
    assert found.params == trainable + frozen


def replace_classes(classes):
    from probe.datasets.dataset import Dataset

    none = np.array([], np.str_)
    return Dataset("d", none, none, np.array([], np.int32), none, tuple(map(str, range(classes))), None)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet50", 32), ("vgg16", 32), ("efficientnet-lite0", 32), ("nasnetmobile", 224)]
)
def test_every_stage_of_every_backbone_can_be_unfrozen(network, name, size):
    frozen = [cut(network, name, size, unfreeze=f"block{i}").frozen for i in range(1, 6)]
    assert frozen[0] == 0
    assert frozen == sorted(set(frozen))
    last = cut(network, name, size, unfreeze="block5")
    assert last.has_prefix
    assert 0 < last.trainable_params < last.params


def test_a_cut_across_nine_tensors_computes_what_the_network_does(network):
    whole = network("nasnetmobile", 224)
    found = cut(network, "nasnetmobile", 224, unfreeze="last:50")
    assert len(found.crossing) == 9
    assert sum(int(np.prod(shape)) for shape in found.shapes(224).values()) == 120_736
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    again = found.suffix()(found.prefix()(pixels))
    np.testing.assert_array_equal(np.array(again), np.array(whole(pixels)))


def test_resnet_cut_by_count_crosses_two_tensors_and_by_stage_one(network):
    assert len(cut(network, "resnet50", unfreeze="last:50").crossing) == 2
    assert cut(network, "resnet50", unfreeze="block5").crossing == ("conv4_block6_out",)


def test_the_pooled_output_is_a_place_to_cut_whatever_its_layer_is_called():
    """A store of a saved model calls its last layer ``avg_pool``, as every pooled output is called."""
    from probe.tensorflow_setup import keras

    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    inner = layers.Conv2D(2, 3, name="block1")(pixels)
    model = keras.Model(pixels, layers.GlobalAveragePooling2D(name="pooled")(inner))
    found = cut_network(model, {}, trunk="avg_pool", unfreeze="block1")
    assert found.trunk.layers[-1].name == "pooled"


def test_all_none_last_and_first_count_keras_layers(network):
    layers = len(network("vgg16").layers)
    assert cut(network, "vgg16", unfreeze="all").frozen == 0
    assert cut(network, "vgg16", unfreeze="none").frozen == layers
    assert cut(network, "vgg16", unfreeze="last:4").frozen == layers - 4
    assert cut(network, "vgg16", freeze="first:10").frozen == 10
    assert cut(network, "vgg16", unfreeze="block4_conv2").crossing == ("block4_conv1",)


def test_the_last_blocks_are_the_stages_that_are_called_so(network):
    for count, stage in ((1, "block5"), (2, "block4"), (5, "all"), (0, "none")):
        counted = cut(network, "vgg16", unfreeze=f"last:{count}blocks")
        assert counted.frozen == cut(network, "vgg16", unfreeze=stage).frozen
    within = cut(network, "vgg16", trunk="block3", unfreeze="last:1block")
    assert within.frozen == cut(network, "vgg16", trunk="block3", unfreeze="block3").frozen
    with pytest.raises(UsageError, match="no blocks of this network"):
        cut_network(network("vgg16"), {}, unfreeze="last:2blocks")


@pytest.mark.parametrize(
    ("choices", "error", "says"),
    [
        ({"unfreeze": "block6"}, UnknownNameError, "block1, block2"),
        ({"unfreeze": "block4", "trunk": "block3"}, UnknownNameError, "block3_pool"),
        ({"trunk": "blok3"}, UnknownNameError, "block3_pool"),
        ({"unfreeze": "last:9999"}, UsageError, "19 layers"),
        ({"unfreeze": "last:6blocks"}, UsageError, "N from 0 to 5: block1, block2"),
        ({"unfreeze": "last:2bricks"}, UnknownNameError, "last:Nblocks"),
        ({"freeze": "last:3"}, UsageError, "first:N"),
        ({"freeze": "first:3", "unfreeze": "all"}, UsageError, "exclude"),
    ],
)
def test_cuts_that_cannot_be_say_what_can(network, choices, error, says):
    with pytest.raises(error) as caught:
        cut(network, "vgg16", **choices)
    assert says in str(caught.value)


TUNED = [row for row in BASELINES.values() if row.commands and "finetune" in row.commands[-1]]


@pytest.mark.parametrize("row", TUNED, ids=lambda row: row.name)
def test_the_command_lines_of_the_studies_fit_their_networks(row, network, home):
    """Cut and head can be built on the backbone of the row, and come to the counts that it states."""
    choices = command.make_context("finetune", shlex.split(row.commands[-1])[2:]).params
    first = shlex.split(row.commands[0])
    name = choices["backbone"] or first[first.index("--backbone") + 1]
    job = TuneJob(
        replace_classes(row.classes),
        backbones.resolve(name, size=row.size, weights="random", precision="fp32", home=home),
        backbones.find_row(name),
        tune_settings(tune_keywords(choices), choices["trunk"]),
    )
    found = prepare(job, network(name, row.size), {"train": 10, "val": 0, "test": 0}, home).plan
    assert row.params in (None, found.params)
    assert row.trainable in (None, found.trainable_params)
