"""Fine-tuning a small network: the prefix as an embedding, what moves and what does not."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from probe.errors import FitError
from probe.finetune.run import finetune, plan
from probe.images.augment import Augment
from probe.store import find_store, list_stores
from probe.train.rules import Optimiser
from tests.tiny_tuning import tiny_job, trained


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny


@pytest.fixture
def home(begun):
    return begun


def test_the_prefix_cache_changes_nothing(folder, home):
    history = {}
    for cached in (True, False):
        for head in (None, "GAP D8 R"):
            gentle = {"optimiser": Optimiser("rmsprop", 1e-4), "head_epochs": 1}
            job = tiny_job(folder, home, unfreeze="conv3", head=head, prefix_cache=cached, **gentle)
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
        return keras.Model(model.input, model.get_layer(layer).output)(pixels, training=False).numpy()

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
