"""The engine tensorflow-3: features are the network's own, from a graph in which everything is fused."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tensorflow.python.eager import context

from probe.backbones import BackboneSpec, build_network, choose_precision, graph_cache, load, resolve, row_of
from probe.backbones.fusing import freeze, freeze_but_shared_sums
from probe.backbones.preprocess import CONVENTIONS, convention
from probe.config import Home
from probe.errors import LinkError
from probe.machine import Machine, read_machine
from probe.tensorflow_setup import keras, tf

NOWHERE = Home(Path("no-such-home"))
SIDE, BATCH = 24, 3
PIXELS = np.random.default_rng(1).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
layers = keras.layers


def draw(model: Any) -> Any:
    """Biases and statistics as training leaves them."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for variable, low, high in (
                (layer.moving_mean, -0.2, 0.2),
                (layer.moving_variance, 0.5, 1.5),
                (layer.beta, -0.2, 0.2),
                (layer.gamma, 0.8, 1.2),
            ):
                if variable is not None:
                    variable.assign(rng.uniform(low, high, variable.shape))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.uniform(-0.1, 0.1, layer.bias.shape))
    return model


def convolutions() -> Any:
    """Every kind of convolution and of batch norm, a shortcut, and padding in front."""
    pixels = keras.Input((SIDE, SIDE, 3))
    x = layers.ZeroPadding2D(2)(pixels)
    x = layers.Conv2D(8, 5, strides=2, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = short = layers.Activation("relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, depth_multiplier=2)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(8, 1, use_bias=False, name="wide")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.ReLU()(layers.Add()([short, x]))
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, groups=2, activation="relu")(x)
    x = layers.BatchNormalization(name="free")(x)  # behind an activation: it stays what it is
    return keras.Model(pixels, x)


def two_starts() -> Any:
    """Two convolutions see the pixels."""
    pixels = keras.Input((SIDE, SIDE, 3))
    a, b = layers.Conv2D(4, 3, padding="same")(pixels), layers.Conv2D(4, 1)(pixels)
    return keras.Model(pixels, layers.Concatenate()([a, b]))


def pixels_used_twice() -> Any:
    """The pixels go into a convolution and past it."""
    pixels = keras.Input((SIDE, SIDE, 3))
    return keras.Model(pixels, layers.Add()([layers.Conv2D(3, 3, padding="same")(pixels), pixels]))


def grouped_start() -> Any:
    pixels = keras.Input((SIDE, SIDE, 3))
    return keras.Model(pixels, layers.Conv2D(6, 3, groups=3)(pixels))


def normed_start() -> Any:
    pixels = keras.Input((SIDE, SIDE, 3))
    return keras.Model(pixels, layers.Conv2D(4, 3)(layers.BatchNormalization()(pixels)))


def in_a_row() -> Any:
    parts = [
        layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(5, 3),
    ]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *parts])


def branching() -> Any:
    """Sums that go to an activation and to a second place, as in a NASNet."""

    def added(number: int, a: Any, b: Any, c: Any) -> Any:
        small = layers.AveragePooling2D(SIDE)(c)
        add = layers.Add(name=f"sum{number}")
        return a + b if number == 3 else add([[a, b], [a, b, c], [a, b, small]][number])

    pixels = keras.Input((SIDE, SIDE, 3))
    x, sums = pixels, []
    for number in range(4):
        parts = [layers.Conv2D(4, 3, padding="same", use_bias=False)(x) for _ in range(3)]
        total = added(number, *(layers.BatchNormalization()(part) for part in parts))
        sums.append(layers.AveragePooling2D(3, 1)(total))
        x = layers.Conv2D(4, 1, activation="relu")(layers.Activation("relu")(total))
    return keras.Model(pixels, layers.Concatenate()([*sums, layers.Cropping2D(1)(x)]))


def half() -> Any:
    """Layers saved in half precision, one of them not."""
    mixed = {"dtype": "mixed_bfloat16"}
    pixels = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization(**mixed)(layers.Conv2D(4, 3, **mixed)(pixels))
    return keras.Model(pixels, layers.Conv2D(4, 3, dtype="float32")(layers.ReLU(**mixed)(x)))


MODELS = [convolutions, two_starts, pixels_used_twice, grouped_start, normed_start, in_a_row, branching]


def saved(model: Any, folder: Path) -> str:
    path = folder / "mine.keras"
    draw(model).save(path)
    return str(path)


def spec_of(path: str, **choices: Any) -> BackboneSpec:
    spec = resolve(
        path,
        **{"preprocess": "caffe", "precision": "fp32", "engine": "tensorflow", "home": NOWHERE, **choices},
    )
    assert spec.engine == "tensorflow-3"
    return spec


def pooled(model: Any, preprocess: str) -> NDArray[np.float32]:
    values = convention(preprocess).apply(PIXELS.astype(np.float32))
    return np.asarray(model.predict(values, verbose=0), np.float32).mean((1, 2))


def assert_close(ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float = 1e-5) -> None:
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


@pytest.mark.parametrize("make", MODELS)
def test_features_are_those_of_the_network(make: Callable[[], Any], tmp_path: Path) -> None:
    model = make()
    path = saved(model, tmp_path)
    assert_close(load(spec_of(path), batch_size=BATCH)(PIXELS)["avg_pool"], pooled(model, "caffe"))


@pytest.mark.parametrize("name", [*CONVENTIONS, "standardise:10,120,90:40,60,70"])
def test_every_convention_is_kept(name: str, tmp_path: Path) -> None:
    model = convolutions()
    features = load(spec_of(saved(model, tmp_path), preprocess=name), batch_size=BATCH)(PIXELS)
    assert_close(features["avg_pool"], pooled(model, name))


def test_layers_asked_for_have_their_own_values(tmp_path: Path) -> None:
    """Those that would have been fused: padding, a convolution before its batch norm, and the norm."""
    model = convolutions()
    names = ["zero_padding2d", "stem", "stem_norm", "wide", "avg_pool"]
    names[0] = next(layer.name for layer in model.layers if layer.name.startswith("zero_padding"))
    features = load(spec_of(saved(model, tmp_path), outputs=names), batch_size=BATCH)(PIXELS)
    for name in names[:-1]:
        inner = keras.Model(model.inputs, model.get_layer(name).output)
        assert_close(features[name], pooled(inner, "caffe"))


def test_what_a_model_computes_in_half_precision_is_left_to_it(tmp_path: Path) -> None:
    model = half()
    path = saved(model, tmp_path)
    features = load(spec_of(path, precision="auto"), batch_size=BATCH)(PIXELS)["avg_pool"]
    assert_close(features, pooled(model, "caffe"), 1e-2)


def test_nothing_is_left_in_the_graph_that_could_be_fused(tmp_path: Path) -> None:
    spec = spec_of(saved(convolutions(), tmp_path))
    operations = [operation.type for operation in freeze(row_of(spec), spec, BATCH).graph.get_operations()]
    assert not {"RealDiv", "StridedSlice", "ReverseV2", "ReadVariableOp", "VarHandleOp"}.intersection(
        operations
    )
    assert operations.count("BiasAdd") == 5
    assert operations.count("Rsqrt") == 1  # of the batch norm behind an activation


def optimised(function: Any) -> Counter[str]:
    """How often TensorFlow computes which operation of a function, once it has fused what it can."""
    context.enable_run_metadata()
    try:
        function(tf.constant(PIXELS))
        ran = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    nodes = [node for graphs in ran for part in graphs.partition_graphs for node in part.node]
    return Counter(node.op.removeprefix("_MklNative") for node in nodes)


def test_a_sum_that_goes_to_two_places_keeps_nothing_from_being_fused(tmp_path: Path) -> None:
    spec = spec_of(saved(branching(), tmp_path), outputs=["avg_pool", "sum0"])
    found = optimised(freeze(row_of(spec), spec, BATCH))
    assert (found["_FusedConv2D"] + found["FusedConv2D"], found["Relu"]) == (14, 4)
    before = optimised(freeze_but_shared_sums(row_of(spec), spec, BATCH))
    assert not [operation for operation in before if "FusedConv2D" in operation]


def test_stores_of_the_version_before_are_continued_in_its_bits(tmp_path: Path) -> None:
    spec = spec_of(saved(branching(), tmp_path))
    function = freeze_but_shared_sums(row_of(spec), spec, BATCH)
    expected = {
        output: np.asarray(values) for output, values in zip(spec.outputs, function(PIXELS), strict=True)
    }
    features = load(replace(spec, engine="tensorflow-2"), batch_size=BATCH)(PIXELS)
    np.testing.assert_equal(features, expected)


def test_a_network_of_keras_with_weights_as_training_leaves_them(tmp_path: Path) -> None:
    """The start of a ResNet50 against Keras, and in bfloat16 where this machine computes in it."""
    side = SIDE * 2
    whole = build_network(resolve("resnet50", size=side, weights="random", home=NOWHERE))
    model = keras.Model(whole.input, whole.get_layer("conv3_block2_out").output)
    path = saved(model, tmp_path)
    pixels = np.random.default_rng(2).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    spec = spec_of(path)
    expected = model(convention(spec.preprocess).apply(pixels.astype(np.float32)), training=False).numpy()
    features = load(spec, batch_size=2)(pixels)["avg_pool"]
    assert_close(features, expected.mean((1, 2)), 1e-4)
    if choose_precision("auto", machine=Machine(read_machine().cpu_flags))[0] == "bf16":
        half = load(spec_of(path, precision="bf16"), batch_size=2)
        assert cosine(half(pixels)["avg_pool"], features) >= 0.999


SECOND_START = """
import sys
from pathlib import Path
import numpy as np
from probe.backbones import load, resolve
from probe.config import Home
pixels, home = np.load(sys.argv[1]), Home(Path(sys.argv[2]))
choices = {"size": 32, "weights": "random", "precision": "fp32", "engine": "tensorflow"}
spec = resolve("efficientnet-lite0", home=home, **choices)
np.save(sys.argv[1], load(spec, batch_size=len(pixels), home=home)(pixels)["avg_pool"])
print([name for name in ("keras", "sklearn", "matplotlib", "pandas") if name in sys.modules])
"""


@pytest.fixture(scope="module", autouse=True)
def graphs() -> None:
    """Here every home keeps its own."""


class TestKeptGraphs:
    @pytest.fixture
    def spec(self, tmp_path: Path) -> BackboneSpec:
        return spec_of(saved(in_a_row(), tmp_path))

    @pytest.fixture
    def builds(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The batch size of every graph that is built rather than found."""
        built: list[int] = []

        def counted(row: Any, spec: BackboneSpec, batch_size: int) -> Any:
            built.append(batch_size)
            return freeze(row, spec, batch_size)

        monkeypatch.setattr("probe.backbones.fusing.freeze", counted)
        return built

    def file(self, home: Home) -> Path:
        (path,) = (home.cache / "graphs").iterdir()
        return path

    def features(self, spec: BackboneSpec, home: Home, batch: int = 2) -> NDArray[np.float32]:
        return load(spec, batch_size=batch, home=home)(PIXELS[:batch])["avg_pool"]

    def test_a_second_start_needs_no_keras_and_gives_the_same_bits(self, home: Home, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        spec = resolve(
            "efficientnet-lite0", size=32, weights="random", precision="fp32", engine="tensorflow", home=home
        )
        expected = load(spec, batch_size=2, home=home)(pixels)["avg_pool"]
        exchanged = tmp_path / "exchanged.npy"
        np.save(exchanged, pixels)
        command = [sys.executable, "-c", SECOND_START, str(exchanged), str(home.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
        np.testing.assert_array_equal(np.load(exchanged), expected)

    def test_a_graph_is_known_by_all_that_decides_it(
        self, spec: BackboneSpec, home: Home, builds: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            self.features(spec, home)
        assert builds == [2]
        self.features(spec, home, batch=3)
        self.features(replace(spec, outputs=("first", "avg_pool")), home)
        self.features(replace(spec, preprocess="unit"), home)
        assert builds == [2, 3, 2, 2]
        monkeypatch.setattr(
            graph_cache, "versions", lambda: dict.fromkeys(("probe", "tensorflow", "keras"), "9")
        )
        self.features(spec, home)
        assert builds == [2, 3, 2, 2, 2]

    @pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "swapped"])
    def test_a_damaged_graph_is_built_again(
        self, damage: str, spec: BackboneSpec, home: Home, builds: list[int]
    ) -> None:
        expected = self.features(spec, home)
        path = self.file(home)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        whole = path.read_bytes()
        torn = {"torn": whole[:-100], "flipped": bytes(content), "empty": b"", "swapped": whole[:64] + b"{}"}
        path.write_bytes(torn[damage])
        np.testing.assert_array_equal(self.features(spec, home), expected)
        np.testing.assert_array_equal(self.features(spec, home), expected)
        assert builds == [2, 2]

    def test_a_graph_of_another_specification_is_not_taken(
        self, spec: BackboneSpec, home: Home, builds: list[int]
    ) -> None:
        self.features(spec, home)
        path = self.file(home)
        other = replace(spec, preprocess="unit")
        self.features(other, home)
        (second,) = set((home.cache / "graphs").iterdir()) - {path}
        path.replace(second)
        self.features(other, home)
        assert builds == [2, 2, 2]

    def test_links_are_neither_followed_nor_written(
        self, spec: BackboneSpec, home: Home, builds: list[int], tmp_path: Path
    ) -> None:
        self.features(spec, home)
        path = self.file(home)
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        before = elsewhere.read_bytes()
        path.symlink_to(elsewhere)
        self.features(spec, home)
        assert builds == [2, 2]
        assert elsewhere.read_bytes() == before
        assert not path.is_symlink()
        folder = tmp_path / "folder"
        (home.cache / "graphs").rename(folder)
        (home.cache / "graphs").symlink_to(folder)
        path.unlink()
        with pytest.raises(LinkError):
            self.features(spec, home)
        assert not list(folder.iterdir())

    def test_those_used_longest_ago_make_room(
        self, spec: BackboneSpec, home: Home, builds: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.features(spec, home)
        monkeypatch.setattr(graph_cache, "MOST_BYTES", 3 * self.file(home).stat().st_size // 2)
        self.features(spec, home, batch=3)
        self.features(spec, home, batch=3)
        self.features(spec, home)
        assert builds == [2, 3, 2]
        assert self.file(home).exists()

    def test_where_nothing_can_be_kept_it_is_built_each_time(
        self, spec: BackboneSpec, home: Home, builds: list[int]
    ) -> None:
        home.cache.parent.mkdir(parents=True)
        home.cache.write_text("no folder")
        assert np.array_equal(self.features(spec, home), self.features(spec, home))
        assert builds == [2, 2]
