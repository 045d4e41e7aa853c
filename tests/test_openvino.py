"""The engine ``openvino``: TensorFlow's features, the same bits everywhere, and a graph that is kept."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones import BackboneSpec, load, resolve
from probe.backbones.engines import ENGINES, choose_engine
from probe.backbones.table import BACKBONES
from probe.config import Home
from probe.errors import UsageError
from probe.machine import processors
from probe.store import find_store
from probe.tensorflow_setup import keras
from tests.shell import PHOTOS, Shell


@pytest.fixture(scope="module", autouse=True)
def graphs() -> None:
    """Here every home keeps its own."""


OUTPUTS = ["avg_pool", "block3:map", "head_relu", "block2b_project_conv"]
"""Of EfficientNet-Lite0: the default, a map, its first by another name, and a convolution before its norm."""


@pytest.fixture(scope="module")
def kept_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home of this module, which keeps the graph of `spec`."""
    return Home(tmp_path_factory.mktemp("openvino"))


@pytest.fixture(scope="module")
def spec(kept_home: Home) -> BackboneSpec:
    return lite0(kept_home, "openvino")


def lite0(home: Home, engine: str, **choices: Any) -> BackboneSpec:
    chosen = {"size": 32, "outputs": OUTPUTS, "precision": "fp32", **choices}
    return resolve("efficientnet-lite0", engine=engine, home=home, **chosen)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(
    spec: BackboneSpec, kept_home: Home, pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    return load(spec, batch_size=4, home=kept_home)(pixels)


def kept(home: Home) -> list[Path]:
    """The folders of the graphs that the home keeps."""
    return sorted(path.parent for path in home.cache.glob("openvino/*/graph.json"))


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def same_bits(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> None:
    assert list(found) == list(expected)
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values)


def test_features_are_those_of_tensorflow(
    spec: BackboneSpec, features: dict[str, NDArray[np.float32]], pixels: NDArray[np.uint8], home: Home
) -> None:
    theirs = load(lite0(home, "tensorflow"), batch_size=4)(pixels)
    assert list(features) == list(theirs) == OUTPUTS
    for output, values in theirs.items():
        assert features[output].shape == values.shape
        assert np.abs(features[output] - values).max() < 1e-4 * np.abs(values).max()
    np.testing.assert_array_equal(features["head_relu"], features["avg_pool"])


def test_the_bits_do_not_depend_on_neighbours_or_order(
    spec: BackboneSpec,
    kept_home: Home,
    features: dict[str, NDArray[np.float32]],
    pixels: NDArray[np.uint8],
) -> None:
    """Nor on the size of the batch or what fills it; a second call leaves the arrays of the first alone."""
    extractor = load(spec, batch_size=3, home=kept_home)
    first = extractor(pixels[[2, 0, 1]])
    padded = extractor(np.concatenate([pixels[3:], np.zeros((2, 32, 32, 3), np.uint8)]))
    for output, values in features.items():
        np.testing.assert_array_equal(first[output], values[[2, 0, 1]])
        np.testing.assert_array_equal(padded[output][0], values[3])


@contextmanager
def one_processor() -> Iterator[None]:
    before = processors()
    os.sched_setaffinity(0, before[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_the_bits_do_not_depend_on_the_number_of_threads(
    spec: BackboneSpec,
    kept_home: Home,
    features: dict[str, NDArray[np.float32]],
    pixels: NDArray[np.uint8],
) -> None:
    with one_processor():
        alone = load(spec, batch_size=4, home=kept_home)(pixels)
    same_bits(alone, features)


OTHER_PROCESS = """
import json, sys
import numpy as np
from pathlib import Path
from probe.backbones import load, recorded
from probe.config import Home
record, path, folder, saved = json.loads(sys.argv[1])
home = Home(Path(folder))
pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
np.savez(saved, **load(recorded(record, path, home), batch_size=4, home=home)(pixels))
names = ("tensorflow", "keras", "openvino_telemetry")
print([name for name, module in sys.modules.items() if name.partition(".")[0] in names and module])
"""


def test_another_process_needs_no_tensorflow_and_reports_to_nobody(
    spec: BackboneSpec, kept_home: Home, features: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    saved = tmp_path / "features.npz"
    asked = json.dumps([spec.key_part(), spec.weights_path, str(kept_home.root), str(saved)])
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, asked], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    with np.load(saved) as found:
        same_bits(dict(found), features)


def test_a_damaged_graph_is_made_anew(
    spec: BackboneSpec,
    kept_home: Home,
    features: dict[str, NDArray[np.float32]],
    pixels: NDArray[np.uint8],
) -> None:
    (folder,) = kept(kept_home)
    constants = folder / "graph.bin"
    whole = constants.read_bytes()
    constants.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    same_bits(load(spec, batch_size=4, home=kept_home)(pixels), features)
    assert constants.read_bytes() == whole
    assert kept(kept_home) == [folder]


def test_a_home_that_cannot_be_written_keeps_no_graph(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def mkdir(self: Path, *arguments: Any, **rest: Any) -> None:
        if self.is_relative_to(home.root):
            raise OSError(errno.EROFS, "refused", str(self))
        make(self, *arguments, **rest)

    spec = small_model(tmp_path, "openvino", home)
    pixels = np.full((1, 8, 8, 3), 9, np.uint8)
    expected = load(spec, batch_size=1)(pixels)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    same_bits(load(spec, batch_size=1, home=home)(pixels), expected)
    assert not kept(home)


def test_bfloat16_keeps_the_direction_of_features(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a row that ``auto`` computes so; on a CPU without bfloat16 it is emulated, or not lowered at all."""
    monkeypatch.setattr("probe.machine.cpu_flags", lambda: frozenset({"amx_bf16"}))
    pixels = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    choices: dict[str, Any] = {"size": 32, "weights": "random", "engine": "openvino", "home": home}
    single, low = (
        load(resolve("vgg16", precision=name, **choices), batch_size=4, home=home)(pixels)["avg_pool"]
        for name in ("fp32", "bf16")
    )
    assert cosines(low, single).min() >= 0.9995
    assert len(kept(home)) == 1  # one graph for both


@pytest.mark.parametrize(
    ("name", "arithmetic", "engine"),
    [
        ("resnet50", "bf16", "openvino"),
        ("resnet50", "fp32", "openvino"),
        ("efficientnet-lite0", "fp32", "openvino"),
        ("efficientnet-lite0", "bf16", "tensorflow-3"),
        ("resnet50", "fp16", "tensorflow"),
    ],
)
def test_auto_goes_by_what_was_measured(name: str, arithmetic: str, engine: str) -> None:
    assert choose_engine(BACKBONES[name], arithmetic).name == engine


def test_auto_leaves_no_gpu_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.backbones.engines.visible_gpus", lambda: ["a GPU"])
    assert choose_engine(BACKBONES["resnet50"], "fp32").name == "tensorflow"
    assert choose_engine(BACKBONES["resnet50"], "fp32", "openvino").name == "openvino"


def test_without_the_package_auto_is_tensorflow(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else object())
    assert choose_engine(BACKBONES["resnet50"], "fp32").name == "tensorflow-3"
    with pytest.raises(UsageError, match="openvino is not installed") as raised:
        lite0(home, "openvino")
    assert "pip install 'probe[openvino]'" in str(raised.value)


def test_a_model_saved_in_half_precision_is_left_to_tensorflow(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "half.keras"
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, dtype="mixed_bfloat16")]
    keras.Sequential(layers).save(path)
    assert resolve(str(path), preprocess="unit", home=home).engine == "tensorflow-3"
    with pytest.raises(UsageError, match="the engine openvino does not compute"):
        resolve(str(path), preprocess="unit", engine="openvino", home=home)


def small_model(folder: Path, engine: str, home: Home) -> BackboneSpec:
    path = folder / "mine.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)  # a mean that happens to be nothing would differ by much of itself
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]).save(path)
    return resolve(str(path), preprocess="unit", precision="fp32", engine=engine, home=home)


def test_a_saved_model_is_computed_where_it_is_asked_for(tmp_path: Path, home: Home) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    ours, theirs = (
        load(small_model(tmp_path, name, home), batch_size=2)(pixels)["avg_pool"]
        for name in ("openvino", "tensorflow")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert small_model(tmp_path, "auto", home).engine == "tensorflow-3"


def test_a_run_predicts_without_tensorflow(shell: Shell) -> None:
    """From the command line: the second extraction and the prediction find the graph of the first."""
    choices = ("--backbone", "efficientnet-lite0", "--size", 32, "--engine", "openvino")
    shell("extract", *choices, PHOTOS)
    shell("fit", "centroid")
    assert find_store(Home(shell.home), None).manifest.spec["backbone"]["engine"] == "openvino"
    code = (
        "import sys\nfrom probe.cli import run\n"
        f"run({['--home', str(shell.home)]} + sys.argv[1:])\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('tensorflow', 'keras')])"
    )
    for arguments in (
        ("extract", *choices, "--limit", 5, PHOTOS),
        ("predict", "latest", PHOTOS),
    ):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments


def test_doctor_lists_engines_and_what_is_taken(shell: Shell) -> None:
    found = {row["engine"]: row for row in shell.json("doctor")["engines"]}
    assert list(found) == list(ENGINES)
    assert found["openvino"]["needs"] == ["openvino"]
    assert found["pixels"]["taken_for"] == ["pixels (fp32)"]
    taken = [name for row in found.values() for name in row["taken_for"]]
    assert len(taken) == len(BACKBONES)
    text = shell("doctor")
    assert "openvino: needs openvino, is taken for" in text
