"""Weights updated in one compiled pass: what Keras's optimisers make of them, up to rounding."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from probe.train.one_pass import LARGE
from probe.train.rules import DEFAULT_RATES, LoopSettings, Optimiser

STEPS = 3


def after(settings):
    """A large and a small tensor after some steps with the same gradients, and what the optimiser keeps."""
    rng = np.random.default_rng(0)
    shapes = ((LARGE // 64, 64), (5,))
    weights = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    optimiser = settings.keras_optimiser(2)
    optimiser.build(weights)

    @tf.function(autograph=False)
    def step(*gradients):
        wide = [tf.cast(gradient, tf.float32) for gradient in gradients]
        optimiser.apply_gradients(zip(wide, weights, strict=True))

    for _ in range(STEPS):
        step(*(tf.cast(rng.normal(size=shape), tf.bfloat16) for shape in shapes))
    return [np.array(variable.value) for variable in (*weights, *optimiser.variables)]


@pytest.mark.parametrize(
    "optimiser",
    [
        *(Optimiser(name, rate) for name, rate in DEFAULT_RATES.items()),
        Optimiser("rmsprop", 1e-2, momentum=0.9, decay=0.1),
        Optimiser("sgd", 1e-2, momentum=0.9, nesterov=True, schedule="cosine"),
    ],
    ids=str,
)
def test_every_optimiser_moves_weights_as_that_of_keras_does(optimiser):
    keras_own = LoopSettings(optimiser, epochs=2, clip_norm=100.0 if optimiser.momentum else None)
    ours = replace(keras_own, one_pass=True)
    for mine, expected in zip(after(ours), after(keras_own), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-7)


def test_a_state_of_one_kind_of_update_is_not_continued_by_the_other():
    keras_own = LoopSettings(Optimiser(), epochs=2)
    assert "one_pass" not in keras_own.identity("x")
    assert json.loads(replace(keras_own, one_pass=True).identity("x"))[1]["one_pass"]


def test_several_devices_update_as_keras_does():
    settings = LoopSettings(Optimiser("adam"), epochs=2, one_pass=True)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert type(settings.keras_optimiser(2)) is keras.optimizers.Adam
