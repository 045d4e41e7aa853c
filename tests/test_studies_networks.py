"""The transfer experiments of the studies: their networks against Keras models written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.cli import cli
from probe.commands.transfer import parse_line
from probe.config import Home
from probe.errors import UsageError
from probe.heads import HEADS
from probe.heads.dense import DenseHead, DenseOptions
from probe.heads.head import Samples
from probe.networks import parse
from probe.networks.builder import apply, output_layer
from probe.studies.baselines import BASELINES
from probe.tensorflow_setup import keras

layers = keras.layers


def option(row: str, line: int, name: str, home: Home) -> Any:
    return parse_line(cli, BASELINES[row].commands[line], home).params[name]


def counts(model: Any) -> tuple[int, int]:
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return model.count_params(), trainable


def same_answers(ours: Any, theirs: Any, shape: tuple[int, ...]) -> None:
    """The same shapes layer by layer, and with the same weights the same probabilities."""
    assert [layer.output.shape for layer in ours.layers] == [layer.output.shape for layer in theirs.layers]
    generator = np.random.default_rng(0)
    weights = [generator.uniform(0.001, 0.02, weight.shape) for weight in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    inputs = generator.uniform(0, 1, (2, *shape)).astype(np.float32)
    np.testing.assert_allclose(ours(inputs, training=False), theirs(inputs, training=False), rtol=1e-4)


def normalised(values: Any, layer: Any) -> Any:
    return layers.BatchNormalization()(layers.ReLU()(layer(values)))


def test_exp12_is_vgg16_to_block3_with_the_head_of_the_study(home: Home) -> None:
    trunk = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    end = trunk.get_layer(option("cifar10/exp12", -1, "trunk", home)).output
    for layer in trunk.layers:
        layer.trainable = layer.name.startswith("block3")

    values = normalised(end, layers.Conv2D(512, 3, padding="same"))
    values = layers.Dropout(0.5)(normalised(values, layers.Conv2D(512, 3, padding="same")))
    values = layers.Flatten()(values)
    for units in (1024, 1024, 512):
        values = layers.Dropout(0.5)(normalised(values, layers.Dense(units)))
    theirs = keras.Model(trunk.input, layers.Dense(10, activation="softmax")(values))
    ours = keras.Model(
        trunk.input, output_layer(apply(parse(option("cifar10/exp12", -1, "head", home)), end), 10)
    )
    row = BASELINES["cifar10/exp12"]
    assert counts(ours) == counts(theirs) == (row.params, row.trainable)
    same_answers(ours, theirs, (32, 32, 3))


def test_the_convolutional_head_of_cub_200(home: Home) -> None:
    shape = (7, 7, 2048)
    entry = keras.Input(shape)
    values = layers.BatchNormalization()(layers.Conv2D(256, 3, padding="same")(entry))
    values = layers.BatchNormalization()(layers.Conv2D(256, 5, padding="same")(layers.ReLU()(values)))
    values = layers.Dropout(0.5)(layers.GlobalMaxPooling2D()(layers.ReLU()(values)))
    theirs = keras.Model(entry, layers.Dense(200, activation="softmax")(values))
    network = parse(option("cub200/b-conv", -1, "network", home))
    start = keras.Input(shape)
    ours = keras.Model(start, output_layer(apply(network, start), 200))
    trunk = 23_587_712
    row = BASELINES["cub200/b-conv"]
    assert counts(ours) == counts(theirs) == (row.params - trunk, row.trainable)
    same_answers(ours, theirs, shape)
    assert not option("cub200/b-conv", -1, "standardise", home)


def test_the_trunk_of_cub_200_has_its_counts() -> None:
    trunk = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert counts(trunk) == (23_587_712, 23_587_712 - 53_120)
    row = BASELINES["cub200/a-whole"]
    assert (row.params, row.trainable) == (23_587_712 + 2_048 * 200 + 200, 23_944_392)


@pytest.mark.parametrize(
    "name",
    ["cub200/a-whole", "cub200/a-freeze10", "cub200/b-two-stages", "pathmnist/last50"],
)
def test_batch_normalisation_is_trained_where_the_studies_train_it(name: str, home: Home) -> None:
    assert option(name, -1, "train_bn", home)


def pair(width: int, count: int = 12) -> Samples:
    """Two classes that differ in every feature, whose scale is not 1."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    features = generator.normal(5.0, 1.0, (count, width)) + 3.0 * labels[:, None]
    return Samples(features.astype(np.float32), labels)


def fitted(samples: Samples, options: DenseOptions) -> Any:
    return HEADS["dense"].fit(samples, samples, 2, options, refit=False)


def by_hand(features: NDArray[np.float32], head: DenseHead) -> NDArray[np.float32]:
    hidden = np.maximum(features @ head.kernels[0] + head.biases[0], 0)
    scores = (hidden @ head.kernels[1] + head.biases[1])[:, 1]
    return np.asarray(1 / (1 + np.exp(-scores)))


def test_the_dense_head_of_dogs_vs_cats(home: Home) -> None:
    """One sigmoid unit on the features as they are: 4·4·512·256 + 256 + 256 + 1 weights."""
    line = parse_line(cli, BASELINES["dogs-vs-cats/features"].commands[-1], home).params
    options = DenseOptions(
        hidden=line["hidden"],
        dropout=line["dropout"],
        sigmoid=line["sigmoid"],
        standardise=line["standardise"],
        epochs=1,
    )
    samples = pair(4 * 4 * 512)
    outcome = fitted(samples, options)
    assert outcome.chosen["params"] == BASELINES["dogs-vs-cats/features"].trainable == 2_097_665
    head = outcome.head
    assert isinstance(head, DenseHead)
    found = head.predict_proba(samples.features)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], by_hand(samples.features, head), rtol=1e-4, atol=1e-6)


def test_a_sigmoid_unit_learns_and_is_for_two_classes() -> None:
    samples = pair(3, 40)
    options = DenseOptions(dropout=0.0, hidden=(), sigmoid=True, epochs=8, learning_rate=0.3, batch_size=8)
    outcome = fitted(samples, options)
    assert (outcome.head.predict_proba(samples.features).argmax(axis=1) == samples.labels).all()
    assert outcome.history[0][-1]["accuracy"] == 1.0
    assert outcome.chosen["params"] == 4
    three = Samples(samples.features, np.arange(40) % 3)
    with pytest.raises(UsageError, match="two classes"):
        HEADS["dense"].fit(three, three, 3, options, refit=False)


def test_dropout_on_the_features_and_no_standardisation() -> None:
    samples = pair(5, 40)
    plain = fitted(samples, DenseOptions(hidden=(), dropout=0.0, epochs=2, standardise=False))
    assert isinstance(plain.head, DenseHead)
    assert (plain.head.mean == 0).all()
    assert (plain.head.scale == 1).all()
    dropped = fitted(
        samples, DenseOptions(hidden=(), dropout=0.0, epochs=2, standardise=False, input_dropout=0.5)
    )
    assert isinstance(dropped.head, DenseHead)
    assert not np.array_equal(plain.head.kernels[0], dropped.head.kernels[0])
    with pytest.raises(UsageError, match="dropout is a share"):
        DenseOptions(input_dropout=1.0)
