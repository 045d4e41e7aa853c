"""A run as one model file: the same answers as `probe predict`, from programs that do not know probe."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones import build_embedder, load, resolve
from probe.cli import main
from probe.config import Home
from probe.datasets.files import find_images
from probe.fit.predict import load_predictor
from probe.heads import HEADS
from probe.images.path import PixelPath
from probe.images.reader import read_batches
from probe.runs import find_run
from tests.shell import PHOTOS, Shell

EXPORTABLE = ("logreg", "ridge", "dense", "conv", "attentive", "centroid")
LINES = {
    "lite0": (
        "extract --backbone efficientnet-lite0 --size 64 --precision fp32 --limit 300 fashion-sample",
        "fit logreg --c 0.001",
    ),
    "pixels": (
        "extract --backbone pixels --size 8 --outputs pixels,pixels:map fashion-sample",
        "fit logreg --c 0.001",
        "fit ridge",
        "fit centroid",
        "fit dense --hidden 16 --epochs 2 --batch-norm",
        "fit conv --output pixels:map --network 'C8 R B GAP' --epochs 2",
        "fit attentive --output pixels:map --queries 2 --units 16 --epochs 2",
        "fit knn --k 3",
        "fit majority",
    ),
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home with runs on real ImageNet features, and one with every kind of head on pixels."""
    made = {name: tmp_path_factory.mktemp(name) for name in LINES}
    for name, lines in LINES.items():
        for line in lines:
            with pytest.raises(SystemExit) as stop:
                main(["--home", str(made[name]), *shlex.split(line), "--quiet"])
            assert stop.value.code == 0
    return made


def photographs(size: int) -> np.ndarray:
    """(10, S, S, 3) uint8: the sample photographs as `probe predict` sees them, in its order."""
    files = [PHOTOS / name for name in find_images(PHOTOS).images]
    path = PixelPath(scaled=True)
    (batch,) = read_batches(
        lambda row: files[row].read_bytes(), range(len(files)), size, len(files), path=path
    )
    return batch.pixels


Predict = Callable[[np.ndarray], np.ndarray]


def open_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})[0]


def open_keras(path: Path) -> Predict:
    import keras

    model = keras.models.load_model(path, safe_mode=True)
    # Not `predict`, which traces a network for every number of pictures.
    return lambda pixels: np.asarray(model([pixels], training=False))


OPENERS = {"keras": open_keras, "onnx": open_onnx}


def predicted_where_probe_is_not_known(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What a program says that has Keras alone, of pixels of any type."""
    np.save(path.parent / "pixels.npy", pixels)
    code = (
        "import sys, keras, numpy as np\n"
        f"model = keras.models.load_model({path.name!r}, safe_mode=True)\n"
        "as_uint8 = model.predict(np.load('pixels.npy'), verbose=0)\n"
        "as_float = np.asarray(model([np.load('pixels.npy').astype('float64')], training=False))\n"
        "assert 'probe' not in sys.modules\n"
        "np.testing.assert_allclose(as_uint8, as_float, atol=1e-6)\n"
        "np.save('found.npy', as_uint8)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=path.parent, check=True, capture_output=True)
    return np.load(path.parent / "found.npy")


@pytest.mark.parametrize(("name", "size"), [("lite0", 64), ("pixels", 8)])
def test_predictions_are_those_of_predict(
    name: str,
    size: int,
    homes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell = Shell(homes[name], capsys)
    pixels = photographs(size)
    lines = [json.loads(line) for line in shell("predict", "logreg", "--json", PHOTOS).splitlines()]
    answers = {}
    for kind, opened in OPENERS.items():
        path = tmp_path / f"model.{kind}"
        written = shell.json("export", "logreg", "--format", kind, "--output-file", path)
        classes = json.loads(Path(written["description"]).read_text())["classes"]
        card = Path(written["card"]).read_text()
        assert f"{shell.json('runs', 'show', 'logreg')['test']['accuracy']:.4f}" in card
        assert all(name in card for name in classes)
        ask = opened(path)
        found = ask(pixels)
        assert found.shape == (10, len(classes))
        for line, probabilities in zip(lines, found, strict=True):
            assert line["class"] == classes[probabilities.argmax()]
            for label, probability in line["top5"]:
                assert probabilities[classes.index(label)] == pytest.approx(probability, abs=1e-4)
        np.testing.assert_allclose(ask(pixels[:3]), found[:3], atol=1e-5)
        answers[kind] = found
    if name == "lite0":
        elsewhere = predicted_where_probe_is_not_known(tmp_path / "model.keras", pixels)
        np.testing.assert_allclose(elsewhere, answers["keras"], atol=1e-5)


@pytest.mark.parametrize("head", EXPORTABLE)
def test_every_head_that_is_a_network_is_exported_as_it_predicts(
    head: str, homes: dict[str, Path], tmp_path: Path
) -> None:
    from probe.fit.export import export

    home = Home(homes["pixels"])
    run = find_run(home, head)
    pixels = np.resize(photographs(8), (32, 8, 8, 3))
    expected = load_predictor(run, home)(pixels)
    for kind, opened in OPENERS.items():
        path = export(run, home, kind, tmp_path / f"{head}.{kind}").model
        np.testing.assert_allclose(opened(path)(pixels), expected, atol=1e-4)


def test_heads_that_are_no_network_are_refused_with_the_list_of_those_that_are(
    homes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(homes["pixels"], capsys)
    for head in set(HEADS) - set(EXPORTABLE):
        shell("export", head, "--output-file", tmp_path / "model.keras", code=1)
        assert f"{head} head cannot be exported" in shell.error
        assert ", ".join(EXPORTABLE[:2]) in shell.error
    assert list(tmp_path.iterdir()) == []


def test_a_simplification_that_fails_is_done_without(
    homes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tf2onnx.optimizer.identity_optimizer import IdentityOptimizer

    from probe.fit.export import export

    def fail(*_: object) -> None:
        raise RuntimeError("not this graph")

    monkeypatch.setattr(IdentityOptimizer, "optimize", fail)
    monkeypatch.setenv("TF2ONNX_CATCH_ERRORS", "of the user")
    home = Home(homes["pixels"])
    run = find_run(home, "logreg")
    path = export(run, home, "onnx", tmp_path / "model.onnx").model
    pixels = np.resize(photographs(8), (32, 8, 8, 3))
    np.testing.assert_allclose(open_onnx(path)(pixels), load_predictor(run, home)(pixels), atol=1e-4)
    assert os.environ["TF2ONNX_CATCH_ERRORS"] == "of the user"


def test_an_onnx_file_carries_its_class_names(homes: dict[str, Path], tmp_path: Path) -> None:
    import onnx

    from probe.fit.export import export

    home = Home(homes["pixels"])
    run = find_run(home, "logreg")
    model = onnx.load(export(run, home, "onnx", tmp_path / "model.onnx").model)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["classes"] == run.result["classes"]
    assert facts["probe"]["run"] == run.name


def test_a_conv_head_predicts_files_and_needs_a_map(
    homes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(homes["pixels"], capsys)
    lines = [json.loads(line) for line in shell("predict", "conv", "--json", PHOTOS).splitlines()]
    assert len(lines) == 10
    assert all(line["class"] for line in lines)
    shell("fit", "conv", "--output", "pixels", code=1)
    assert "needs a feature map" in shell.error
    assert "block5:map" in shell.error


WRONG: dict[str, tuple[list[str], str]] = {
    "suffix": (["--format", "onnx", "--output-file", "model.keras"], "ending in .onnx"),
    "folder": (["--output-file", "nowhere/model.keras"], "no folder"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_path_that_cannot_be_is_a_usage_error(
    arguments: list[str], message: str, homes: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(homes["pixels"], capsys)
    shell("export", "logreg", *arguments, code=2)
    assert message in shell.error


def test_without_its_packages_onnx_is_refused_before_any_work(
    homes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "tf2onnx" else real(name, *rest)
    )
    shell = Shell(homes["pixels"], capsys)
    shell("export", "logreg", "--format", "onnx", "--output-file", tmp_path / "model.onnx", code=1)
    assert "pip install 'probe[onnx]'" in shell.error


SPECS: dict[str, dict[str, Any]] = {
    **{
        name: {"name": "pixels", "preprocess": name}
        for name in ("caffe", "tf", "torch", "lite", "unit", "none")
    },
    "standardise": {"name": "pixels", "preprocess": "standardise:100,110,120:50,60,70"},
    "several": {
        "name": "efficientnet-lite0",
        "outputs": ["block2", "block4:map", "avg_pool"],
        "weights": "random",
        "preprocess": "caffe",
        "precision": "fp32",
    },
}


@pytest.mark.parametrize("choices", SPECS.values(), ids=SPECS.keys())
def test_the_embedder_computes_what_extraction_stores(choices: dict[str, Any], home: Home) -> None:
    spec = resolve(size=32, home=home, **choices)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    stored = load(spec, batch_size=4)(pixels)
    expected = np.concatenate([stored[output].reshape(4, -1) for output in spec.outputs], axis=1)
    found = build_embedder(spec).predict(pixels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
