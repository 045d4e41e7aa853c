"""The layers that are trained in bfloat16 beside Keras's own: same outputs, same gradients."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from probe import backbones
from probe.finetune import plan
from probe.finetune.plan import prepare
from probe.finetune.recompute import recomputed
from probe.networks.builder import clone
from tests.tiny_tuning import tiny_job

BF16 = "mixed_bfloat16"
KINDS = {"Conv2D": "ProductGradientConv2D", "BatchNormalization": "OnePassBatchNormalization"}


def signs(*shape, seed=0):
    """-1, 0 and 1: their sums are exact in whatever order and precision they are added."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)


def one_layer(layer, shape):
    pixels = keras.Input(shape)
    return keras.Model(pixels, layer(pixels))


def theirs(model, policy):
    """The same network with the layers of Keras itself."""
    copied = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": policy})
    )
    copied.set_weights(model.get_weights())
    return copied


def passed(model, values, *, training=False, upstream=None):
    """Output, the gradient of the input, and those of the weights, of sum(output * upstream)."""

    @tf.function
    def both_ways(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = model(values, training=training)
        weights = [weight.value for weight in model.trainable_weights]
        return output, *tape.gradient(output, [values, *weights], upstream)

    upstream = None if upstream is None else tf.cast(upstream, model.output.dtype)
    return [np.asarray(tf.cast(found, tf.float32)) for found in both_ways(tf.constant(values))]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("side", "kernel", "strides"),
    [(7, 1, 1), (7, 1, 2), (8, 1, 2), (8, 1, (3, 2)), (7, 3, 1), (6, (2, 5), 1), (13, 3, 1), (7, 3, 2)],
)
def test_a_convolution_of_whole_numbers_has_exactly_the_gradients_of_keras(side, kernel, strides, padding):
    layer = keras.layers.Conv2D(65, kernel, strides=strides, padding=padding, activation="relu")
    model = one_layer(layer, (side, side, 64))
    model.set_weights([signs(*model.weights[0].shape), signs(65, seed=1)])
    values = signs(2, side, side, 64, seed=2)
    ours = clone(model, BF16, trainable=True)
    assert type(ours.layers[1]).__name__ == KINDS["Conv2D"]
    upstream = signs(2, *model.output.shape[1:], seed=3)
    found = passed(ours, values, upstream=upstream)
    for mine, expected in zip(found, passed(theirs(model, BF16), values, upstream=upstream), strict=True):
        np.testing.assert_array_equal(mine, expected)
        assert expected.any()


@pytest.mark.parametrize("side", [7, 13])
def test_the_gradient_of_a_kernel_is_as_near_to_that_of_float32_as_that_of_keras(side):
    model = one_layer(keras.layers.Conv2D(64, 3, padding="same"), (side, side, 64))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, side, side, 64)).astype(np.float32)
    upstream = rng.normal(size=(4, side, side, 64)).astype(np.float32)
    # What bfloat16 holds exactly, so that the sums alone are compared.
    values, upstream = (np.array(tf.cast(tf.cast(a, tf.bfloat16), tf.float32)) for a in (values, upstream))
    true = passed(theirs(model, "float32"), values, upstream=upstream)[2]
    mine, keras_own = (
        np.abs(passed(found, values, upstream=upstream)[2] - true).max()
        for found in (clone(model, BF16, trainable=True), theirs(model, BF16))
    )
    assert mine <= 1.01 * keras_own


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_computes_what_that_of_keras_does(options, training):
    model = one_layer(keras.layers.BatchNormalization(**options), (6, 5, 16))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in model.weights])
    values = rng.normal(size=(4, 6, 5, 16)).astype(np.float32)
    upstream = rng.normal(size=values.shape).astype(np.float32)
    ours, keras_own = clone(model, BF16, trainable=True), theirs(model, BF16)
    assert type(ours.layers[1]).__name__ == KINDS["BatchNormalization"]
    both = [passed(net, values, training=training, upstream=upstream) for net in (ours, keras_own)]
    for mine, expected in zip(*(found[:2] for found in both), strict=True):
        # One rounding to bfloat16, of float32 that may differ by its own.
        np.testing.assert_allclose(mine, expected, rtol=2**-7, atol=1e-6)
        assert (mine == expected).mean() > 0.99
    for mine, expected in zip(*(found[2:] for found in both), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)
    for mine, expected in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("channels", [16, 64, 512])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 3, "padding": "same"}, {"use_bias": False}])
def test_a_batch_norm_within_the_convolution_before_it_is_as_near_to_float32_as_behind_it(options, channels):
    pixels = keras.Input((7, 7, channels))
    x = keras.layers.Conv2D(channels, **{"kernel_size": 1, **options})(pixels)
    model = keras.Model(pixels, keras.layers.BatchNormalization(name="bn")(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        spread = (rng.normal(0, 0.1, weight.shape), rng.uniform(0.5, 1.5, weight.shape))
        weight.assign(spread[weight.name in ("gamma", "moving_variance")])
    values, upstream = (rng.normal(size=(8, 7, 7, channels)).astype(np.float32) for _ in range(2))
    true, mine, apart = (
        passed(net, values, upstream=upstream)
        for net in (
            theirs(model, "float32"),
            clone(model, BF16, trainable=True),
            theirs(model, BF16),
        )
    )
    for exact, ours, keras_own in zip(true, mine, apart, strict=True):
        errors = [np.linalg.norm(found - exact) / np.linalg.norm(exact) for found in (ours, keras_own)]
        assert errors[0] <= max(errors[1], 2**-8)


def test_a_batch_norm_that_learns_or_cannot_be_part_of_a_convolution_stays_one(residual):
    layers, pixels = keras.layers, keras.Input((7, 7, 64))
    conv, norm = layers.Conv2D(64, 1), layers.BatchNormalization()
    x = layers.Conv2D(64, 1)(pixels)
    others = [
        keras.Model(pixels, layers.Add()([norm(x), norm(pixels)])),
        keras.Model(pixels, layers.BatchNormalization()(conv(conv(pixels)))),
        keras.Model(pixels, [layers.BatchNormalization()(x), x]),
        keras.Model(pixels, layers.BatchNormalization()(layers.Conv2D(64, 3, dilation_rate=2)(pixels))),
        keras.Model(pixels, layers.BatchNormalization(axis=1)(layers.Conv2D(64, 1)(pixels))),
        keras.Model(pixels, layers.BatchNormalization()(layers.Conv2D(64, 1, activation="relu")(pixels))),
    ]
    values = np.random.default_rng(0).normal(size=(4, 7, 7, 64)).astype(np.float32)
    for model, training in ((residual, True), *((other, False) for other in others)):
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.moving_variance.assign(np.linspace(0.5, 2, layer.moving_variance.shape[0]))
        ours, keras_own = clone(model, BF16, trainable=True), theirs(model, BF16)
        both = [tf.nest.flatten(net(values, training=training)) for net in (ours, keras_own)]
        for mine, expected in zip(*both, strict=True):
            mine, expected = (np.array(tf.cast(found, tf.float32)) for found in (mine, expected))
            np.testing.assert_allclose(mine, expected, rtol=2**-6, atol=2**-6)
            assert (mine == expected).mean() > 0.99
        for mine, expected in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, expected)


@pytest.fixture(scope="module")
def residual():
    """Two convolutions of different kinds, each with its batch norm, and a way around them."""
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((7, 7, 64))
    for size in (1, 3):
        x = keras.layers.Conv2D(64, size, padding="same")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(pixels, keras.layers.Add()([x, pixels]))


def test_in_float32_a_network_computes_the_very_bits_of_keras(residual):
    values = np.random.default_rng(0).normal(size=(4, 7, 7, 64)).astype(np.float32)
    ours = passed(clone(residual, "float32", trainable=True), values)
    for mine, expected in zip(ours, passed(theirs(residual, "float32"), values), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_what_is_computed_again_for_its_gradient_has_the_same(residual):
    values = np.random.default_rng(0).normal(size=(4, 7, 7, 64)).astype(np.float32)
    kept = clone(residual, BF16, trainable=True)
    pixels = keras.Input((7, 7, 64))
    again = keras.Model(pixels, recomputed(clone(residual, BF16, trainable=True), training=False)(pixels))
    for mine, expected in zip(passed(again, values), passed(kept, values), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_what_is_not_trained_is_of_keras_itself(residual):
    kinds = {type(layer).__name__ for layer in clone(residual, BF16, trainable=False).layers}
    assert kinds >= {*KINDS}
    assert kinds.isdisjoint(KINDS.values())


@pytest.mark.parametrize(
    ("precision", "unfreeze", "another"),
    [("bf16", "conv3", True), ("bf16", "none", False), ("fp32", "conv3", False)],
)
def test_trainings_that_they_round_otherwise_are_known_apart(
    tiny, begun, monkeypatch, precision, unfreeze, another
):
    job = tiny_job(tiny, begun, unfreeze=unfreeze)
    job = replace(job, backbone=replace(job.backbone, precision=precision))
    network, counts = backbones.network_of(job.row, job.backbone), job.count_parts()
    now = prepare(job, network, counts, begun).identity
    monkeypatch.setattr(plan, "BFLOAT16_LAYERS", plan.BFLOAT16_LAYERS + 1)
    assert (prepare(job, network, counts, begun).identity != now) == another


def test_a_penalty_on_what_a_convolution_gives_is_of_the_convolution_alone():
    pixels = keras.Input((7, 7, 64))
    layer = keras.layers.Conv2D(64, 3, padding="same", activity_regularizer=keras.regularizers.L2(1.0))
    model = keras.Model(pixels, keras.layers.BatchNormalization()(layer(pixels)))
    model.layers[2].set_weights([np.full(64, 3.0), np.ones(64), np.full(64, 0.5), np.full(64, 2.0)])
    values = signs(2, 7, 7, 64)
    found = []
    for net in (clone(model, BF16, trainable=True), theirs(model, BF16)):
        net(values, training=False)
        found.append(float(sum(net.losses)))
    assert found[0] == pytest.approx(found[1], rel=1e-3)
