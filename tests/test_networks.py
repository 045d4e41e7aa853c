"""Network strings: the notation, its errors, and the parameter counts of the published networks."""

import subprocess
import sys

import numpy as np
import pytest

from probe.errors import UsageError
from probe.networks import (
    Activation,
    Added,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool,
    Repeat,
    Residual,
    UpSample,
    expand,
    format_network,
    parse,
    replace_activation,
)
from probe.networks.builder import apply, build, clone, output_layer
from probe.tensorflow_setup import keras

CIFAR = (32, 32, 3)
EXP1 = "[C32 R C32 R P2] [C64 R C64 R P2] [[C128 R]x3 P2] F D256 R"
EXP3 = "[C32 R B]x2 P2 [C64 R B]x2 P2 [C128 R B]x3 P2 F D256 R B"
TAIL8 = "F [D1024 R B DO.5]x2 D512 R B DO.5"
EXP8 = f"[C64 R B]x2 P2 DO.5 [C128 R B]x2 P2 DO.5 [C256 R B]x3 P2 DO.5 {TAIL8}"
EXP11 = "[C64 R B]x3 P2 DO.5 [C128 R B]x3 P2 DO.5 [C256 R B]x3 P2 DO.5 [C512 R B]x2 DO.5 " + TAIL8

GOLDEN = {
    "exp0": ("C32k3s R P2 F D32 R", 10, 263_402),
    "exp1": (EXP1, 10, 961_706),
    "exp3": (EXP3, 10, 965_034),
    "exp8": (EXP8, 10, 7_525_194),
    "exp11": (EXP11, 10, 15_448_842),
    "basenet": ("C6k5v R P2 C16k5v R P2 F D50 R", 25, 24_197),
    "deeper": ("C6k5v R P2 C16k5v R C32k5v R P2 C64k3v R F D100 R D50 R", 25, 47_025),
    "smallkernel": ("C6k3v R P2 C16k3v R C32k3v R P2 C64k3v R F D100 R", 25, 84_409),
    "bn-after": ("C6k3v R B P2 C16k3v R B C32k3v R P2 C64k3v R F D100 R", 25, 84_497),
    "bn-before": ("C6k3v B R P2 C16k3v B R C32k3v R P2 C64k3v R F D100 R", 25, 84_497),
    "bn-fc": ("C6k3v R B P2 C16k3v R B C32k3v R P2 C64k3v R F D100 R B", 25, 84_897),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_parameter_counts(name):
    text, classes, params = GOLDEN[name]
    assert build(parse(text), CIFAR, classes).count_params() == params


def test_batch_norm_counts_its_frozen_statistics():
    model = build(parse(GOLDEN["bn-after"][0]), CIFAR, 25)
    assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == 44


def test_every_token_has_its_layer():
    network = parse("C8k5v/2 R T S L B P3 DO.25 F GAP GMP D7 U4 U2b RES16/2 [D3 B]x2 [D3 R]+")
    assert network == (
        Conv(8, 5, "valid", 2),
        Activation("relu"),
        Activation("tanh"),
        Activation("sigmoid"),
        Activation("linear"),
        BatchNorm(),
        MaxPool(3),
        Dropout(0.25),
        Flatten(),
        GlobalAveragePool(),
        GlobalMaxPool(),
        Dense(7),
        UpSample(4),
        UpSample(2, bilinear=True),
        Residual(16, 2),
        Repeat((Dense(3), BatchNorm()), 2),
        Added((Dense(3), Activation("relu"))),
    )


def test_what_a_convolution_leaves_unsaid():
    assert parse("C32") == parse("C32k3s") == parse("C32k3") == (Conv(32, 3, "same", 1),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C32k3s R P2 F D32 R",
        "[C8k3v/2 R DO.3]x2 GAP",
        "[[RES8 U2]x2 P2]x3 F DO0 D5 S",
        "[[C8k1s R]+ U2b]x2 GMP",
    ],
)
def test_format_is_the_inverse_of_parse(text):
    assert format_network(parse(text)) == text


def test_a_group_without_a_count_is_the_layers_themselves():
    assert parse("[C8 R][D3]") == parse("C8 R D3")


def test_expand_writes_repetitions_out():
    assert list(expand(parse("[[R B]x2 F]x2"))) == list(parse("R B R B F R B R B F"))


def test_replace_activation_reaches_into_groups_and_leaves_others():
    assert replace_activation(parse("C8 R [D3 R T]x2"), "tanh") == parse("C8 T [D3 T T]x2")
    assert replace_activation(parse("[C8 R]+"), "tanh") == parse("[C8 T]+")


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("C32 R Q7 F", "Q7"),
        ("C32 c16 F", "c16"),
        ("D0", "D0"),
        ("D99999999999999999999", "D99999999999999999999"),
        ("F DO1.5", "DO1.5"),
        ("F DO", "DO"),
        ("C32x3 F", "C32x3"),
        ("R ]x2", "]x2"),
        ("R [C8 R", "["),
        ("[]x2", "]x2"),
        ("[R]x0", "]x0"),
        ("[[R]x99]x99", "]x99"),
        ("[[[R]x99]+]x99", "]x99"),
        ("C8 []+", "]+"),
        ("U2c", "U2c"),
    ],
)
def test_an_error_points_at_the_token(text, token):
    with pytest.raises(UsageError) as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    shown, caret = lines[-2], lines[-1]
    start, width = caret.index("^"), caret.count("^")
    assert shown.endswith(text)
    assert shown[start : start + width] == token


@pytest.mark.parametrize(
    ("text", "shape", "says"),
    [
        ("C8 D5", CIFAR, "D5 needs a vector"),
        ("C8 R", CIFAR, "ends on a feature map"),
        ("F C8", CIFAR, "C8k3s needs a feature map"),
        ("P2 P2 C8k3v", (8, 8, 1), "nothing is left for C8k3v"),
        ("P4 P4 F", (8, 8, 1), "nothing is left for P4"),
        ("C8 [C9 R]+ GMP", CIFAR, "cannot be added to its input"),
        ("C8 [P2]+ GMP", CIFAR, "cannot be added to its input"),
        ("F GMP", CIFAR, "GMP needs a feature map"),
    ],
)
def test_layers_that_do_not_fit_are_said(text, shape, says):
    with pytest.raises(UsageError, match=says):
        build(parse(text), shape, 3)


def test_binary_head_of_dogs_vs_cats():
    model = build(parse("F D256 R DO.5"), (4, 4, 512), 2, binary=True)
    assert model.count_params() == 2_097_665
    assert model.output_shape == (None, 1)


def test_apply_puts_layers_on_an_existing_tensor():
    trunk = keras.Input((1, 1, 512))
    top = output_layer(apply(parse("F D120 R"), trunk, prefix="head_"), 15, prefix="head_")
    model = keras.Model(trunk, top)
    assert model.count_params() == 63_375
    assert all(layer.name.startswith("head_") for layer in model.layers[1:])


def test_mixed_precision_keeps_weights_and_output_in_float32():
    model = build(parse("C4 R B F D5 R"), (8, 8, 3), 3, dtype="mixed_bfloat16")
    hidden = model.layers[1]
    assert (hidden.compute_dtype, hidden.kernel.dtype) == ("bfloat16", "float32")
    assert model.output.dtype == "float32"


def test_l2_is_on_every_kernel_but_the_last():
    model = build(parse("C4 R RES4 F D5 R"), (8, 8, 3), 3, kernel_l2=0.01)
    assert len(model.losses) == 1 + 3 + 1


def test_the_seed_decides_the_weights_and_layers_do_not_share_them():
    first, again, other = (build(parse("D6 D6"), (6,), 3, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])
    assert not np.array_equal(first.get_weights()[0], first.get_weights()[2])


def test_residual_and_up_sampling_shapes():
    tensor = apply(parse("U2 C8k3s/2 RES16/2"), keras.Input((8, 8, 3)))
    assert tensor.shape == (None, 4, 4, 16)


def test_reading_a_string_does_not_import_keras():
    code = (
        "import sys, probe.networks; probe.networks.parse('C8 R');"
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ONE_PLACE_IN_FOUR = """
import numpy as np
from probe.networks.builder import build, clone
from probe.networks import parse
from probe.tensorflow_setup import keras
built = build(parse("C8 RES8/2 C4k1v/2 GAP"), (16, 16, 3), 3)
pixels = keras.Input((16, 16, 3))
given = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 1, strides=2)(pixels))
pictures, labels = np.ones((7, 16, 16, 3), np.float32), np.zeros(7, np.int32)
for model in (built, clone(keras.Model(pixels, given), "float32", trainable=True)):
    model.compile("sgd", "sparse_categorical_crossentropy")
    for _ in range(5):
        model.train_on_batch(pictures, labels)
"""


def test_what_ends_the_process_in_tensorflow_is_trained_by_another_way() -> None:
    """A kernel of one place with a stride of two on few channels, and an odd number of pictures."""
    assert subprocess.run([sys.executable, "-c", ONE_PLACE_IN_FOUR], check=False).returncode == 0


def test_places_that_are_picked_first_are_those_that_are_read() -> None:
    ours = build(parse("C4k1s/2 C5k1v/2 RES6/2 GAP"), (13, 18, 3), 3)
    pixels = x = keras.Input((13, 18, 3))
    relu, norm = keras.layers.ReLU(), keras.layers.BatchNormalization
    x = keras.layers.Conv2D(4, 1, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(5, 1, strides=2)(x)
    wide = relu(norm()(keras.layers.Conv2D(6, 3, strides=2, padding="same")(x)))
    wide = norm()(keras.layers.Conv2D(6, 3, padding="same")(wide))
    narrow = norm()(keras.layers.Conv2D(6, 1, strides=2, padding="same")(x))
    x = keras.layers.GlobalAveragePooling2D()(relu(wide + narrow))
    theirs = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    theirs.set_weights(ours.get_weights())
    pictures = np.random.default_rng(0).normal(size=(4, 13, 18, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(pictures), theirs(pictures), rtol=1e-5)
    copied = clone(theirs, "float32", trainable=True)
    np.testing.assert_allclose(copied(pictures), theirs(pictures), rtol=1e-5)
