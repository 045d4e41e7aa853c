"""Networks built and run: features against Keras's own, real weights, outputs, precision, .keras files."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones import (
    BACKBONES,
    Backbone,
    BackboneSpec,
    build_network,
    choose_precision,
    find_row,
    list_outputs,
    load,
    network,
    preprocess,
    resolve,
    torch_legacy,
)
from probe.config import Home
from probe.errors import UnknownNameError, UsageError, WeightsError
from probe.machine import Machine, read_machine
from probe.registry import load_object
from probe.tensorflow_setup import keras, tf

NETWORKS = [name for name in BACKBONES if BACKBONES[name].network]
CAT, COFFEE = 285, 967
LITE = [(f"efficientnet-lite{i}", count) for i, count in enumerate((4_652_008, 5_416_680, 6_092_072))]
CLASSIFIER = 1000 * (1280 + 1)
HOME = Home(Path("no-such-home"))


def noise(size: int, batch: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    """(4, 224, 224, 3): two with a known ImageNet class first."""
    from skimage import data, transform

    pictures = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    resized = [transform.resize(picture, (224, 224), anti_aliasing=True) for picture in pictures]
    return np.stack([np.round(255 * picture).astype(np.uint8) for picture in resized])


@pytest.fixture
def built_once(built: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that is built again and again there is one. An engine changes it: that comes last."""
    build = network.build

    def once(row: Backbone, spec: BackboneSpec) -> Any:
        key = row.name, spec.size, spec.weights
        if key not in built:
            built[key] = build(row, spec)
        return built[key]

    monkeypatch.setattr(network, "build", once)


@pytest.fixture(scope="module")
def built() -> dict[Any, Any]:
    return {}


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("name", "constructor", "module"),
    [
        ("resnet50", "ResNet50", "resnet50"),
        ("vgg16", "VGG16", "vgg16"),
        ("nasnetmobile", "NASNetMobile", "nasnet"),
        ("mobilenetv2", "MobileNetV2", "mobilenet_v2"),
    ],
)
@pytest.mark.usefixtures("built_once")
def test_features_equal_those_of_keras(name: str, constructor: str, module: str) -> None:
    pixels = noise(64)
    spec = resolve(name, size=64, weights="random", precision="fp32", home=HOME)
    assert load_object(find_row(name).network) is getattr(keras.applications, constructor)
    preprocess_input = getattr(keras.applications, module).preprocess_input
    # Called as it stands: a compiled graph of a single batch costs more than it saves.
    model = build_network(spec)
    theirs = model(preprocess_input(pixels.astype(np.float32)), training=False).numpy().mean((1, 2))
    ours = load(spec, batch_size=4)(pixels)["avg_pool"]
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("built_once")
def test_stages_are_layers_in_order_at_falling_resolution(name: str) -> None:
    outputs = list_outputs(name, size=64, home=HOME)
    default, *stages = outputs[:6]
    layers = [output.name for output in outputs[6:]]
    positions = [layers.index(stage.layer) for stage in stages]
    sides = [stage.shape[0] for stage in stages]
    assert [stage.name for stage in stages] == list(BACKBONES[name].stages)
    assert positions == sorted(positions)
    assert sides == sorted(set(sides), reverse=True)
    assert stages[-1].layer == layers[-1] == default.layer
    assert default.shape[-1] == BACKBONES[name].width


@pytest.mark.parametrize(("name", "parameters"), LITE)
@pytest.mark.usefixtures("built_once")
def test_the_lites_have_the_published_numbers_of_parameters(name: str, parameters: int) -> None:
    model = build_network(resolve(name, size=64, weights="random", home=HOME))
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trained + CLASSIFIER == parameters
    assert model.output_shape == (None, 2, 2, 1280)


@pytest.mark.parametrize("name", [name for name, _ in LITE])
def test_the_lites_know_a_cat_and_a_cup_of_coffee(name: str, photographs: NDArray[np.uint8]) -> None:
    from probe.backbones import lite

    spec = resolve(name, home=HOME)
    assert spec.weights_path is not None
    model = lite.network(name, include_top=True, input_shape=photographs.shape[1:])
    network.load_weights(model, Path(spec.weights_path))
    values = preprocess.convention(spec.preprocess).apply(photographs[:2].astype(np.float32))
    assert model(values, training=False).numpy().argmax(1).tolist() == [CAT, COFFEE]


def test_the_file_of_one_lite_is_refused_by_another() -> None:
    path = resolve("efficientnet-lite1", home=HOME).weights_path
    spec = resolve("efficientnet-lite0", size=32, weights=str(path), home=HOME)
    with pytest.raises(WeightsError, match="not a PyTorch file this program trusts"):
        build_network(spec)


def test_outputs_of_one_pass_agree_with_each_other_and_with_the_network() -> None:
    """Of the convolution asked for, the raw values: its batch norm must not have been folded into it."""
    outputs = ["avg_pool", "block5:map", "head_relu", "block2b_project_conv", "block3:map"]
    spec = resolve("efficientnet-lite0", size=64, outputs=outputs, precision="fp32", home=HOME)
    pixels = noise(64)
    extractor = load(spec, batch_size=4)
    features = extractor(pixels)
    assert {output: value.shape[1:] for output, value in features.items()} == extractor.shapes
    assert list(features) == outputs
    np.testing.assert_allclose(features["block5:map"].mean((1, 2)), features["avg_pool"], atol=1e-5)
    np.testing.assert_array_equal(features["head_relu"], features["avg_pool"])

    model = build_network(spec)
    names = ("block2b_project_conv", "head_relu")
    submodel = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    values = preprocess.convention(spec.preprocess).apply(pixels.astype(np.float32))
    for name, expected in zip(names, submodel(values, training=False), strict=True):
        pooled = expected.numpy().mean((1, 2))
        assert np.abs(features[name] - pooled).max() < 1e-4 * np.abs(pooled).max()


def test_an_unknown_output_lists_the_known() -> None:
    spec = resolve("vgg16", size=32, weights="random", outputs=["blokc5"], home=HOME)
    with pytest.raises(UnknownNameError) as raised:
        load(spec, batch_size=1)
    assert "did you mean 'block5'" in str(raised.value)
    assert "avg_pool, block1" in str(raised.value)


def test_bfloat16_is_close_and_does_not_leak(photographs: NDArray[np.uint8]) -> None:
    """On a CPU with bfloat16 the features keep their direction; on any other the request is refused."""
    outputs = ["avg_pool", "block5:map"]
    spec = resolve("efficientnet-lite0", precision="fp32", outputs=outputs, home=HOME)
    single = load(spec, batch_size=4)
    before = single(photographs)["avg_pool"]
    if choose_precision("auto", machine=Machine(read_machine().cpu_flags))[0] != "bf16":
        with pytest.raises(UsageError, match="cannot compute in bfloat16"):
            resolve("efficientnet-lite0", precision="bf16", home=HOME)
        return
    low = load(resolve("efficientnet-lite0", precision="bf16", outputs=outputs, home=HOME), batch_size=4)
    features = low(photographs)
    # `auto` takes float32 for this network: 0.9996 with AVX512-BF16, 0.9994 with AMX, which sums otherwise.
    assert cosines(features["avg_pool"], before).min() >= 0.999
    assert np.abs(features["avg_pool"] - before).max() > 1e-4, "nothing was computed in bfloat16"
    assert all(value.dtype == np.float32 for value in features.values())
    np.testing.assert_array_equal(single(photographs)["avg_pool"], before)
    np.testing.assert_array_equal(low(photographs)["avg_pool"], features["avg_pool"])


def test_random_weights_depend_on_the_seed_alone() -> None:
    spec = resolve("efficientnet-lite0", size=32, weights="random", precision="fp32", home=HOME)
    code = f"""
import hashlib, random
from probe.signals import interrupt_work
interrupt_work()
from probe.backbones import build_network
from probe.backbones.backbone import BackboneSpec
random.seed(99)
model = build_network({spec!r})
print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    random.seed(5)
    state = random.getstate()
    ours = build_network(spec).get_weights()
    assert random.getstate() == state
    assert hashlib.sha256(b"".join(w.tobytes() for w in ours)).hexdigest() == other.stdout.strip()
    seven = build_network(
        resolve("efficientnet-lite0", size=32, weights="random:7", precision="fp32", home=HOME)
    )
    assert not np.array_equal(seven.get_weights()[0], ours[0])


def test_weights_from_a_file(tmp_path: Path) -> None:
    # Of an early output: an engine compiles no more of the network than that takes.
    early = {"size": 32, "outputs": ["block2"], "home": HOME}
    donor = resolve("efficientnet-lite0", weights="random:7", **early)
    path = tmp_path / "mine.weights.h5"
    given = build_network(donor)
    given.save_weights(path)
    spec = resolve("efficientnet-lite0", weights=str(path), **early)
    np.testing.assert_array_equal(build_network(spec).get_weights()[0], given.get_weights()[0])
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for engine in ("tensorflow", "openvino"):
        ours, theirs = (
            load(dataclasses.replace(one, engine=engine), batch_size=1)(pixels) for one in (spec, donor)
        )
        np.testing.assert_array_equal(ours["block2"], theirs["block2"])

    misfit = resolve("vgg16", size=32, weights=str(path), home=HOME)
    with pytest.raises(WeightsError, match="does not fit"):
        build_network(misfit)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(WeightsError, match="not the weights"):
        load(spec, batch_size=1)


def test_only_the_pinned_torch_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"\x80\x02cos\nsystem\n.")
    spec = resolve("efficientnet-lite0", size=32, weights=str(path), home=HOME)
    with pytest.raises(WeightsError, match="not a PyTorch file this program trusts"):
        load(spec, batch_size=1)
    with pytest.raises(WeightsError, match="wants to run code") as raised:
        torch_legacy.read(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert "os.system" in str(raised.value)


def small_model(side: int | None) -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Conv2D(5, 3, name="second"),
        ]
    )


def test_a_keras_file_is_a_backbone(tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    model = small_model(16)
    model.save(path)
    outputs = ["avg_pool", "first:map"]
    spec = resolve(str(path), preprocess="unit", outputs=outputs, precision="fp32", home=HOME)
    assert (spec.name, spec.size) == ("file:mine", 16)
    assert spec.weights == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    pixels = noise(16)
    features = load(spec, batch_size=4)(pixels)
    expected = model.predict(pixels / np.float32(255), verbose=0).mean((1, 2))
    np.testing.assert_allclose(features["avg_pool"], expected, atol=1e-5)
    assert features["first:map"].shape == (4, 14, 14, 4)
    assert [output.name for output in list_outputs(str(path), home=HOME)] == ["avg_pool", "first", "second"]
    with pytest.raises(UsageError, match="--preprocess"):
        resolve(str(path), home=HOME)
    with pytest.raises(UsageError, match="exactly 16"):
        resolve(str(path), preprocess="unit", size=32, home=HOME)


def test_a_keras_file_of_open_size_or_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "open.keras"
    small_model(None).save(path)
    with pytest.raises(UsageError, match="--size"):
        resolve(str(path), preprocess="unit", home=HOME)
    assert resolve(str(path), preprocess="unit", size=20, home=HOME).size == 20
    path.write_text("no zip")
    with pytest.raises(UsageError, match="cannot be read as a backbone"):
        find_row(str(path))


def test_a_size_keras_refuses_is_a_usage_error() -> None:
    spec = dataclasses.replace(
        resolve("mobilenetv2", size=32, weights="random", precision="fp32", home=HOME), size=16
    )
    with pytest.raises(UsageError, match="16 pixels"):
        load(spec, batch_size=1)


@pytest.mark.parametrize("module", preprocess.keras_modules())
def test_keras_preprocessing_as_a_convention(module: str) -> None:
    pixels = noise(8).astype(np.float32)
    theirs = np.asarray(getattr(keras.applications, module).preprocess_input(pixels.copy()))
    ours = preprocess.convention(f"keras:{module}").apply(pixels)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("name", "module"),
    [("caffe", "vgg16"), ("tf", "nasnet"), ("torch", "densenet"), ("none", "efficientnet")],
)
def test_named_conventions_are_those_of_keras(name: str, module: str) -> None:
    pixels = noise(8).astype(np.float32)
    theirs = np.asarray(getattr(keras.applications, module).preprocess_input(pixels.copy()))
    ours = preprocess.convention(name).apply(pixels)
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def start_of_vgg16(**choices: Any) -> keras.Model:
    """Its first two blocks: XLA takes long to compile many weights."""
    whole = keras.applications.VGG16(**choices)
    return keras.Model(whole.input, whole.get_layer("block2_pool").output)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_of_gpus_is_close_to_single(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, which XLA compiles the same graph for; a GPU is only said to be there."""
    monkeypatch.setattr(network, "load_object", lambda name: start_of_vgg16)
    spec = resolve("vgg16", size=32, weights="random", precision="fp32", home=HOME)
    pixels = noise(32, batch=2)
    spec = dataclasses.replace(spec, engine="tensorflow")
    single = load(spec, batch_size=2)(pixels)["avg_pool"]
    listed = tf.config.list_physical_devices
    gpu = [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: gpu if kind == "GPU" else listed(kind)
    )
    ampere = Machine(frozenset(), gpu_capability=8.0)
    monkeypatch.setattr("probe.backbones.precision.read_machine", lambda: ampere)
    half = load(dataclasses.replace(spec, precision=precision), batch_size=2)(pixels)["avg_pool"]
    assert not np.array_equal(half, single)
    assert cosines(half, single).min() > 0.999
