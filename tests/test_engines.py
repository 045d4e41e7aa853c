"""The table of engines: what serves what, which one is taken, and what a store's key says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones import BACKBONES, BackboneSpec, engines, find_row, load, recorded, resolve, respecify
from probe.backbones.backbone import KERAS, KERAS_FILE, ONNX_FILE, PIXELS, UNNAMED_ENGINES, Backbone
from probe.backbones.engines import ENGINES, Engine, choose_engine
from probe.backbones.precision import choose_precision
from probe.config import Home
from probe.errors import StoreError, UnknownNameError, UsageError, WeightsError
from probe.machine import Machine
from probe.registry import Registry, load_object
from probe.store import StoreSpec, images_digest
from tests.onnx_files import cnn

HOME = Home(Path("no-such-home"))
TENSOR_CORES = Machine(frozenset(), gpu_capability=8.0)
ROWS = {
    KERAS: ("efficientnet-lite0", {"weights": "random", "size": 32, "outputs": ["block1", "block2:map"]}),
    PIXELS: ("pixels", {"size": 8, "outputs": ["pixels", "pixels:map"]}),
}
"""Kind of row -> a small backbone of that kind."""


class Means:
    """The mean colour of every picture: an engine of a few lines."""

    def __init__(self, row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> None:
        self.batch_size = batch_size
        self.shapes: Mapping[str, tuple[int, ...]] = dict.fromkeys(spec.outputs, (3,))

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {output: pixels.mean((1, 2), dtype=np.float32) for output in self.shapes}


def means(needs: tuple[str, ...] = ()) -> Engine:
    serves = {KERAS: ("fp32",), KERAS_FILE: ("fp32", "fp16")}
    return Engine("means", f"{__name__}:Means", serves, needs, bit_stable=True)


def table_of(monkeypatch: pytest.MonkeyPatch, *rows: Engine) -> None:
    monkeypatch.setattr(engines, "ENGINES", Registry("engine", rows))


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """Shapes, types, a fixed batch; where it says so, the same bits in any place, at any batch size, and
    whatever else is computed."""
    engine = ENGINES[name]
    assert callable(load_object(engine.load))
    onnx_file = str(cnn(tmp_path / "mine.onnx"))
    rows = ROWS | {ONNX_FILE: (onnx_file, {"preprocess": "unit", "outputs": ["features", "features:map"]})}
    kind = next(kind for kind in engine.serves if kind in rows)
    backbone, choices = rows[kind]
    spec = resolve(backbone, precision=engine.serves[kind][0], engine=engine.family, home=HOME, **choices)
    spec = replace(spec, engine=name)  # of a family, new work is the newest's
    pixels = np.random.default_rng(0).integers(0, 256, (4, spec.size, spec.size, 3), dtype=np.uint8)
    extractor = load(spec, batch_size=4)
    features = extractor(pixels)
    assert list(features) == list(extractor.shapes) == list(spec.outputs)
    for output, values in features.items():
        assert values.dtype == np.float32
        assert values.shape == (4, *extractor.shapes[output])
        assert len(extractor.shapes[output]) == (3 if output.endswith(":map") else 1)
    with pytest.raises(ValueError, match="expected uint8"):
        extractor(pixels[:2])
    if engine.bit_stable:
        turned, smaller = extractor(pixels[::-1]), load(spec, batch_size=2)(pixels[2:])
        for output, values in features.items():
            np.testing.assert_array_equal(turned[output][::-1], values)
            np.testing.assert_array_equal(smaller[output], values[2:])
    if engine.separate_outputs:
        for output, values in features.items():
            alone = load(replace(spec, outputs=(output,)), batch_size=4)(pixels)
            np.testing.assert_array_equal(alone[output], values)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_row_has_an_engine(name: str) -> None:
    assert choose_engine(BACKBONES[name], "fp32").name in ENGINES


GOLDEN = [
    (
        BackboneSpec("resnet50", "sha256:" + 64 * "a", 224, "caffe", ("avg_pool",), "bf16"),
        "544647eb68a1f7aaf6df68f1c1c43dfdbf6a832b6202bdbb0aebdb43dcfe8929",
    ),
    (
        BackboneSpec(
            "vgg16", "random:0:keras-3.15.0", 64, "caffe", ("block3:map", "avg_pool"), "fp32", "tensorflow"
        ),
        "fb2ad00d6c9a7927bf2d023c1c5c6202fa85c1e4d459290cc973496ba9c8be93",
    ),
    (
        BackboneSpec("file:mine", "sha256:" + 64 * "b", 16, "unit", ("first",), "fp16"),
        "e6dbeb42634b381fed4a992e00547f4cb5b2184aaade235f6318ca42ea343c7d",
    ),
    (
        BackboneSpec("pixels", "none", 32, "unit", ("pixels",), "fp32", "pixels"),
        "14128cccaa563f76332929d0a9edeaad49a231984b53cb7f2822d8218a0f8814",
    ),
]
"""Specifications, and the keys of stores of them from before there was a table of engines."""


def key_of(spec: BackboneSpec) -> str:
    images = images_digest(np.array(["a.png", "b.png"]), np.array([64 * "0", 64 * "1"]))
    pixels = {"policy": "pillow-1", "resize": "stretch", "exif": False}
    return StoreSpec(spec.key_part(), pixels, None, "float32", images).key


@pytest.mark.parametrize(("spec", "key"), GOLDEN, ids=lambda value: getattr(value, "name", ""))
def test_stores_from_before_engines_had_names_keep_their_keys(spec: BackboneSpec, key: str) -> None:
    assert key_of(spec) == key
    assert spec.engine in UNNAMED_ENGINES
    assert BackboneSpec.from_json(json.loads(json.dumps(spec.key_part()))) == spec


def test_the_engine_of_new_stores_is_part_of_their_keys() -> None:
    spec = replace(GOLDEN[0][0], engine="tensorflow-2")
    assert key_of(spec) == "e917526ac4efde8722bb0cc520775071de984143967183154029d91ca8a47269"
    assert BackboneSpec.from_json(json.loads(json.dumps(spec.key_part()))) == spec


def test_features_of_two_engines_are_two_stores() -> None:
    spec = GOLDEN[0][0]
    other = replace(spec, engine="means")
    assert key_of(other) != key_of(spec)
    assert BackboneSpec.from_json(other.key_part()) == other


def test_a_new_engine_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it is named, keyed, loaded and found again from a record, and nothing else changes."""
    name, choices = ROWS[KERAS]
    today = resolve(name, precision="fp32", home=HOME, **choices)
    table_of(monkeypatch, *ENGINES.values(), means())
    assert resolve(name, precision="fp32", home=HOME, **choices) == today
    spec = resolve(name, precision="fp32", engine="means", home=HOME, **choices)
    assert (spec.engine, spec.key_part()["engine"]) == ("means", "means")
    again = recorded(spec.key_part(), spec.weights_path, HOME)
    assert again == spec
    pixels = np.full((2, 32, 32, 3), 7, np.uint8)
    np.testing.assert_array_equal(load(again, batch_size=2)(pixels)["block1"], np.full((2, 3), 7))


def test_auto_takes_the_first_of_the_table_that_can_and_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = find_row("mobilenetv2")
    table_of(monkeypatch, means(), *ENGINES.values())
    assert choose_engine(row, "fp32").name == "means"
    assert choose_engine(row, "bf16").name == "tensorflow-3"
    assert choose_engine(row, "fp16").name == "tensorflow"
    table_of(monkeypatch, means(needs=("no_such_module",)), *ENGINES.values())
    assert choose_engine(row, "fp32").name == "tensorflow-3"
    with pytest.raises(UsageError, match="means is not installed") as raised:
        choose_engine(row, "fp32", "means")
    assert "no_such_module" in str(raised.value)


def test_an_engine_that_cannot_is_refused_before_anything_is_built() -> None:
    with pytest.raises(UnknownNameError, match="tensorflwo"):
        resolve("resnet50", weights="random", engine="tensorflwo", home=HOME)
    with pytest.raises(UsageError, match="the engine pixels does not compute resnet50 in fp32") as raised:
        resolve("resnet50", weights="random", precision="fp32", engine="pixels", home=HOME)
    assert "tensorflow in fp32, bf16, fp16" in str(raised.value)


def test_auto_precision_is_one_that_an_engine_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Backbone("file:mine", "", 16, 16, None, "unit", KERAS_FILE)
    assert choose_precision("auto", BACKBONES["resnet50"], TENSOR_CORES).name == "bf16"
    assert choose_precision("auto", saved, TENSOR_CORES).name == "fp32"
    with pytest.raises(UsageError, match="no engine computes file:mine in fp16"):
        choose_engine(saved, "fp16")
    table_of(monkeypatch, *ENGINES.values(), means())
    assert choose_precision("auto", saved, TENSOR_CORES).name == "fp16"


def test_a_record_with_a_part_missing_is_said_to_be_unreadable() -> None:
    record: dict[str, Any] = GOLDEN[0][0].key_part()
    del record["size"]
    with pytest.raises(StoreError, match="record cannot be read"):
        BackboneSpec.from_json(record)


def test_recorded_weights_are_found_where_they_lie_now(tmp_path: Path) -> None:
    spec = resolve("efficientnet-lite0", precision="fp32", home=HOME)
    assert recorded(spec.key_part(), "/moved/away.pth", HOME).weights_path == spec.weights_path
    saved = replace(spec, name="file:mine", weights="sha256:" + 64 * "0")
    with pytest.raises(WeightsError, match="file:mine are not on this machine"):
        recorded(saved.key_part(), str(tmp_path / "mine.keras"), HOME)
    with pytest.raises(WeightsError, match="not those that made the features"):
        recorded(replace(spec, weights="sha256:" + 64 * "0").key_part(), spec.weights_path, HOME)


def test_other_choices_for_the_same_weights() -> None:
    spec = resolve("efficientnet-lite0", precision="fp32", home=HOME)
    other = respecify(spec, size=64, preprocess="unit", precision="fp32")
    assert (other.size, other.preprocess, other.weights) == (64, "unit", spec.weights)
    with pytest.raises(UsageError, match="does not take pictures of 8 pixels"):
        respecify(spec, size=8)
