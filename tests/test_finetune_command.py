"""``probe finetune``: its options, its output, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow import make_ndarray

from probe.config import Home
from probe.datasets import open_dataset
from probe.fit.predict import load_predictor
from probe.images.decode import resize
from probe.runs import open_run
from probe.workspace.finetune import one_of_each
from tests.shell import PHOTOS


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny


def test_the_three_lines_of_the_customer(shell, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    shell("extract", "--backbone", "vgg16", "--weights", "random", "--size", 32, "toy.npz")
    shell("fit", "logreg")
    monkeypatch.chdir(tmp_path)
    found = shell.json("finetune", "--unfreeze", "block5", "--epochs", 1, "--precision", "fp32")
    promised = "accuracy accuracy_low accuracy_high top5 balanced_accuracy macro_f1 log_loss ece"
    assert set(promised.split()) <= set(found["test"])
    assert {"run", "store", "head", "chosen", "seconds", "val"} <= set(found)
    assert "logreg" in found["comparison"]["name_b"]
    assert found["head_start"].startswith("C of ")
    run = shell.home / "runs" / found["run"]
    assert (run / "curves.png").stat().st_size > 1000
    assert_predicts_as_scored(run, folder / "toy.npz", shell)


def assert_predicts_as_scored(path, npz, shell):
    """New images go the same way as the test images did, but for the float16 of the cached prefix."""
    run, data = open_run(path), open_dataset(str(npz), Home(shell.home))
    predictor = load_predictor(run, Home(shell.home))
    rows = [data.ids.tolist().index(name) for name in run.predictions.ids.tolist()]
    pixels = np.stack([resize(np.asarray(data.source.read(row)), 32) for row in rows])
    np.testing.assert_allclose(predictor(pixels), run.predictions.probabilities, atol=0.01)
    assert len(shell("predict", path, PHOTOS).splitlines()) == 11


def test_dry_run_counts_without_weights_or_data(shell):
    line = "finetune --dry-run --backbone vgg16 --size 32 --unfreeze none --epochs 15 scenes15 --head"
    found = shell.json(*line.split(), "F D120 R")
    assert (found["trainable_params"], found["frozen_params"]) == (63_375, 14_714_688)
    assert found["params"] == 63_375 + 14_714_688
    assert {"steps", "memory_bytes", "cache_bytes", "published"} <= set(found)
    assert "63,375 trainable" in shell(*line.split(), "F D120 R")
    shell(
        "finetune",
        "--dry-run",
        "--backbone",
        "vgg16",
        "--size",
        32,
        "--unfreeze",
        "blok5",
        "scenes15",
        code=2,
    )
    assert "block5" in shell.error
    assert not (shell.home / "stores").exists()


def test_flags_reach_the_training_and_the_result_is_a_backbone(shell, folder, tmp_path):
    line = (
        "finetune --backbone TINY --preprocess standardise --trunk add3 --unfreeze conv3 --optimiser sgd"
        " --lr 0.01 --momentum 0.9 --nesterov --epochs 3 --batch-size 16 --stop val_loss:2"
        " --reduce-lr val_loss:0.5:1:1e-4"
        " --keep last --class-weight balanced --clip 1 --seed 3 --precision fp32"
        " --tensorboard LOG --log TRACKER TOY"
    )
    paths = {"TINY": folder / "tiny.keras", "TOY": folder / "toy.npz", "LOG": tmp_path / "log"}
    paths["TRACKER"] = f"tensorboard:{tmp_path / 'tracked'}"
    found = shell.json(*(paths.get(word, word) for word in line.split()))
    options = found["options"]
    assert options["optimiser"] == {
        "name": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "decay": 0.0,
        "schedule": "constant",
    }
    assert options["stops"] == [{"monitor": "val_loss", "patience": 2}]
    assert options["reduce_lr"] == {"monitor": "val_loss", "factor": 0.5, "patience": 1, "min_lr": 1e-4}
    assert (options["keep"], options["clip"], options["balanced"], options["seed"]) == ("last", 1.0, True, 3)
    assert found["network"]["preprocess"].startswith("standardise:1")
    assert len(list((tmp_path / "log" / "all").glob("events*"))) == len(found["history"]["loss"])
    tracked = EventAccumulator(str(tmp_path / "tracked" / found["run"])).Reload()
    losses = [event.tensor_proto for event in tracked.Tensors("epoch/loss")]
    assert [float(make_ndarray(value)) for value in losses] == pytest.approx(found["history"]["loss"])
    shell.json("fit", "logreg")
    assert shell.json("finetune", "--dry-run", "--unfreeze", "last:3")["trunk"] == "add3"
    again = shell.json("extract", "--backbone", found["run"], folder / "toy.npz")
    spec = shell.json("stores", "show", again["store"])["spec"]["backbone"]
    assert (spec["size"], spec["outputs"]) == (16, ["add3"])
    assert spec["preprocess"] == found["network"]["preprocess"]


def test_the_picture_of_augmented_samples(shell, folder, tmp_path):
    picture = tmp_path / "shown.png"
    shell(
        "finetune", "--backbone", "vgg16", "--augment", "flip", "--show-augment", picture, folder / "toy.npz"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (shell.home / "runs").exists()


def test_the_picture_shows_one_image_of_each_class_first(folder, home):
    data = open_dataset(str(folder / "toy.npz"), home)
    assert sorted(data.labels[one_of_each(data)[:3]].tolist()) == [0, 1, 2]
    assert sorted(one_of_each(data).tolist()) == np.flatnonzero(data.splits == "train").tolist()
    many = replace(data, labels=np.arange(len(data.labels), dtype=np.int32) // 2)
    shown = many.labels[one_of_each(many)[:6]]
    known = many.labels[many.splits == "train"]
    assert len(set(shown.tolist())) == 6
    assert {known.min(), known.max()} <= set(shown.tolist())
    nothing = replace(data, splits=np.full(len(data.splits), "test"))
    assert len(one_of_each(nothing)) == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--stop loss", "--stop cannot be read"),
        ("--reduce-lr val_loss:2:1", "--reduce-lr cannot be read"),
        ("--optimiser adamz", "no optimiser"),
        ("--keep best", "no epoch to keep"),
        ("--head D120", "put F, GAP or GMP before"),
        ("--unfreeze conv9", "no stage or layer"),
        ("--backbone resnet51", "no backbone called"),
        ("--devices GPU:7", "no device GPU:7"),
    ],
)
def test_wrong_choices_are_one_clear_message(shell, folder, line, says):
    backbone = [] if "--backbone" in line else ["--backbone", folder / "tiny.keras", "--preprocess", "unit"]
    shell("finetune", *backbone, *line.split(), folder / "toy.npz", code=2)
    assert says in shell.error
    assert not (shell.home / "stores").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--schedule", "saw"), "schedule cannot be read"),
        (("--schedule", "cosine", "--decay", "1e-3"), "both decay and a schedule"),
        (("--schedule", "linear", "--reduce-lr", "val_loss:0.1:3"), "both a schedule and a plateau"),
    ],
)
def test_rules_of_the_rate_that_cannot_be_are_said_before_any_work(shell, folder, flags, said):
    tiny = ("--backbone", folder / "tiny.keras", "--trunk", "add3", "--preprocess", "none")
    shell("finetune", *tiny, *flags, folder / "toy.npz", code=2)
    assert said in shell.error
    assert not (shell.home / "stores").exists()
