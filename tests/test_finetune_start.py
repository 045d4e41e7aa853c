"""The start of a fine-tuning, and the frozen probe that it is put beside."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from probe.config import Home
from probe.errors import FitError
from probe.extract import ExtractJob, Views, extract
from probe.finetune.headstart import find_probes
from probe.finetune.outcome import find_frozen
from probe.finetune.run import finetune
from probe.finetune.tuning import check_converged
from probe.fit import FitJob, fit
from probe.fit.rows import Choice
from probe.heads.logreg import LogregOptions
from probe.images.augment import Augment
from probe.records import without_nan
from probe.report.runs import result_lines
from probe.runs import Predictions
from probe.runs.weight import FEW
from probe.store import find_store, list_stores
from probe.train.loop import LoopResult
from probe.train.rules import Optimiser
from tests.tiny_tuning import tiny_job, trained, with_large_pictures


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny


@pytest.fixture
def home(begun):
    return begun


STILL = {"unfreeze": "conv3", "optimiser": Optimiser("sgd", 1e-12), "epochs": 1}


@pytest.fixture(scope="module")
def still(folder, tmp_path_factory):
    """A run that hardly moves, in a home without any frozen probe."""
    home = Home(tmp_path_factory.mktemp("still"))
    return finetune(tiny_job(folder, home, **STILL), home)


@pytest.fixture(scope="module")
def probed(folder, tmp_path_factory):
    """A home with a store of ``toy.npz`` and runs of logreg and, newer, of heads that are no frozen probe."""
    home = Home(tmp_path_factory.mktemp("probed"))
    job = tiny_job(folder, home)
    extract(ExtractJob(job.dataset, job.backbone, views=Views(1, Augment(flip=True), everywhere=True)), home)
    both = replace(job.backbone, outputs=("add3", "add1"))
    extract(ExtractJob(job.dataset, both), home)
    (viewed,) = [store for store in list_stores(home)[0] if store.view_count]
    (wide,) = [store for store in list_stores(home)[0] if not store.view_count]
    right = fit(FitJob(viewed, options=LogregOptions(c=(0.03,))), home)
    for head in ("majority", "centroid"):
        fit(FitJob(viewed, head), home)
    fit(FitJob(viewed, options=LogregOptions(c=(1e-6,), class_weight="balanced")), home)
    fit(FitJob(viewed, choice=Choice(views=1), options=LogregOptions(c=(1e-6,))), home)
    fit(FitJob(viewed, average_views=True, options=LogregOptions(c=(1e-6,))), home)
    for outputs in (("add1",), ("add3", "add1")):
        fit(FitJob(wide, choice=Choice(outputs=outputs), options=LogregOptions(c=(1e-6,))), home)
    return home, right


def test_the_default_head_starts_as_the_frozen_probe(still):
    comparison = still.result["comparison"]
    assert (comparison["only_a"], comparison["only_b"]) == (0, 0)
    assert "no difference shown" in comparison["verdict"]
    assert still.result["test"]["accuracy"] == comparison["accuracy_b"]


def test_every_file_of_a_run_is_among_the_hashed_ones(still):
    files = {path.name for path in still.path.iterdir()}
    assert "curves.png" in files
    assert set(still.result["files"]) == files


def test_the_frozen_probe_is_the_logistic_one_whatever_was_fitted_since(folder, probed):
    home, right = probed
    found = finetune(tiny_job(folder, home, **STILL), home).result
    assert found["frozen_probe"]["run"] == right.name
    assert found["comparison"]["name_b"] == f"the frozen probe ({right.name})"
    assert found["comparison"]["accuracy_b"] == right.result["test"]["accuracy"]
    assert found["head_start"] == f"C of {right.name}, fitted on the training part"


def test_of_several_frozen_probes_it_is_the_newest(folder, probed):
    home, right = probed
    job = tiny_job(folder, home)
    newest = fit(FitJob(find_store(home, right.result["store"]), refit=False), home)
    found = find_probes(home, ExtractJob(job.dataset, job.backbone))
    assert [run.name for run in found] == [newest.name, right.name]
    shutil.rmtree(newest.path)


def test_another_size_exif_or_labelling_is_another_probe(folder, probed):
    home, right = probed
    job = tiny_job(folder, home)
    data, backbone = job.dataset, job.backbone

    def names(*job, **more):
        return [run.name for run in find_probes(home, ExtractJob(*job, **more))]

    assert names(data, backbone) == [right.name]
    assert names(data, replace(backbone, precision="bf16")) == [right.name]
    assert names(data, replace(backbone, size=24)) == []
    assert names(data, replace(backbone, preprocess="caffe")) == []
    assert names(data, replace(backbone, outputs=("add2",))) == []
    assert names(data, backbone, exif=True) == []
    assert names(with_large_pictures(data), backbone) == []
    assert names(replace(data, labels=data.labels[::-1].copy()), backbone) == []
    assert names(replace(data, splits=np.roll(data.splits, 1)), backbone) == []


def test_a_probe_whose_predictions_cannot_be_paired_is_passed_over_and_said(folder, probed):
    home, right = probed
    job = tiny_job(folder, home)
    mine = right.predictions
    half = Predictions(mine.ids[::2], mine.labels[::2], mine.probabilities[::2])
    moved = Predictions(mine.ids, (mine.labels + 1) % 3, mine.probabilities)
    lost = replace(right, path=home.root / "nowhere")
    others = []
    for other in (half, moved):
        run = replace(right, path=right.path)
        vars(run)["predictions"] = other
        others.append(run)
    frozen, notes = find_frozen(mine, None, [*others, lost, right])
    assert frozen.run == right.name
    assert ["other test images" in note for note in notes] == [True, False, False]
    assert "disagree about the labels" in notes[1]
    assert "cannot be read" in notes[2]
    assert find_frozen(mine, None, others)[0] is None
    assert job.dataset.name


def test_without_a_logistic_run_the_head_start_is_the_frozen_probe(folder, home):
    job = tiny_job(folder, home, **STILL)
    extract(ExtractJob(job.dataset, job.backbone), home)
    fit(FitJob(find_store(home, None), "majority"), home)
    found = finetune(job, home).result
    assert found["frozen_probe"] == {
        "run": None,
        "source": "the frozen probe (the head start)",
        "precision": "fp32",
    }
    assert abs(found["comparison"]["difference"]) < 0.1
    assert "the head start" in found["comparison"]["verdict"]
    assert "chosen on" in found["head_start"]


def test_epochs_that_are_all_worse_leave_the_start(folder, home):
    """RMSprop's first steps are as long as its rate, whatever the gradient: a fitted head is thrown far."""
    wild = {"unfreeze": "conv3", "optimiser": Optimiser("rmsprop", 0.3), "epochs": 3}
    seen = []
    run = finetune(tiny_job(folder, home, **wild), home, on_epoch=lambda epoch, _: seen.append(epoch))
    found = run.result
    assert min(found["history"]["val_loss"]) > found["start"]["val_loss"]
    assert found["chosen"] == {"epoch": 0}
    assert len(found["history"]["loss"]) == 3
    assert seen == [0, 1, 2, 3]
    assert found["val"]["log_loss"] == pytest.approx(found["start"]["val_loss"], rel=1e-3)
    assert (found["comparison"]["only_a"], found["comparison"]["only_b"]) == (0, 0)
    (said,) = [note for note in found["notes"] if note.startswith("no gain")]
    assert said.startswith("no gain: the frozen probe is kept, val_loss")
    assert "epoch 0" in "\n".join(result_lines(run))
    before = keras.models.load_model(folder / "tiny.keras").get_layer("conv3").get_weights()
    for left, right in zip(before, trained(run).get_layer("conv3").get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_epoch_that_gains_is_kept_and_said(folder, home):
    gentle = {"unfreeze": "conv3", "optimiser": Optimiser("adam", 1e-3), "epochs": 2}
    found = finetune(tiny_job(folder, home, **gentle), home).result
    assert found["chosen"]["epoch"] > 0
    assert min(found["history"]["val_loss"]) < found["start"]["val_loss"]
    assert any(note.startswith(f"epoch {found['chosen']['epoch']} is kept") for note in found["notes"])
    parts = {"test": found["parts"]["test"], "validation": found["parts"]["val"]}
    for part, count in parts.items():
        assert any(f"the {part} part has {count} images" in note for note in found["notes"]) == (count < FEW)


def test_a_head_of_its_own_is_the_start_once_it_has_been_trained_and_not_before(folder, home):
    wild = {"unfreeze": "conv3", "head": "GAP D8 R", "optimiser": Optimiser("rmsprop", 1.0), "epochs": 1}
    fitted = finetune(tiny_job(folder, home, **wild, head_epochs=3), home).result
    assert fitted["chosen"] == {"epoch": 0}
    assert fitted["start"]["val_loss"] == pytest.approx(min(fitted["head_history"]["val_loss"]), rel=1e-4)
    assert any(note.startswith("no gain: the head on the frozen backbone") for note in fitted["notes"])
    for head in ("GAP D8 R", None):
        untrained = finetune(tiny_job(folder, home, **{**wild, "head": head}, head_epochs=0), home).result
        assert untrained["start"] is None
        assert untrained["chosen"] == {"epoch": 1}


def test_a_training_that_diverges_after_a_worse_epoch_keeps_the_start_and_is_written():
    history = {"loss": [9.0, math.nan], "val_loss": [9.0, math.nan]}
    check_converged(LoopResult(history, 0, "diverged", 1.0, {"val_loss": 0.5}, "val_loss"))
    assert (
        json.dumps(without_nan(history), allow_nan=False) == '{"loss": [9.0, null], "val_loss": [9.0, null]}'
    )
    with pytest.raises(FitError, match="diverged"):
        check_converged(LoopResult({"loss": [math.nan]}, 0, None, 1.0, {"val_loss": 0.5}, "val_loss"))
