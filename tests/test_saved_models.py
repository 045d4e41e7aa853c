"""A user's .keras file as a backbone: what of it is extracted, in which precision, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from probe.backbones import find_row, list_outputs, load, resolve
from probe.cli import cli
from probe.config import Home
from probe.errors import DataError, ProbeError, UsageError
from probe.store import find_store
from probe.tensorflow_setup import keras

HOME = Home(Path("no-such-home"))
SIDE = 12
layers = keras.layers


def noise(batch: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)


def picture(dtype: str = "float32") -> Any:
    return keras.Input((SIDE, SIDE, 3), dtype=dtype, name="picture")


def pooled(tensor: Any) -> Any:
    values = layers.Conv2D(4, 3, activation="relu", name="conv")(tensor)
    return layers.GlobalAveragePooling2D(name="pool")(values)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Some weights have features of zero for a picture of one colour."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for number in range(8):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def probe(tmp_path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), *arguments])


def saved(tmp_path: Path, model: Any) -> str:
    path = tmp_path / "model.keras"
    model.save(path)
    return str(path)


def softmax_in_the_dense_layer() -> Any:
    values = layers.Dense(3, activation="softmax", name="predictions")(pooled(entry := picture()))
    return keras.Model(entry, values)


def softmax_behind_it() -> Any:
    values = layers.Dense(3, name="scores")(pooled(entry := picture()))
    return keras.Model(entry, layers.Softmax()(values))


def activation_behind_it() -> Any:
    values = layers.Dense(1, name="scores")(pooled(entry := picture()))
    return keras.Model(entry, layers.Activation("sigmoid")(values))


def sequential_classifier() -> Any:
    return keras.Sequential(
        [
            picture(),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.mark.parametrize(
    "make", [softmax_in_the_dense_layer, softmax_behind_it, activation_behind_it, sequential_classifier]
)
def test_of_a_classifier_the_features_before_its_last_dense_layer_are_taken(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    model = make()
    spec = resolve(saved(tmp_path, model), preprocess="unit", precision="fp32", home=HOME)
    assert spec.outputs == ("pool",)
    expected = keras.Model(model.inputs, model.get_layer("pool").output).predict(
        noise() / np.float32(255), verbose=0
    )
    np.testing.assert_allclose(load(spec, batch_size=4)(noise())["pool"], expected, atol=1e-5)


def test_what_a_classifier_gives_is_said_and_stored(tmp_path: Path, photos: Path) -> None:
    path = saved(tmp_path, softmax_in_the_dense_layer())
    result = probe(tmp_path, "extract", "--backbone", path, "--preprocess", "unit", str(photos))
    assert result.exit_code == 0, result.output
    assert "the output is pool, which goes into the classifier predictions" in result.stderr
    assert find_store(Home(tmp_path / "home"), None).outputs == ["pool"]


def test_a_model_that_ends_in_features_keeps_its_end(tmp_path: Path) -> None:
    """A dense layer without probabilities is an embedding, and the end need not be the layer listed last."""
    entry = picture()
    features = layers.Dense(6, name="embedding")(pooled(entry))
    path = saved(tmp_path, keras.Model(entry, features))
    assert resolve(path, preprocess="unit", home=HOME).outputs == ("avg_pool",)
    assert [output.name for output in list_outputs(path, home=HOME)] == [
        "avg_pool",
        "conv",
        "pool",
        "embedding",
    ]


def test_several_outputs_have_to_be_chosen_from(tmp_path: Path) -> None:
    entry = picture()
    values = pooled(entry)
    model = keras.Model(entry, [layers.Dense(3, name="left")(values), layers.Dense(5, name="right")(values)])
    path = saved(tmp_path, model)
    with pytest.raises(UsageError, match="several outputs: left, right") as raised:
        resolve(path, preprocess="unit", home=HOME)
    assert "--outputs" in str(raised.value)
    spec = resolve(path, preprocess="unit", outputs=["left"], precision="fp32", home=HOME)
    expected = model.predict(noise() / np.float32(255), verbose=0)[0]
    np.testing.assert_allclose(load(spec, batch_size=4)(noise())["left"], expected, atol=1e-5)
    assert {"left", "right"} <= {output.name for output in list_outputs(path, home=HOME)}


def test_two_inputs_are_refused_before_a_picture_is_read(tmp_path: Path, photos: Path) -> None:
    entry, size = picture(), keras.Input((2,), name="size")
    values = layers.Dense(3, name="out")(layers.Concatenate()([pooled(entry), size]))
    path = saved(tmp_path, keras.Model([entry, size], values))
    result = probe(tmp_path, "extract", "--backbone", path, "--preprocess", "unit", str(photos))
    assert isinstance(result.exception, UsageError)
    assert "takes 2 inputs" in str(result.exception)
    assert "picture, size" in str(result.exception)
    assert not (tmp_path / "home" / "cache").exists()


def test_a_classifier_inside_a_nested_model_has_to_be_chosen_from(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")], name="head")
    path = saved(tmp_path, keras.Model(entry := picture(), inner(pooled(entry))))
    with pytest.raises(UsageError, match="inside the nested model head"):
        resolve(path, preprocess="unit", home=HOME)
    assert resolve(path, preprocess="unit", outputs=["pool"], home=HOME).outputs == ("pool",)


def test_a_model_of_whole_numbers_gets_the_pixels_themselves(tmp_path: Path) -> None:
    entry = picture("uint8")
    model = keras.Model(entry, pooled(layers.Rescaling(1 / 255)(entry)))
    path = saved(tmp_path, model)
    spec = resolve(path, precision="fp32", home=HOME)
    assert spec.preprocess == "none"
    expected = model.predict(noise(), verbose=0)
    assert expected.any()
    np.testing.assert_allclose(load(spec, batch_size=4)(noise())["avg_pool"], expected, atol=1e-5)
    with pytest.raises(UsageError, match="would be cut"):
        resolve(path, preprocess="tf", home=HOME)


@pytest.mark.parametrize(
    ("policy", "precision"), [("mixed_bfloat16", "bf16"), ("mixed_float16", "fp16"), ("float16", "fp16")]
)
def test_a_model_saved_in_half_precision_is_recorded_as_that(
    tmp_path: Path, policy: str, precision: str
) -> None:
    entry = picture()
    values = layers.Conv2D(4, 3, dtype=policy)(entry)
    model = keras.Model(entry, layers.GlobalAveragePooling2D(dtype="float32")(values))
    path = saved(tmp_path, model)
    spec = resolve(path, preprocess="unit", home=HOME)
    assert spec.precision == precision
    expected = model.predict(noise() / np.float32(255), verbose=0)
    np.testing.assert_allclose(load(spec, batch_size=4)(noise())["avg_pool"], expected, atol=1e-2)
    with pytest.raises(UsageError, match="the precision it was saved with"):
        resolve(path, preprocess="unit", precision="fp32", home=HOME)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.h5", "load_model"),
        ("model.tflite", "Keras model"),
        ("model.pt", "rebuild the network in Keras"),
        ("saved", "a SavedModel"),
    ],
)
def test_models_saved_in_other_ways_say_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"model")
    else:
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"model")
    with pytest.raises(UsageError, match=r"cannot be a backbone") as raised:
        find_row(str(path))
    assert says in str(raised.value)
    assert ".keras" in str(raised.value)


def constant(value: float) -> Any:
    """A model that says `value` of every picture."""
    entry = picture()
    dense = layers.Dense(3, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(value))
    return keras.Model(entry, dense(pooled(entry)))


def overflowing() -> Any:
    entry = picture()
    return keras.Model(entry, layers.Rescaling(1e38)(layers.Rescaling(1e38)(pooled(entry))))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: constant(0.0), "zeros in all rows"),
        (lambda: constant(0.7), "the same values in all rows"),
        (overflowing, "is not finite for"),
    ],
)
def test_features_that_cannot_be_right_stop_the_extraction(
    tmp_path: Path, photos: Path, make: Callable[[], Any], says: str
) -> None:
    path = saved(tmp_path, make())
    result = probe(tmp_path, "extract", "--backbone", path, "--preprocess", "unit", str(photos))
    assert isinstance(result.exception, DataError)
    assert says in str(result.exception)
    assert "--preprocess" in str(result.exception)
    with pytest.raises(ProbeError):
        find_store(Home(tmp_path / "home"), None)


def test_equal_pictures_may_have_equal_features(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), (90, 10, 200)).save(path)
    model = keras.Model(entry := picture(), pooled(entry))
    arguments = ["extract", "--backbone", saved(tmp_path, model), "--preprocess", "none"]
    result = probe(tmp_path, *arguments, str(tmp_path / "photos"))
    assert result.exit_code == 0, result.output


def test_black_pictures_may_have_features_of_zero(tmp_path: Path) -> None:
    path = tmp_path / "photos" / "a" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE)).save(path)
    result = probe(tmp_path, "extract", "--backbone", "pixels", str(tmp_path / "photos"))
    assert result.exit_code == 0, result.output
