"""ONNX files as backbones: read, refused, computed by both engines, extracted, fitted and predicted with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from probe.backbones import build_network, list_outputs, load, preprocess, resolve
from probe.config import Home
from probe.errors import ProbeError, UnknownNameError, UsageError, WeightsError
from probe.store import find_store
from tests.onnx_files import cnn, transformer, value, weight, write
from tests.shell import PHOTOS, Shell

HOME = Home(Path("no-such-home"))
ENGINES = ("onnxruntime", "openvino")
PYTORCH = Path(__file__).parent / "pytorch"
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def features(
    path: Path, *outputs: str, batch: int = 4, pixels: Any = PIXELS, **choices: Any
) -> list[NDArray[Any]]:
    choices = {"preprocess": "imagenet", "precision": "fp32", **choices}
    spec = resolve(str(path), outputs=outputs or None, home=HOME, **choices)
    return list(load(spec, batch_size=batch)(pixels).values())


def reference(path: Path, *names: str, preprocessing: str = "imagenet", layout: str = "NCHW") -> list[Any]:
    """What onnxruntime says of the file as it is."""
    values = preprocess.convention(preprocessing).apply(PIXELS.astype(np.float32))
    values = values.transpose(0, 3, 1, 2) if layout == "NCHW" else values
    found: list[Any] = onnxruntime.InferenceSession(path).run(list(names), {"pixels": values})
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_maps_are_pooled_or_kept_in_one_layout(tmp_path: Path, layout: str, engine: str) -> None:
    path, name = cnn(tmp_path / "mine.onnx", layout=layout), "features" if layout == "NCHW" else "last"
    (expected,) = reference(path, name, layout=layout)
    expected = expected.transpose(0, 2, 3, 1) if layout == "NCHW" else expected
    pooled, whole = features(path, name, f"{name}:map", engine=engine)
    assert whole.shape == (4, 4, 4, 8)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_allclose(pooled, expected.mean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_networks_that_pytorch_wrote_are_computed_as_pytorch_does(engine: str) -> None:
    """Files of both of its exporters, with weights in a file of their own and with a batch of any size."""
    with np.load(PYTORCH / "computed.npz") as arrays:
        computed = dict(arrays)
    shown = {"preprocess": "unit", "engine": engine, "batch": 2, "pixels": computed["pixels"]}
    first, mean, tokens = features(PYTORCH / "vit.onnx", "tokens:cls", "tokens:mean", "tokens:map", **shown)
    np.testing.assert_allclose(first, computed["tokens"][:, 0], atol=1e-5)
    np.testing.assert_allclose(mean, computed["tokens"][:, 1:].mean(1), atol=1e-5)
    np.testing.assert_allclose(tokens, computed["tokens"], atol=1e-5)
    pooled, whole, logits = features(PYTORCH / "cnn.onnx", "map", "map:map", "logits", **shown)
    np.testing.assert_allclose(pooled, computed["map"].mean((2, 3)), atol=1e-5)
    np.testing.assert_allclose(whole, computed["map"].transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(logits, computed["logits"], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_tensors_inside_are_outputs_by_either_spelling(tmp_path: Path, engine: str) -> None:
    """Their layout is that of the operator, whatever the layout of the file's own input."""
    path = cnn(tmp_path / "mine.onnx", layout="NHWC")
    named = [output.name for output in list_outputs(str(path), home=HOME)]
    assert named == ["last", "first", "stem_Conv_output_0", "stem_Relu_output_0", "features"]
    whole, last = features(path, "/stem/Relu_output_0:map", "last", engine=engine)
    assert (whole.shape, last.shape) == ((4, 8, 8, 4), (4, 8))
    (same,) = features(path, "stem_Relu_output_0:map", engine=engine)
    np.testing.assert_array_equal(same, whole)
    spec = resolve(str(path), preprocess="unit", outputs=["/stem/Relu_output_0"], home=HOME)
    assert spec.outputs == ("stem_Relu_output_0",)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_are_pooled_or_kept(tmp_path: Path, engine: str, registers: int) -> None:
    path = transformer(tmp_path / "vit.onnx", registers=registers)
    (expected,) = reference(path, "last_hidden_state")
    asked = [f"last_hidden_state:{form}" for form in ("cls", "mean", "map")]
    cls, mean, tokens = features(path, *asked, engine=engine)
    np.testing.assert_allclose(tokens, expected, atol=1e-5)
    np.testing.assert_allclose(cls, expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(mean, expected[:, 1 + registers :].mean(1), atol=1e-5)
    assert resolve(str(path), preprocess="unit", home=HOME).outputs == ("last_hidden_state:cls",)
    with pytest.raises(UsageError, match="has tokens") as raised:
        features(path, "last_hidden_state")
    assert "last_hidden_state:cls or last_hidden_state:mean" in str(raised.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", ["cnn", "transformer"])
def test_the_bits_do_not_depend_on_neighbours_order_or_batch(tmp_path: Path, engine: str, path: str) -> None:
    file = cnn(tmp_path / "a.onnx", end="pool") if path == "cnn" else transformer(tmp_path / "a.onnx")
    (whole,) = features(file, engine=engine)
    (turned,) = features(file, engine=engine, pixels=PIXELS[::-1])
    (pair,) = features(file, engine=engine, pixels=PIXELS[1:3], batch=2)
    np.testing.assert_array_equal(turned[::-1], whole)
    np.testing.assert_array_equal(pair, whole[1:3])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_for_a_fixed_number_of_pictures_is_called_as_often_as_it_takes(
    tmp_path: Path, engine: str
) -> None:
    path = cnn(tmp_path / "three.onnx", batch=3, end="pool")
    free = cnn(tmp_path / "any.onnx", end="pool")
    np.testing.assert_allclose(features(path, engine=engine)[0], features(free, engine=engine)[0], atol=1e-6)


def test_a_size_that_is_left_open_has_to_be_given(tmp_path: Path) -> None:
    path = cnn(tmp_path / "open.onnx", side="side", end="pool")
    with pytest.raises(UsageError, match="leaves its input size open"):
        features(path)
    (found,) = features(path, size=16)
    (fixed,) = features(cnn(tmp_path / "fixed.onnx", end="pool"))
    np.testing.assert_array_equal(found, fixed)
    with pytest.raises(UsageError, match="does not take pictures of 32 pixels"):
        features(cnn(tmp_path / "fixed.onnx"), size=32)


def test_whole_numbers_are_given_as_they_are(tmp_path: Path) -> None:
    path = cnn(tmp_path / "whole.onnx", kind=TensorProto.UINT8, end="pool")
    (found,) = features(path, preprocess=None)
    session = onnxruntime.InferenceSession(path)
    (expected,) = session.run(["pooled"], {"pixels": PIXELS.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(UsageError, match="takes whole numbers"):
        features(path, preprocess="imagenet")


def test_of_a_classifier_the_features_before_its_last_layer_are_taken(tmp_path: Path) -> None:
    assert resolve(str(cnn(tmp_path / "a.onnx", end="softmax")), preprocess="unit", home=HOME).outputs == (
        "pooled",
    )
    assert resolve(str(cnn(tmp_path / "b.onnx", end="scores")), preprocess="unit", home=HOME).outputs == (
        "scores",
    )


def test_several_outputs_have_to_be_chosen_from(tmp_path: Path) -> None:
    path = transformer(tmp_path / "two.onnx", pooler=True)
    with pytest.raises(UsageError, match="several outputs: last_hidden_state, pooler_output"):
        features(path)
    assert features(path, "pooler_output")[0].shape == (4, 6)
    with pytest.raises(UnknownNameError, match="pooler_ouput"):
        features(path, "pooler_ouput")
    with pytest.raises(UsageError, match="pooler_output:cls"):
        features(path, "pooler_output:cls")


SIDE_FILES: dict[str, tuple[str, Any, str]] = {
    "by a convention": ("mine.json", {"preprocess": "imagenet"}, "imagenet"),
    "by statistics": (
        "mine.onnx.json",
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]},
        "standardise:127.5,127.5,127.5:127.5,63.75,127.5",
    ),
    "of pixel values": (
        "mine.json",
        {"mean": [100, 100, 100], "std": [50, 50, 50], "scale": 1},
        "standardise:100,100,100:50,50,50",
    ),
    "of Hugging Face": (
        "preprocessor_config.json",
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255, "size": {"height": 16}},
        "standardise:127.5,127.5,127.5:127.5,127.5,127.5",
    ),
    "of Hugging Face, unnormalised": (
        "preprocessor_config.json",
        {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        "standardise:0,0,0:255,255,255",
    ),
}


@pytest.mark.parametrize("case", SIDE_FILES)
def test_a_file_beside_it_says_what_values_it_takes(tmp_path: Path, case: str) -> None:
    name, said, convention = SIDE_FILES[case]
    path = cnn(tmp_path / "mine.onnx")
    with pytest.raises(UsageError, match="cannot be known from the file"):
        features(path, preprocess=None)
    (tmp_path / name).write_text(json.dumps(said))
    assert resolve(str(path), home=HOME).preprocess == convention
    assert resolve(str(path), preprocess="unit", home=HOME).preprocess == "unit"
    (tmp_path / "elsewhere").mkdir()
    moved = cnn(tmp_path / "elsewhere" / "other.onnx")
    assert resolve(str(moved), preprocess=str(tmp_path / name), home=HOME).preprocess == convention


def test_a_file_beside_it_may_say_size_and_output(tmp_path: Path) -> None:
    path = transformer(tmp_path / "vit.onnx")
    (tmp_path / "vit.json").write_text(json.dumps({"preprocess": "unit", "output": "last_hidden_state:mean"}))
    assert resolve(str(path), home=HOME).outputs == ("last_hidden_state:mean",)
    free = cnn(tmp_path / "free.onnx", side="side")
    (tmp_path / "free.json").write_text(json.dumps({"preprocess": "unit", "size": 24}))
    assert resolve(str(free), home=HOME).size == 24


@pytest.mark.parametrize(
    "said", ["{", "[]", '{"mean": [1, 2]}', '{"means": [1, 2, 3]}', '{"preprocess": "no"}']
)
def test_a_file_that_describes_nothing_is_refused(tmp_path: Path, said: str) -> None:
    path = cnn(tmp_path / "mine.onnx")
    (tmp_path / "mine.json").write_text(said)
    with pytest.raises((UsageError, UnknownNameError)):
        resolve(str(path), home=HOME)


def test_weights_in_other_files_are_part_of_the_identity(tmp_path: Path) -> None:
    beside = {"save_as_external_data": True, "location": "mine.data", "size_threshold": 0}
    path = cnn(tmp_path / "mine.onnx", end="pool", **beside)
    spec = resolve(str(path), preprocess="imagenet", home=HOME)
    (inline,) = features(cnn(tmp_path / "inline.onnx", end="pool"))
    for engine in ENGINES:
        np.testing.assert_allclose(features(path, engine=engine)[0], inline, atol=1e-6)
    data = tmp_path / "mine.data"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    with pytest.raises(WeightsError, match="not the weights"):
        load(spec, batch_size=1)
    assert resolve(str(path), preprocess="imagenet", home=HOME).weights != spec.weights
    data.unlink()
    with pytest.raises(WeightsError, match="not all here"):
        features(path)


@pytest.mark.parametrize("place", ["../outside.data", "link.data"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside.data").write_bytes(bytes(10_000))
    (folder / "link.data").symlink_to(tmp_path / "outside.data")
    path = cnn(folder / "mine.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, place, offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="outside its folder"):
        features(path)


def two_inputs(path: Path) -> Path:
    node = helper.make_node("Add", ["a", "b"], ["c"])
    shape = ["batch", 3, 16, 16]
    return write(path, [node], [value("a", shape), value("b", shape)], [value("c", shape)], [])


def no_picture(path: Path) -> Path:
    node = helper.make_node("MatMul", ["a", "w"], ["b"])
    return write(path, [node], [value("a", ["batch", 5])], [value("b", ["batch", 2])], [weight("w", 5, 2)])


def oblong(path: Path) -> Path:
    node = helper.make_node("Relu", ["a"], ["b"])
    shape = ["batch", 3, 16, 32]
    return write(path, [node], [value("a", shape)], [value("b", shape)], [])


def garbage(path: Path) -> Path:
    path.write_bytes(b"no network at all" * 9)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "takes 2 inputs"),
        (no_picture, "does not take pictures"),
        (oblong, "does not take pictures"),
        (garbage, "not an ONNX file"),
        (empty, "takes 0 inputs"),
        (lambda path: path, "there is no file"),
    ],
)
def test_what_is_no_network_for_pictures_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        features(make(tmp_path / "mine.onnx"))


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cnn(tmp_path / "mine.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProbeError, match="not installed") as raised:
        resolve(str(path), preprocess="unit", home=HOME)
    assert "pip install 'probe[onnx]'" in str(raised.value)


def test_it_cannot_be_trained_on(tmp_path: Path) -> None:
    spec = resolve(str(cnn(tmp_path / "mine.onnx")), preprocess="unit", home=HOME)
    with pytest.raises(UsageError, match="computed as it is"):
        build_network(spec)


def test_from_photographs_to_predictions(tmp_path: Path, shell: Shell) -> None:
    path = transformer(tmp_path / "dinov2.onnx")
    assert "last_hidden_state" in shell("extract", "--backbone", path, "--outputs", "list", PHOTOS)
    shell("extract", "--backbone", path, PHOTOS, code=2)
    assert "--preprocess" in shell.error
    shell("extract", "--backbone", path, "--preprocess", "imagenet", PHOTOS)
    assert "the class token of its tokens" in shell.error
    backbone = find_store(Home(shell.home), None).manifest.spec["backbone"]
    assert (backbone["name"], backbone["engine"]) == ("file:dinov2", "onnxruntime")
    shell("fit", "logreg")
    first = shell("predict", "latest", PHOTOS)
    assert "jpg" in first or "png" in first
    shell("export", "latest", code=2)
    assert "computed as it is" in shell.error
    shutil.move(path, tmp_path / "moved.onnx")
    shell("predict", "latest", PHOTOS, code=1)
    assert "not on this machine" in shell.error


def test_a_network_of_keras_by_way_of_tf2onnx(tmp_path: Path) -> None:
    """NHWC outside, NCHW inside: its features are those of Keras."""
    import tf2onnx

    from probe.tensorflow_setup import keras, tf

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, strides=2, name="one"), keras.layers.Conv2D(5, 3, name="two")]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    signature = [tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")]
    function = tf.function(lambda pixels: model(pixels), input_signature=signature)
    path = tmp_path / "keras.onnx"
    tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(path))
    (expected,) = [model.predict(PIXELS / np.float32(255), verbose=0)]
    name = list_outputs(str(path), home=HOME)[0].name
    (found,) = features(path, f"{name}:map", preprocess="unit")
    np.testing.assert_allclose(found, expected, atol=1e-5)
