"""The experiments by name: every row against its own facts."""

import subprocess
import sys

import numpy as np
import pytest

from probe.errors import UnknownNameError, UsageError
from probe.images.augment import parse_augment
from probe.networks import format_network, parse
from probe.train.baselines import BASELINES, STUDIES
from probe.train.recipe import (
    DEFAULT_RATES,
    KEEP,
    MONITORS,
    NORMALISATIONS,
    Optimiser,
    override,
)
from probe.train.trainer import build_model

ROWS = list(BASELINES.values())
TRAINED = [row for row in ROWS if row.kind != "transfer"]
TRANSFER = [row for row in ROWS if row.kind == "transfer"]

PUBLISHED = {
    "cifar10": [
        0.6058, 0.7476, 0.7688, 0.7629, 0.8125, 0.8494, 0.8697,
        0.8230, 0.8620, 0.8604, 0.8949, 0.8771, 0.9074, 0.8591,
    ],
    "cifar100-a": [
        0.394, 0.3788, 0.4528, 0.4068, 0.386, 0.4012, 0.4224,
        0.478, 0.5064, 0.5056, 0.52, 0.5244, 0.4936, 0.58,
    ],
    "cifar100-b": [0.2670, 0.2438, 0.2223, 0.2162, 0.0796, 0.0522, 0.4948, 0.6252, 0.6908, 0.6784],
    "cub200": [0.3426, 0.3699, 0.4039, 0.1497, 0.4421, 0.4309, 0.4467, 0.4355, 0.4643, 0.4824],
    "pathmnist": [0.8649, 0.8779],
    "dogs-vs-cats": [0.70, 0.82, 0.90, 0.92],
    "scenes15": [],
}  # fmt: skip


def name_of(row):
    return row.name


@pytest.mark.parametrize("study", PUBLISHED)
def test_every_published_figure_has_its_row(study):
    rows = [row for row in ROWS if row.study == study]
    assert rows
    assert [published.accuracy for row in rows for published in row.published] == PUBLISHED[study]


def test_there_are_no_other_studies():
    assert set(STUDIES) == set(PUBLISHED)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_says_only_what_there_is(row):
    assert row.summary
    assert row.source.startswith("EXPERIMENTS section")
    assert row.normalise in NORMALISATIONS
    assert row.keep in KEEP
    assert row.optimiser.name in DEFAULT_RATES
    assert {stop.monitor for stop in row.stops} <= set(MONITORS)
    assert row.reduce_lr is None or row.reduce_lr.monitor in MONITORS
    parse_augment(row.augment)
    assert all(0 < published.accuracy < (published.high or 1) for published in row.published)


@pytest.mark.parametrize("row", TRAINED, ids=name_of)
def test_a_row_builds_to_its_golden_counts(row):
    model = build_model(row)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert model.count_params() == row.params
    assert row.trainable in (None, trainable)
    assert format_network(parse(row.network))


@pytest.mark.parametrize("row", TRANSFER, ids=name_of)
def test_a_transfer_row_names_its_commands_and_is_not_trained(row):
    assert all(command.startswith("probe ") for command in row.commands)
    with pytest.raises(UsageError) as caught:
        build_model(row)
    assert row.commands[-1] in str(caught.value)


@pytest.mark.parametrize("row", [row for row in ROWS if row.sweep], ids=name_of)
def test_a_sweep_row_can_be_set_to_each_of_its_values(row):
    for field, values in row.sweep:
        changed = [override(row, {field: value}) for value in values]
        assert len({str(recipe.settings()) for recipe in changed}) == len(values)
        labels = {published.label for published in row.published}
        assert labels <= {f"{field}={value}" for value in values}


def test_golden_counts_of_the_transfer_networks():
    assert BASELINES["cifar10/exp12"].params == 12_895_050
    assert BASELINES["dogs-vs-cats/features"].trainable == 2_097_665
    assert BASELINES["scenes15/vgg16"].trainable == 63_375
    assert BASELINES["scenes15/resnet50"].trainable == 247_695


def test_the_order_of_changes_does_not_matter():
    row = BASELINES["cifar10/exp6"]
    changes = {
        "lr": "0.05",
        "optimiser": "sgd",
        "schedule": "cosine",
        "activation": "tanh",
        "network": "C8 R F",
    }
    one, other = override(row, changes), override(row, dict(reversed(changes.items())))
    assert one == other
    assert one.optimiser == Optimiser("sgd", 0.05, schedule="cosine")
    assert one.network == "C8k3s T F"


def test_a_changed_recipe_has_no_golden_count_and_no_published_figure():
    changed = override(BASELINES["cifar10/exp1"], {"batch_size": "8"})
    assert (changed.batch_size, changed.params, changed.published) == (8, None, ())
    assert override(BASELINES["cifar10/exp1"], {}) == BASELINES["cifar10/exp1"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batchsize", "8"),
        ("batch_size", "0"),
        ("batch_size", "8.5"),
        ("lr", "fast"),
        ("lr", "nan"),
        ("schedule", "sawtooth"),
        ("optimiser", "adamw2"),
        ("activation", "gelu"),
        ("augment", "flop"),
        ("normalise", "zscore"),
        ("network", "C8 Q"),
    ],
)
def test_a_change_that_cannot_be_is_said(field, value):
    with pytest.raises(UsageError):
        override(BASELINES["cifar10/exp1"], {field: value})


def test_an_unknown_baseline_names_the_nearest():
    with pytest.raises(UnknownNameError, match="exp11"):
        BASELINES["cifar10/exp13"]


def test_listing_the_baselines_imports_no_tensorflow():
    code = (
        "import sys, probe.train.baselines, probe.train.trainer, probe.train.sweep;"
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
