"""The table of backbones, and what `resolve` makes of a user's choices; no network is built here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from probe.backbones import BACKBONES, BackboneSpec, choose_precision, load, preprocess, resolve
from probe.backbones.backbone import Backbone, WeightsFile
from probe.backbones.outputs import is_map, map_of, places_of
from probe.backbones.weights import available_weights, find
from probe.config import Home
from probe.errors import UnknownNameError, UsageError, WeightsError
from probe.machine import Machine
from tests.faulty_server import Server, running_server

PLAIN = Machine(frozenset({"avx2"}))
BF16 = Machine(frozenset({"avx512_bf16"}))
TENSOR_CORES = Machine(frozenset({"avx512_bf16"}), gpu_capability=8.0)
VOLTA = Machine(frozenset({"avx512_bf16"}), gpu_capability=7.5)
OLD_GPU = Machine(frozenset({"avx512_bf16"}), gpu_capability=6.1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home on a machine with an empty Keras cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return Home(tmp_path / "home")


@pytest.mark.parametrize("name", BACKBONES)
def test_every_row_keeps_the_contract(name: str, home: Home) -> None:
    row = BACKBONES[name]
    weights = "random" if row.network else "imagenet"
    spec = resolve(name, weights=weights, home=home)
    assert (spec.name, spec.size, spec.preprocess) == (row.name, row.size, row.preprocess)
    assert spec.outputs == (row.default_output,)
    assert row.width is not None
    assert row.min_size <= 32 <= row.size
    assert json.loads(json.dumps(spec.key_part())) == spec.key_part()
    if row.network:
        assert list(row.stages) == [f"block{i}" for i in range(1, 6)]
        assert row.weights is not None
        assert len(row.weights.md5) == 32
        assert row.licence
    with pytest.raises(UsageError, match="does not take pictures of"):
        resolve(name, size=row.min_size - 1, weights=weights, home=home)


def test_resolving_rows_imports_no_tensorflow(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from probe.backbones import resolve
from probe.config import Home
home = Home(Path(sys.argv[1]))
for name in ("resnet50", "vgg16", "nasnetmobile", "mobilenetv2"):
    resolve(name, weights="random", home=home)
print(resolve("efficientnet-lite0", home=home).weights, resolve("pixels", home=home).weights)
print([name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "keras", "sklearn", "scipy")])
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    weights, modules = answer.stdout.splitlines()
    assert weights == "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db none"
    assert modules == "[]"


def test_any_network_of_keras_is_a_backbone(home: Home) -> None:
    spec = resolve("mobilenetv2", weights="random:7", size=64, home=home)
    assert spec.name == "keras:MobileNetV2"
    assert spec.preprocess == "keras:mobilenet_v2"
    assert spec.weights.startswith("random:7:keras-")
    assert resolve("keras:MobileNetV2", weights="random:7", size=64, home=home) == spec
    assert resolve("InceptionV3", weights="random", home=home).size == 299


def test_key_ignores_where_the_weights_lie(home: Home) -> None:
    spec = resolve("efficientnet-lite0", home=home)
    assert spec.weights_path is not None
    assert dataclasses.replace(spec, weights_path="/elsewhere").key_part() == spec.key_part()


@pytest.mark.parametrize(
    ("choices", "error", "says"),
    [
        ({"name": "resnet5"}, UnknownNameError, "did you mean 'resnet50'"),
        ({"name": "missing.keras"}, UsageError, "there is no file missing.keras"),
        ({"name": "resnet50", "preprocess": "cafe"}, UnknownNameError, "did you mean 'caffe'"),
        ({"name": "resnet50", "preprocess": "keras:vgg"}, UnknownNameError, "did you mean 'keras:vgg1"),
        ({"name": "resnet50", "preprocess": "standardise:1,2:3,4"}, UsageError, "standardise:m,m,m:s,s,s"),
        ({"name": "resnet50", "outputs": ["block5:pool"]}, UsageError, "NAME or NAME:map"),
        ({"name": "resnet50", "outputs": ["block5", "block5"]}, UsageError, "asked for twice"),
        ({"name": "resnet50", "precision": "fp8"}, UnknownNameError, "one of auto, fp32, bf16, fp16"),
        ({"name": "resnet50", "weights": "imagnet"}, UsageError, "imagenet, random, random:SEED or a file"),
        ({"name": "resnet50", "weights": "random:x"}, UsageError, "not a number"),
        ({"name": "pixels", "outputs": ["avg_pool"], "weights": "imagenet"}, UnknownNameError, "pixels:map"),
        ({"name": "pixels", "weights": "random"}, UsageError, "does not take other weights"),
        ({"name": "pixels", "weights": "imagenet", "precision": "bf16"}, UsageError, "--precision fp32"),
    ],
)
def test_a_wrong_choice_is_explained(choices: dict, error: type[Exception], says: str, home: Home) -> None:
    with pytest.raises(error) as raised:
        resolve(**{"weights": "random", **choices}, home=home)
    assert says in str(raised.value)


def test_missing_weights_say_what_to_do(home: Home) -> None:
    with pytest.raises(WeightsError) as raised:
        resolve("resnet50", home=home)
    message = str(raised.value)
    for part in (
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
        "4d473c1dd8becc155b73f8504c6f6626",
        str(home.weights),
        "efficientnet-lite0",
    ):
        assert part in message


@pytest.mark.parametrize("served", [b"the published weights", b"something else, no less long"])
def test_weights_are_downloaded_once_and_only_with_the_pinned_hash(served: bytes, home: Home) -> None:
    published = b"the published weights"
    with running_server() as server:
        server.files["w.h5"] = served
        md5 = hashlib.md5(published, usedforsecurity=False).hexdigest()
        file = WeightsFile("w.h5", server.url("w.h5"), md5, len(published))
        row = dataclasses.replace(BACKBONES["resnet50"], weights=file)
        if served != published:
            with pytest.raises(WeightsError, match="could not be fetched"):
                find(row, "imagenet", 224, home)
            assert not (home.weights / "w.h5").exists()
            return
        found = find(row, "imagenet", 224, home)
        assert find(row, "imagenet", 224, home) == found
        assert len(server.asked) == 1
    assert found.path == home.weights / "w.h5"
    assert found.identity == "sha256:" + hashlib.sha256(published).hexdigest()


WEIGHTS = np.random.default_rng(0).bytes(400_000)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Backbone]]:
    """ResNet50's row with a file of our own behind its address."""
    monkeypatch.setattr("probe.internet.time.sleep", lambda _: None)
    with running_server() as server:
        server.files["w.h5"] = WEIGHTS
        md5 = hashlib.md5(WEIGHTS, usedforsecurity=False).hexdigest()
        file = WeightsFile("w.h5", server.url("w.h5"), md5, len(WEIGHTS))
        yield server, dataclasses.replace(BACKBONES["resnet50"], weights=file)


@pytest.mark.parametrize("how", ["cut", "reset", "dropped"])
def test_weights_go_on_where_a_connection_was_lost(
    how: str, served: tuple[Server, Backbone], home: Home
) -> None:
    server, row = served
    server.behave = ["cut", how, how]
    found = find(row, "imagenet", 224, home)
    assert found.identity == "sha256:" + hashlib.sha256(WEIGHTS).hexdigest()
    assert len(server.asked) == 4
    assert server.asked[0] == 0 < server.asked[1] <= server.asked[2] <= server.asked[3]
    assert [path.name for path in home.weights.iterdir()] == ["w.h5"]


def test_weights_go_on_in_the_next_run(served: tuple[Server, Backbone], home: Home) -> None:
    server, row = served
    server.behave = ["cut"] + [503] * 20
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        find(row, "imagenet", 224, home)
    for part in ("503", "run it again, it goes on where it stopped", "efficientnet-lite0"):
        assert part in str(caught.value)
    assert available_weights(row, home) is None
    server.behave, server.asked = [], []
    find(row, "imagenet", 224, home)
    assert server.asked[0] > 0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("other", hashlib.md5(b"x" * len(WEIGHTS), usedforsecurity=False).hexdigest()),
        ("longer", f"{len(WEIGHTS) + 4:,} bytes"),
        ("page", "the publisher answered with a web page"),
        (404, "the server answered 404"),
    ],
)
def test_weights_from_a_server_that_lies_are_refused_and_removed(
    how: object, said: str, served: tuple[Server, Backbone], home: Home
) -> None:
    server, row = served
    server.behave = [how]
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        find(row, "imagenet", 224, home)
    assert said in str(caught.value)
    assert [path.name for path in home.weights.iterdir()] == ["w.h5.lock"]
    find(row, "imagenet", 224, home)
    assert [path.name for path in home.weights.iterdir()] == ["w.h5"]


def test_weights_that_are_shorter_than_they_should_be_are_refused(
    served: tuple[Server, Backbone], home: Home
) -> None:
    server, row = served
    server.files["w.h5"] = WEIGHTS[:-1000]
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        find(row, "imagenet", 224, home)
    assert "400,000 bytes" in str(caught.value)
    assert available_weights(row, home) is None


def test_weights_that_several_need_at_once_are_fetched_once(
    served: tuple[Server, Backbone], home: Home
) -> None:
    server, row = served
    server.behave = ["cut", "cut", "cut"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find(row, "imagenet", 224, home), range(4)))
    assert len({weights.identity for weights in found}) == 1
    assert server.asked == sorted(set(server.asked))
    assert len(server.asked) == 4


@pytest.mark.parametrize("place", ["home", "keras"])
@pytest.mark.parametrize("name", ["NASNet-mobile-no-top.h5", "nasnet_mobile_no_top.h5"])
def test_weights_are_found_under_both_of_their_names_in_both_places(
    name: str, place: str, home: Home, tmp_path: Path
) -> None:
    path = (home.weights if place == "home" else tmp_path / "keras" / "models") / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert available_weights(BACKBONES["nasnetmobile"], home) == path


@pytest.mark.parametrize("place", ["home", "keras"])
def test_weights_that_hash_to_something_else_are_refused(place: str, home: Home, tmp_path: Path) -> None:
    name, folder = {
        "home": ("NASNet-mobile-no-top.h5", home.weights),
        "keras": ("nasnet_mobile_no_top.h5", tmp_path / "keras" / "models"),
    }[place]
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"not these")
    with pytest.raises(WeightsError) as raised:
        resolve("nasnetmobile", home=home)
    assert "1ed92395b5b598bdda52abe5c0dbfd63" in str(raised.value)
    assert "9 bytes, md5 c9d6e3c295742a79c73aa6c1761c5dcc" in str(raised.value)


def test_available_weights_are_looked_for_where_they_would_be_used(home: Home, tmp_path: Path) -> None:
    cached = tmp_path / "keras" / "models" / "nasnet_mobile_no_top.h5"
    cached.parent.mkdir(parents=True)
    cached.touch()
    found = {name: available_weights(row, home) for name, row in BACKBONES.items()}
    assert found["nasnetmobile"] == cached
    assert found["resnet50"] is None
    assert found["pixels"] is None
    assert found["efficientnet-lite0"] is not None
    assert found["efficientnet-lite0"].suffix == ".pth"


@pytest.mark.parametrize(
    ("machine", "precision"),
    [(PLAIN, "fp32"), (BF16, "bf16"), (TENSOR_CORES, "bf16"), (VOLTA, "fp16"), (OLD_GPU, "fp32")],
)
def test_automatic_precision(machine: Machine, precision: str) -> None:
    assert choose_precision("auto", machine=machine)[0] == precision


def test_automatic_precision_spares_a_network_that_gains_nothing() -> None:
    chosen, reason = choose_precision("auto", BACKBONES["efficientnet-lite0"], BF16)
    assert chosen == "fp32"
    assert "efficientnet-lite0" in reason


@pytest.mark.parametrize(("requested", "machine"), [("bf16", PLAIN), ("fp16", BF16)])
def test_a_precision_the_machine_lacks_is_refused(requested: str, machine: Machine) -> None:
    with pytest.raises(UsageError, match="auto"):
        choose_precision(requested, machine=machine)


def test_pixels_are_the_picture(home: Home) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    spec = resolve("pixels", size=8, outputs=["pixels", "pixels:map"], home=home)
    extractor = load(spec, batch_size=2)
    features = extractor(pixels)
    assert extractor.shapes == {"pixels": (192,), "pixels:map": (8, 8, 3)}
    assert features["pixels"].dtype == np.float32
    np.testing.assert_array_equal(features["pixels"], pixels.reshape(2, -1) / np.float32(255))
    with pytest.raises(ValueError, match="expected uint8"):
        extractor(pixels[:1])


def test_standardise_is_applied_as_spelled() -> None:
    name = preprocess.standardise([120.123456789, 110, 100], [60, 50, 40.5])
    assert name == "standardise:120.123,110,100:60,50,40.5"
    seen = preprocess.convention(name).apply(np.float32([[120.123, 160, 19]]))
    np.testing.assert_allclose(seen, [[0, 1, -2]], atol=1e-5)


def test_a_spec_of_other_random_weights_is_refused() -> None:
    spec = BackboneSpec("resnet50", "random:0:keras-0.1", 32, "caffe", ("avg_pool",), "fp32")
    with pytest.raises(WeightsError, match="not the weights"):
        load(spec, batch_size=1)


def test_a_layer_may_have_the_sign_of_a_map_in_its_name() -> None:
    values = np.arange(50).reshape(2, 5, 5, 1)
    for output, of_map, kept in (
        ("a:mapped", False, values),
        ("a:map:b", False, values),
        ("a:map:0", False, values),
        ("a:map:b:map", True, values),
        (map_of("a:map", 3), True, values[:, ::3, ::3]),
    ):
        assert is_map(output) == of_map
        np.testing.assert_array_equal(places_of(output, values), kept)
