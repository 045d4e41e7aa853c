"""The experiments by name: every row against its own facts."""

import subprocess
import sys

import numpy as np
import pytest

from probe.errors import UnknownNameError, UsageError
from probe.images.augment import parse_augment
from probe.networks import format_network, parse
from probe.studies.baselines import BASELINES, STUDIES
from probe.studies.recipe import NORMALISATIONS, override
from probe.studies.trainer import build_model
from probe.train.rules import DEFAULT_RATES, KEEP, MONITORS, Optimiser

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
    "pathmnist": [0.8649, 0.875, 0.8779, 0.90],
    "dogs-vs-cats": [0.70, 0.82, 0.90, 0.92, 0.96, 0.97],
    "scenes15": [],
    "fashion-mnist": [
        0.841, 0.839, 0.849, 0.847, 0.871, 0.868, 0.848, 0.9005, 0.9247,
        0.92159, 0.91864, 0.9033,
    ],
    "fashion-mnist-long": [0.9343],
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
    assert row.source.startswith(("EXPERIMENTS section", "arXiv 1708.07747", "zalandoresearch/fashion-mnist"))
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
    exp12 = BASELINES["cifar10/exp12"]
    assert (exp12.params, exp12.trainable) == (15_258_954, 14_991_626)
    assert BASELINES["dogs-vs-cats/features"].trainable == 2_097_665
    assert BASELINES["scenes15/vgg16"].trainable == 63_375
    assert BASELINES["scenes15/resnet50"].trainable == 247_695


def residual(tensor, layers):
    values = layers.Conv2D(64, 3, padding="same")(tensor)
    values = layers.ReLU()(layers.BatchNormalization()(values))
    values = layers.ReLU()(layers.Conv2D(256, 1)(values))
    return layers.Add()([values, tensor])


def normalised(tensor, layers, filters, kernel, **how):
    return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, kernel, **how)(tensor)))


def by_hand(name):
    """The networks of study B in Keras's own words."""
    from probe.tensorflow_setup import keras

    layers = keras.layers
    entry = keras.Input((32, 32, 3))
    if name == "basenet2.1":
        values = normalised(layers.Conv2D(32, 3)(entry), layers, 32, 3)
        values = normalised(layers.MaxPooling2D()(values), layers, 64, 3)
        values = layers.MaxPooling2D()(values)
    elif name == "basenet2.2":
        values = normalised(entry, layers, 256, 3, padding="same")
        values = normalised(values, layers, 128, 5, padding="same", strides=2)
        values = layers.UpSampling2D(interpolation="bilinear")(layers.MaxPooling2D()(values))
        values = normalised(values, layers, 256, 5, padding="same", strides=2)
        values = layers.MaxPooling2D()(normalised(values, layers, 512, 3, padding="same"))
    else:
        values = normalised(normalised(entry, layers, 256, 3), layers, 256, 5)
        values = residual(residual(layers.MaxPooling2D()(values), layers), layers)
        values = layers.MaxPooling2D(4)(normalised(values, layers, 128, 5, strides=2))
        assert values.shape[1:] == (1, 1, 128)
    values = layers.Dropout(0.4)(layers.Flatten()(values))
    return keras.Model(entry, layers.Dense(25, activation="softmax")(values))


@pytest.mark.parametrize("name", ["basenet2.1", "basenet2.2", "basenet2.3"])
def test_the_networks_of_study_b_are_those_written_by_hand(name):
    """Layer by layer the same shapes, and with the same weights the same answers."""
    same_answers(build_model(BASELINES[f"cifar100-b/{name}"]), by_hand(name))


def same_answers(ours, theirs):
    shapes = [[layer.output.shape for layer in model.layers] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    generator = np.random.default_rng(0)
    weights = [generator.uniform(0.01, 0.1, w.shape) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    pictures = generator.uniform(0, 1, (2, *ours.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(ours(pictures, training=False), theirs(pictures, training=False), rtol=1e-4)


def in_kerass_words(name):
    """Networks of Fashion-MNIST, as the programs of those who reported them have them."""
    from probe.tensorflow_setup import keras

    layers = keras.layers
    entry = keras.Input((28, 28, 1))
    if name == "cnn-83k":
        values = layers.ReLU()(layers.Conv2D(32, 5, padding="same")(entry))
        values = layers.ReLU()(layers.Conv2D(64, 5, padding="same")(layers.MaxPooling2D()(values)))
        values = layers.Flatten()(layers.MaxPooling2D()(values))
    elif name == "cnn-113k":
        values = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(32, 3)(entry)))
        values = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(32, 3)(values)))
        values = layers.Flatten()(layers.Dropout(0.25)(values))
        values = layers.Dropout(0.5)(layers.ReLU()(layers.Dense(128)(values)))
    else:
        values = layers.ReLU()(layers.Conv2D(64, 4, padding="same")(layers.BatchNormalization()(entry)))
        values = layers.Dropout(0.1)(layers.MaxPooling2D()(values))
        values = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(64, 4)(values)))
        values = layers.Flatten()(layers.Dropout(0.3)(values))
        values = layers.Dropout(0.5)(layers.ReLU()(layers.Dense(256)(values)))
        values = layers.BatchNormalization()(layers.ReLU()(layers.Dense(64)(values)))
    return keras.Model(entry, layers.Dense(10, activation="softmax")(values))


@pytest.mark.parametrize(
    ("name", "params", "trainable"),
    [("cnn-83k", 83_466, 83_466), ("cnn-113k", 113_386, 113_386), ("cnn-augmented", 493_902, 493_772)],
)
def test_the_networks_of_fashion_mnist_are_those_written_by_hand(name, params, trainable):
    """The counts are those that the sources print."""
    study = "fashion-mnist-long" if name == "cnn-augmented" else "fashion-mnist"
    ours, theirs = build_model(BASELINES[f"{study}/{name}"]), in_kerass_words(name)
    for model in (ours, theirs):
        counted = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        assert (model.count_params(), counted) == (params, trainable)
    same_answers(ours, theirs)


def test_pixels_and_stops_of_the_studies():
    """As their own programs have them."""
    assert BASELINES["cifar100-a/basenet"].normalise == "unit"
    assert BASELINES["cifar100-b/optimiser"].normalise == "unit"
    stops = {name: [(s.monitor, s.patience) for s in row.stops] for name, row in BASELINES.items()}
    assert stops["cifar10/exp1"] == [("loss", 15)]
    assert stops["cifar10/exp2"] == stops["cifar10/exp3"] == [("accuracy", 5)]
    study_b = [row for row in ROWS if row.study == "cifar100-b"]
    assert {(row.batch_size, row.keep, row.epochs) for row in study_b} == {(64, "val_loss", 30)}
    assert all(stops[row.name] == [("val_loss", 4)] for row in study_b)
    assert {row.keep for row in ROWS if row.study == "cifar10"} == {"val_accuracy"}
    assert not any("last epoch" in line for row in ROWS if row.study == "cifar10" for line in row.differs)


def test_how_the_trainings_of_the_studies_went():
    ran = BASELINES["cifar10/exp11"].ran
    assert (ran.epochs, ran.val_accuracy, ran.best_epoch) == (150, 0.9123, 135)
    assert all(row.ran for row in ROWS if row.study == "cifar10")


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
        "import sys, probe.studies.baselines, probe.studies.trainer, probe.studies.sweep;"
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
