"""Less memory for more time: the same numbers from layers that are computed twice."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from probe.errors import UsageError
from probe.finetune.recompute import most_kept, recomputed, values_of
from probe.finetune.run import finetune, plan
from probe.train.rules import Optimiser
from tests.tiny_tuning import tiny_job, trained


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny


@pytest.fixture
def home(begun):
    return begun


def network():
    """Convolutions, batch norm and shortcuts, one of them over two blocks."""
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((12, 12, 3))
    before = None
    for i in range(6):
        side = keras.layers.Conv2D(4, 1, name=f"side{i}")(x)
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.Activation("relu", name=f"relu{i}")(x)
        x = keras.layers.Add(name=f"add{i}")([x, side] if i != 4 else [x, side, before])
        before = x if i == 2 else before
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))


def stepping(layer, weights, wanted):
    """A step of training as the loop traces it: pictures -> loss and gradients."""

    @tf.function
    def step(pictures):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(pictures) - wanted) ** 2)
        return loss, tape.gradient(loss, [weight.value for weight in weights])

    return step


@pytest.mark.parametrize("training", [False, True])
def test_gradients_and_statistics_are_those_of_the_plain_network(training):
    rng = np.random.default_rng(0)
    pictures = tf.constant(rng.normal(size=(6, 12, 12, 3)), tf.float32)
    wanted = tf.constant(rng.normal(size=(6, 4)), tf.float32)
    found = []
    for again in (False, True):
        model = network()
        layer = recomputed(model, training=training) if again else lambda x, m=model: m(x, training=training)

        step = stepping(layer, model.trainable_variables, wanted)
        loss, gradients = step(pictures)
        statistics = [weight.numpy() for weight in model.non_trainable_variables]
        found.append((loss.numpy(), [gradient.numpy() for gradient in gradients], statistics))
    (loss, gradients, statistics), (again_loss, again_gradients, again_statistics) = found
    assert again_loss == pytest.approx(loss, rel=1e-6)
    assert len(gradients) == len(again_gradients)
    for one, other in zip(gradients + statistics, again_gradients + again_statistics, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    fresh = network().non_trainable_variables
    moved = [not np.array_equal(one, other.numpy()) for one, other in zip(statistics, fresh, strict=True)]
    assert any(moved) is training


def test_less_is_kept_and_every_layer_is_in_one_part():
    model = network()
    whole = sum(map(values_of, model.layers))
    assert most_kept(model, model.layers) < 0.7 * whole
    assert recomputed(model, training=True)(np.zeros((1, 12, 12, 3), np.float32)).shape == (1, 4)


def test_a_training_ends_with_the_weights_of_one_that_keeps_everything(folder, home):
    choices = {"unfreeze": "conv2", "optimiser": Optimiser("sgd", 1e-3), "epochs": 1, "keep": "last"}
    plain = trained(finetune(tiny_job(folder, home, **choices), home))
    again = trained(finetune(tiny_job(folder, home, **choices, recompute=True), home))
    for one, other in zip(plain.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_random_numbers_that_would_be_drawn_twice_are_refused(folder, home):
    with pytest.raises(UsageError, match="drop2 draws random numbers"):
        finetune(tiny_job(folder, home, unfreeze="conv2", train_bn=True, recompute=True), home)


def test_the_plan_says_less_memory(folder, home):
    few, all_ = (plan(tiny_job(folder, home, unfreeze="all", recompute=r), home) for r in (True, False))
    assert few.memory_bytes < all_.memory_bytes


LARGE = """
import sys
import numpy as np
from probe.machine import return_large_buffers
if sys.argv[1] == "back":
    return_large_buffers()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
# Large buffers that come and go make the C library keep what is a little smaller.
del (first := [np.ones(30 << 20, np.uint8) for _ in range(3)])[:]
some = [np.ones(8 << 20, np.uint8) for _ in range(16)]
last = np.ones(100_000, np.uint8)
held = resident()
del some
print(held - resident())
"""


def test_buffers_go_back_to_the_system_when_they_are_freed():
    kept, back = (
        int(subprocess.run([sys.executable, "-c", LARGE, how], check=True, capture_output=True).stdout)
        for how in ("kept", "back")
    )
    assert back > 120 << 20 > kept


TENSORS = """
from probe.machine import return_large_buffers
from probe.signals import interrupt_work
interrupt_work()
return_large_buffers()
from probe.tensorflow_setup import tf
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
some = [tf.random.uniform((4 << 20,)) for _ in range(16)]
held = resident()
del some
print(held - resident())
"""


def test_tensors_go_back_to_the_system_when_they_are_freed():
    back = int(subprocess.run([sys.executable, "-c", TENSORS], check=True, capture_output=True).stdout)
    assert back > 240 << 20
