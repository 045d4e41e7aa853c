"""Runs that trained a network themselves: on files as on their test images, exported, refused if changed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import open_dataset
from probe.fit import predict
from probe.fit.export import export
from probe.fit.predict import BATCH, load_predictor
from probe.runs import Run, find_run, open_run
from probe.studies.experiment import Experiment, run_experiment, source_of
from probe.studies.recipe import Recipe
from tests.shell import Shell
from tests.test_export import OPENERS

SIZE, TEST = 12, 24
RECIPE = Recipe(
    name="test/tiny",
    summary="channels have different means, and a batch norm has something to remember",
    data="none",
    network="C8k3s R B P2 F D8 R",
    size=SIZE,
    normalise="norm",
    epochs=1,
    batch_size=16,
)
KINDS = {"colour": (3, 3), "grey": (3, 1), "binary": (2, 3), "pixelwise": (3, 1)}
"""Name -> classes and channels of the pictures."""


def write_set(folder: Path, classes: int, channels: int) -> Path:
    """``set.npz``, pictures of 15×10 whose brightness grows with their label, and its test part as PNG."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 48), ("val", 12), ("test", TEST)):
        labels = np.arange(count) % classes
        means = (60 + 40 * labels)[:, None, None, None] + np.array([0, 25, 50])[:channels]
        noise = rng.normal(means, 30, (count, 15, 10, channels))
        arrays[f"{split}_images"] = np.clip(noise, 0, 255).astype(np.uint8).squeeze()
        arrays[f"{split}_labels"] = labels
    (folder / "pictures").mkdir(parents=True)
    np.savez(folder / "set.npz", **arrays)
    for number, picture in enumerate(arrays["test_images"]):
        Image.fromarray(picture).save(folder / "pictures" / f"{number:03d}.png")
    return folder / "set.npz"


def trained(recipe: Recipe, path: Path, home: Home, precision: str = "fp32") -> Run:
    source = source_of(recipe, home, str(path))
    return run_experiment(Experiment(recipe, source.pixels(recipe.size), precision=precision), home)[0]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a kind, with its set, and the runs on them in ``home``."""
    folder = tmp_path_factory.mktemp("trained")
    home = Home(folder / "home")
    for name, (classes, channels) in KINDS.items():
        path = write_set(folder / name, classes, channels)
        recipe = replace(RECIPE, name=f"test/{name}", binary=name == "binary")
        trained(replace(recipe, normalise="pixelwise") if name == "pixelwise" else recipe, path, home)
    return folder


@pytest.fixture
def home(material: Path) -> Home:
    return Home(material / "home")


@pytest.fixture
def shell(material: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(material / "home", capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_images_are_predicted_from_files_as_they_were_scored(
    kind: str, material: Path, home: Home
) -> None:
    run = find_run(home, kind)
    classes, channels = KINDS[kind]
    assert run.result["input"]["channels"] == channels
    found = list(predict(run, home, [material / kind / "pictures"]))
    assert [Path(prediction.id).name for prediction in found] == [f"{n:03d}.png" for n in range(TEST)]
    assert {len(prediction.top5) for prediction in found} == {classes}
    probabilities = [[dict(one.top5)[name] for name in run.result["classes"]] for one in found]
    np.testing.assert_allclose(probabilities, run.predictions.probabilities, atol=1e-5)
    assert np.ptp(run.predictions.probabilities, axis=0).min() > 0.01


def test_a_colour_picture_is_shown_by_its_brightness_to_a_network_that_takes_grey(home: Home) -> None:
    predictor = load_predictor(find_run(home, "grey"), home)
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    brightness = [np.array(Image.fromarray(picture).convert("L").convert("RGB")) for picture in pictures]
    found = predictor(pictures)
    np.testing.assert_allclose(found, predictor(np.stack(brightness)), atol=0.01)
    assert np.abs(found - predictor(np.repeat(pictures[..., :1], 3, axis=-1))).max() > 0.05


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(
    shell: Shell, material: Path, tmp_path: Path
) -> None:
    shutil.copy(material / "binary" / "pictures" / "000.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    bad, good = csv.DictReader(io.StringIO(shell("predict", "binary", tmp_path, code=4)))
    assert (bad["class"], good["class"] in ("0", "1")) == ("", True)
    assert "bad.png" in shell.error
    lines = [json.loads(line) for line in shell("predict", "binary", "--json", tmp_path, code=4).splitlines()]
    assert lines[0]["problem"]
    assert (lines[1]["class"], len(lines[1]["top5"])) == (good["class"], 2)


@pytest.mark.parametrize("suffix", OPENERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_says_what_predict_says(
    kind: str, suffix: str, home: Home, tmp_path: Path
) -> None:
    run = find_run(home, kind)
    pixels = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    written = export(run, home, suffix, tmp_path / f"model.{suffix}")
    found = OPENERS[suffix](written.model)(pixels)
    np.testing.assert_allclose(found, load_predictor(run, home)(pixels), atol=1e-4)
    facts = json.loads(written.description.read_text())
    assert facts["classes"] == run.result["classes"]
    assert facts["input"]["shape"] == [None, SIZE, SIZE, 3]
    assert facts["input"]["resize"]["resize"] == "stretch"


def test_a_run_in_bfloat16_predicts_in_it_and_is_exported_in_float32(material: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    run = trained(RECIPE, material / "colour" / "set.npz", home, "bf16")
    data = open_dataset(str(material / "colour" / "set.npz"), home)
    assert data.splits.tolist().count("test") == TEST
    (first, *_) = predict(run, home, [material / "colour" / "pictures"])
    stored = run.predictions.probabilities[0]
    np.testing.assert_allclose([dict(first.top5)[name] for name in run.result["classes"]], stored, atol=0.02)
    model = keras.models.load_model(export(run, home, "keras", tmp_path / "model.keras").model)
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert {layer.compute_dtype for layer in inner[0].layers} == {"float32"}
    pixels = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), load_predictor(run, home)(pixels), atol=0.05)


# ---- the network that was scored, or none ----------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_network_is_refused_in_one_message(
    shell: Shell, home: Home, material: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(find_run(home, "colour").path, copy)
    flip_a_byte(copy / "model.keras")
    for line in (
        ("predict", copy, material / "colour" / "pictures"),
        ("export", copy, "--output-file", tmp_path / "model.keras"),
    ):
        assert shell(*line, code=1) == ""
        assert "is not the one that was scored" in shell.error
        assert open_run(copy).result["files"]["model.keras"] in shell.error
    assert not (tmp_path / "model.keras").exists()
    (copy / "model.keras").unlink()
    shell("predict", copy, material / "colour" / "pictures", code=1)
    assert "is missing" in shell.error


def test_a_run_from_before_hashes_were_recorded_is_taken_as_it_is(
    shell: Shell, home: Home, material: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(find_run(home, "colour").path, copy)
    record = json.loads((copy / "result.json").read_text())
    del record["files"], record["pixels"]
    (copy / "result.json").write_text(json.dumps(record))
    assert len(shell("predict", copy, material / "colour" / "pictures").splitlines()) == 1 + TEST
    shell("export", copy, "--output-file", tmp_path / "model.keras")


def test_a_fine_tuned_network_is_exported_and_refused_alike(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Conv2D(4, 3, name="one")(pixels)
    keras.Model(pixels, keras.layers.Conv2D(4, 3, name="two")(features)).save(tmp_path / "tiny.keras")
    shell, data = Shell(tmp_path / "home", capsys), material / "binary" / "set.npz"
    line = "finetune --preprocess caffe --unfreeze two --epochs 1 --precision fp32 --backbone"
    run = open_run(shell.home / "runs" / shell.json(*line.split(), tmp_path / "tiny.keras", data)["run"])

    pictures = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    written = export(run, Home(shell.home), "keras", tmp_path / "model.keras").model
    predicted = load_predictor(run, Home(shell.home))(pictures)
    np.testing.assert_allclose(OPENERS["keras"](written)(pictures), predicted, atol=1e-4)

    shell("extract", "--backbone", run.name, data)
    flip_a_byte(run.path / "network.keras")
    for refused in (
        ("predict", run.name, material / "binary" / "pictures"),
        ("export", run.name, "--output-file", tmp_path / "again.keras"),
        ("extract", "--backbone", run.name, data),
        ("finetune", "--backbone", run.name, "--unfreeze", "two", data),
    ):
        shell(*refused, code=1)
        assert "is not the one that was scored" in shell.error
