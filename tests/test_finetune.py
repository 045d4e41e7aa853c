"""Fine-tuning: where a network is cut, the prefix as an embedding, two stages, resume, the result."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from probe import backbones
from probe.commands.finetune import command, one_of_each, tune_settings
from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import FitError, UnknownNameError, UsageError
from probe.extract import ExtractJob, Views, extract
from probe.finetune.cut import cut_network
from probe.finetune.headstart import find_probes
from probe.finetune.outcome import find_frozen
from probe.finetune.plan import TuneJob, TuneSettings, prepare
from probe.finetune.run import check_converged, finetune, plan
from probe.fit import FitJob, fit
from probe.fit.predict import load_predictor
from probe.fit.rows import Choice
from probe.heads.logreg import LogregOptions
from probe.images.augment import Augment
from probe.images.decode import resize
from probe.records import without_nan
from probe.report.runs import result_lines
from probe.runs import Predictions, open_run
from probe.runs.weight import FEW
from probe.store import find_store, list_stores
from probe.studies.baselines import BASELINES
from probe.train.loop import LoopResult
from probe.train.rules import Optimiser
from tests.shell import PHOTOS

PROJECT = Path(__file__).parents[1]
HEAD8 = "F D1024 R B DO.5 D1024 R B DO.5 D512 R B DO.5"


# ---- cutting real networks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """Untrained networks by name and size, built once."""
    built = {}

    def build(name, size=32):
        if (name, size) not in built:
            spec = backbones.resolve(
                name, size=size, weights="random", precision="fp32", home=Home(Path("unused"))
            )
            built[name, size] = backbones.build_network(spec)
        return built[name, size]

    return build


def cut(network, name, size=32, **choices):
    return cut_network(network(name, size), backbones.find_row(name).stages, **choices)


GOLDEN = [
    ("vgg16", 32, {}, "F D120 R", 15, 63_375, 14_714_688),
    ("resnet50", 32, {}, "F D120 R", 15, 247_695, 23_587_712),
    ("vgg16", 150, {}, "F D256 R DO.5", 2, 2_097_665, 14_714_688),
    (
        "vgg16",
        32,
        {"trunk": "block3_pool", "unfreeze": "block3"},
        f"C512k3s R {HEAD8}",
        10,
        12_895_050 - 260_160 - 2 * (1024 + 1024 + 512),
        260_160 + 2 * (1024 + 1024 + 512),
    ),
    (
        "vgg16",
        32,
        {"trunk": "block3_pool", "unfreeze": "block3"},
        "C512k3s R GAP",
        10,
        2_655_488 + 5_130,
        260_160,
    ),
]


@pytest.mark.parametrize(("name", "size", "choices", "head", "classes", "trainable", "frozen"), GOLDEN)
def test_parameters_are_those_of_the_studies(
    network, tmp_path, name, size, choices, head, classes, trainable, frozen
):
    job = TuneJob(
        replace_classes(classes),
        backbones.resolve(name, size=size, weights="random", precision="fp32", home=Home(tmp_path)),
        backbones.find_row(name).stages,
        TuneSettings(head=head, **choices),
    )
    found = prepare(job, network(name, size), {"train": 10, "val": 0, "test": 0}, Home(tmp_path)).plan
    assert (found.trainable_params, found.frozen_params) == (trainable, frozen)
    assert found.params == trainable + frozen


def replace_classes(classes):
    from probe.datasets.dataset import Dataset

    none = np.array([], np.str_)
    return Dataset("d", none, none, np.array([], np.int32), none, tuple(map(str, range(classes))), None)


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "efficientnet-lite0", "nasnetmobile"])
def test_every_stage_of_every_backbone_can_be_unfrozen(network, name):
    frozen = [cut(network, name, unfreeze=f"block{i}").frozen for i in range(1, 6)]
    assert frozen[0] == 0
    assert frozen == sorted(set(frozen))
    last = cut(network, name, unfreeze="block5")
    assert last.has_prefix
    assert 0 < last.trainable_params < last.params


def test_a_cut_across_nine_tensors_computes_what_the_network_does(network):
    whole = network("nasnetmobile", 224)
    found = cut(network, "nasnetmobile", 224, unfreeze="last:50")
    assert len(found.crossing) == 9
    assert sum(int(np.prod(shape)) for shape in found.shapes(224).values()) == 120_736
    pixels = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    again = found.suffix()(found.prefix()(pixels))
    np.testing.assert_array_equal(np.array(again), np.array(whole(pixels)))


def test_resnet_cut_by_count_crosses_two_tensors_and_by_stage_one(network):
    assert len(cut(network, "resnet50", unfreeze="last:50").crossing) == 2
    assert cut(network, "resnet50", unfreeze="block5").crossing == ("conv4_block6_out",)


def test_all_none_last_and_first_count_keras_layers(network):
    layers = len(network("vgg16").layers)
    assert cut(network, "vgg16", unfreeze="all").frozen == 0
    assert cut(network, "vgg16", unfreeze="none").frozen == layers
    assert cut(network, "vgg16", unfreeze="last:4").frozen == layers - 4
    assert cut(network, "vgg16", freeze="first:10").frozen == 10
    assert cut(network, "vgg16", unfreeze="block4_conv2").crossing == ("block4_conv1",)


@pytest.mark.parametrize(
    ("choices", "error", "says"),
    [
        ({"unfreeze": "block6"}, UnknownNameError, "block1, block2"),
        ({"unfreeze": "block4", "trunk": "block3"}, UnknownNameError, "block3_pool"),
        ({"trunk": "blok3"}, UnknownNameError, "block3_pool"),
        ({"unfreeze": "last:9999"}, UsageError, "19 layers"),
        ({"freeze": "last:3"}, UsageError, "first:N"),
        ({"freeze": "first:3", "unfreeze": "all"}, UsageError, "exclude"),
    ],
)
def test_cuts_that_cannot_be_say_what_can(network, choices, error, says):
    with pytest.raises(error) as caught:
        cut(network, "vgg16", **choices)
    assert says in str(caught.value)


# ---- training a small network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``tiny.keras``, with batch norm, dropout and a shortcut, and ``toy.npz``, whose val is its train."""
    path = tmp_path_factory.mktemp("material")
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((16, 16, 3))
    for i in (1, 2, 3):
        side = keras.layers.Conv2D(8, 1, name=f"side{i}")(x)
        x = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.Activation("relu", name=f"relu{i}")(x)
        x = keras.layers.Dropout(0.5, name=f"drop{i}")(x)
        x = keras.layers.Add(name=f"add{i}")([x, side])
    model = keras.Model(pixels, x)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.startswith("bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, 8) for _ in range(4)])
    model.save(path / "tiny.keras")
    arrays = {}
    for split, seed, count in (("train", 0, 60), ("val", 0, 60), ("test", 1, 30)):
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        noise = rng.normal(100, 50, (count, 16, 16, 3))
        arrays[f"{split}_images"] = np.clip(noise + 15 * labels[:, None, None, None], 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(path / "toy.npz", **arrays)
    return path


def tiny_job(folder, home, preprocess="unit", **choices):
    spec = backbones.resolve(
        str(folder / "tiny.keras"), preprocess=preprocess, outputs=["add3"], precision="fp32", home=home
    )
    settings = TuneSettings(**{"optimiser": Optimiser("adam", 1e-3), "epochs": 2, "batch_size": 8, **choices})
    return TuneJob(open_dataset(str(folder / "toy.npz"), home), spec, {}, settings)


def with_large_pictures(dataset):
    """The data set, indexed as if its pictures were JPEGs that are decoded at a fraction."""
    return replace(dataset, jpeg_sides=np.full(len(dataset), 4000, np.int32))


def trained(run):
    return keras.models.load_model(run.path / "network.keras")


def test_the_prefix_cache_changes_nothing(folder, home):
    history = {}
    for cached in (True, False):
        for head in (None, "GAP D8 R"):
            gentle = Optimiser("rmsprop", 1e-4)
            job = tiny_job(folder, home, unfreeze="conv3", head=head, optimiser=gentle, prefix_cache=cached)
            run = finetune(job, home)
            assert run.result["plan"]["prefix_cache"] is cached
            history[cached, head] = run.result["history"]
    for head in (None, "GAP D8 R"):
        for figure in ("loss", "val_loss"):
            np.testing.assert_allclose(history[True, head][figure], history[False, head][figure], atol=1e-3)
    assert list_stores(home)[0][0].manifest.layout.internal
    assert not find_store(home, None).manifest.layout.internal


@pytest.mark.parametrize("cached", [True, False])
def test_a_trunk_trains_in_inference_mode_and_a_frozen_one_does_not_move_by_one_bit(folder, home, cached):
    job = tiny_job(
        *(folder, home),
        unfreeze="conv2",
        optimiser=Optimiser("sgd", 1e-4),
        epochs=2,
        keep="last",
        prefix_cache=cached,
    )
    before = keras.models.load_model(folder / "tiny.keras")
    after = trained(finetune(job, home))
    pixels = np.random.default_rng(1).normal(size=(4, 16, 16, 3)).astype(np.float32)

    def values(model, layer):
        return keras.Model(model.input, model.get_layer(layer).output).predict(pixels, verbose=0)

    np.testing.assert_array_equal(values(before, "add1"), values(after, "add1"))
    assert (values(before, "add2") != values(after, "add2")).any()
    for name in ("bn1", "bn2", "bn3"):
        for statistic in ("moving_mean", "moving_variance"):
            old, new = (getattr(model.get_layer(name), statistic).numpy() for model in (before, after))
            np.testing.assert_array_equal(old, new)
    assert (before.get_layer("bn2").gamma.numpy() != after.get_layer("bn2").gamma.numpy()).any()


def test_training_computes_what_prediction_does_unless_batch_norm_is_asked_to_learn(folder, home):
    """With a rate of next to nothing the loss over train is that over val, which holds the same images."""
    still = {"unfreeze": "conv2", "optimiser": Optimiser("sgd", 1e-12), "epochs": 1, "keep": "last"}
    history = finetune(tiny_job(folder, home, **still), home).result["history"]
    assert history["loss"][0] == pytest.approx(history["val_loss"][0], rel=1e-4)
    run = finetune(tiny_job(folder, home, **still, train_bn=True), home)
    assert run.result["history"]["loss"][0] != pytest.approx(run.result["history"]["val_loss"][0], rel=1e-2)
    moved = trained(run).get_layer("bn2").moving_mean.numpy()
    assert (
        moved != keras.models.load_model(folder / "tiny.keras").get_layer("bn2").moving_mean.numpy()
    ).any()


def test_the_default_head_starts_as_the_frozen_probe(folder, home):
    still = tiny_job(folder, home, unfreeze="conv3", optimiser=Optimiser("sgd", 1e-12), epochs=1)
    run = finetune(still, home)
    comparison = run.result["comparison"]
    assert (comparison["only_a"], comparison["only_b"]) == (0, 0)
    assert "no difference shown" in comparison["verdict"]
    assert run.result["test"]["accuracy"] == comparison["accuracy_b"]


def test_two_classes_share_one_unit_and_start_as_the_probe_too(folder, home):
    job = tiny_job(folder, home, unfreeze="conv3", optimiser=Optimiser("sgd", 1e-12), epochs=1, balanced=True)
    data = job.dataset
    keep = np.flatnonzero(data.labels < 2)
    run = finetune(replace(job, dataset=replace(data.take(keep), classes=data.classes[:2])), home)
    assert trained(run).output_shape == (None, 1)
    assert run.predictions.probabilities.shape[1] == 2
    assert (run.result["comparison"]["only_a"], run.result["comparison"]["only_b"]) == (0, 0)


def test_stored_views_keep_the_cache_and_fresh_ones_do_without(folder, home):
    flips = {"unfreeze": "conv3", "augment": Augment(flip=True, shift=0.1)}
    stored = finetune(tiny_job(folder, home, **flips, views=2, epochs=3), home)
    assert stored.result["plan"]["prefix_cache"]
    assert find_store(home, stored.result["store"]).view_count == 2
    fresh = finetune(tiny_job(folder, home, **flips, epochs=1), home)
    assert not fresh.result["plan"]["prefix_cache"]
    assert "--views" in fresh.result["plan"]["cache_reason"]


def test_a_cache_that_is_too_large_says_what_it_needs_and_is_done_without(folder, home):
    found = plan(tiny_job(folder, home, unfreeze="conv3", memory=1000), home)
    assert not found.prefix_cache
    assert "--memory allows" in found.cache_reason
    assert found.cache_bytes == 150 * 16 * 16 * 8 * 2


def test_what_does_not_fit_in_float16_is_cached_in_float32(folder, home):
    job = tiny_job(folder, home, "standardise:0,0,0:0.00001,0.00001,0.00001", unfreeze="conv3", epochs=1)
    run = finetune(replace(job, settings=replace(job.settings, optimiser=Optimiser("sgd", 1e-12))), home)
    assert find_store(home, run.result["store"]).manifest.layout.dtype == "float32"


def test_a_diverged_training_is_an_error_and_no_run(folder, home):
    with pytest.raises(FitError, match="diverged"):
        finetune(tiny_job(folder, home, unfreeze="conv3", optimiser=Optimiser("sgd", 1e30)), home)
    assert not home.runs.exists()


def test_unfreezing_everything_or_nothing(folder, home):
    everything = plan(tiny_job(folder, home, unfreeze="all"), home)
    assert not everything.prefix_cache
    run = finetune(tiny_job(folder, home, unfreeze="none", head="GAP D8 R", epochs=2), home)
    assert run.result["head_history"] is None
    assert run.result["plan"]["first_trained"] is None


def test_a_finished_training_is_not_repeated_when_it_is_resumed(folder, home):
    job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    first, said = finetune(job, home), []
    assert finetune(job, home, resume=True, say=said.append).name == first.name
    assert "not repeated" in said[-1]
    assert finetune(job, home).name != first.name
    longer = replace(job, settings=replace(job.settings, epochs=2))
    assert len(finetune(longer, home, resume=True).result["history"]["loss"]) == 2


def test_a_training_whose_pictures_were_decoded_in_full_is_another(folder, home):
    job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    first = finetune(job, home)
    large = replace(job, dataset=with_large_pictures(job.dataset))
    second = finetune(large, home, resume=True)
    assert second.name != first.name
    assert [run.result["pixels"]["policy"] for run in (first, second)] == ["pillow-1", "pillow-2"]
    assert finetune(large, home, resume=True).name == second.name
    assert finetune(job, home, resume=True).name == first.name


# ---- the start, and the frozen probe ---------------------------------------------------------------------


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


STILL = {"unfreeze": "conv3", "optimiser": Optimiser("sgd", 1e-12), "epochs": 1}


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


def test_every_file_of_a_run_is_among_the_hashed_ones(folder, home):
    run = finetune(tiny_job(folder, home, **STILL), home)
    files = {path.name for path in run.path.iterdir()} - {"result.json"}
    assert "curves.png" in files
    assert set(run.result["files"]) == files


RESUME = """
import sys
from pathlib import Path
from tests.test_finetune import Home, finetune, tiny_job
folder, home, epochs = Path(sys.argv[1]), Home(Path(sys.argv[2])), 4
job = tiny_job(folder, home, unfreeze="conv2", head="F DO.3 D8 R", head_epochs=1, epochs=epochs)
def tell(epoch, figures): print("epoch", epoch, flush=True)
print(finetune(job, home, resume=sys.argv[3] == "resume", on_epoch=tell).path, flush=True)
"""


def start(*arguments):
    environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", RESUME, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_killed_in_the_second_epoch_and_resumed_ends_with_the_same_weights(folder, tmp_path):
    undisturbed = start(folder, tmp_path / "one", "anew")
    killed = start(folder, tmp_path / "two", "anew")
    seen = []
    for line in killed.stdout:
        seen.append(line.strip())
        if seen.count("epoch 1") == 2:  # of the head, and of head and trunk
            killed.send_signal(signal.SIGKILL)
            break
    killed.stdout.close()
    assert killed.wait() == -signal.SIGKILL
    resumed = start(folder, tmp_path / "two", "resume")
    first, second = (process.communicate()[0].splitlines() for process in (undisturbed, resumed))
    assert [line for line in second if line.startswith("epoch")][-1] == "epoch 4"
    assert len(second) < len(first)
    weights = [
        keras.models.load_model(Path(lines[-1]) / "network.keras").get_weights() for lines in (first, second)
    ]
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)


MIRRORED = """
import sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.test_finetune import Home, finetune, tiny_job
folder, home = Path(sys.argv[1]), Home(Path(sys.argv[2]))
job = tiny_job(folder, home, unfreeze="conv2", epochs=2)
runs = [finetune(job, home, devices=devices) for devices in (["CPU:0", "CPU:1"], None)]
losses = [run.result["history"]["val_loss"] for run in runs]
print(*losses[0], *losses[1])
"""


def test_two_devices_train_one_network(folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(folder), str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [float(value) for value in done.stdout.split()]
    np.testing.assert_allclose(found[:2], found[2:], rtol=1e-3)


# ---- the command -----------------------------------------------------------------------------------------


def test_the_three_lines_of_the_customer(shell, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    shell("extract", "--backbone", "resnet50", "--weights", "random", "--size", 32, "toy.npz")
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
        " --keep last --class-weight balanced --clip 1 --seed 3 --tensorboard LOG --precision fp32 TOY"
    )
    paths = {"TINY": folder / "tiny.keras", "TOY": folder / "toy.npz", "LOG": tmp_path / "log"}
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
    shell.json("fit", "logreg")
    assert shell.json("finetune", "--dry-run", "--unfreeze", "last:3")["trunk"] == "add3"
    again = shell.json("extract", "--backbone", found["run"], folder / "toy.npz")
    spec = shell.json("stores", "show", again["store"])["spec"]["backbone"]
    assert (spec["size"], spec["outputs"]) == (16, ["add3"])
    assert spec["preprocess"] == found["network"]["preprocess"]


TUNED = [row for row in BASELINES.values() if row.commands and "finetune" in row.commands[-1]]


@pytest.mark.parametrize("row", TUNED, ids=lambda row: row.name)
def test_the_command_lines_of_the_studies_fit_their_networks(row, network, home):
    """Cut and head can be built on the backbone of the row, and come to the counts that it states."""
    choices = command.make_context("finetune", shlex.split(row.commands[-1])[2:]).params
    first = shlex.split(row.commands[0])
    name = choices["backbone"] or first[first.index("--backbone") + 1]
    job = TuneJob(
        replace_classes(row.classes),
        backbones.resolve(name, size=row.size, weights="random", precision="fp32", home=home),
        backbones.find_row(name).stages,
        tune_settings(choices, choices["trunk"], "fp32"),
    )
    found = prepare(job, network(name, row.size), {"train": 10, "val": 0, "test": 0}, home).plan
    assert row.params in (None, found.params)
    assert row.trainable in (None, found.trainable_params)


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
    ],
)
def test_wrong_choices_are_one_clear_message(shell, folder, line, says):
    backbone = [] if "--backbone" in line else ["--backbone", folder / "tiny.keras", "--preprocess", "unit"]
    shell("finetune", *backbone, *line.split(), folder / "toy.npz", code=2)
    assert says in shell.error


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
