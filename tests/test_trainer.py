"""The trainer: what it reads, what it keeps, when it stops, and that a kill changes nothing."""

import contextlib
import errno
import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from probe.errors import FitError, UsageError
from probe.images.augment import parse_augment
from probe.networks import parse
from probe.networks.builder import build
from probe.studies.recipe import Recipe
from probe.studies.trainer import train
from probe.tensorflow_setup import keras, tf
from probe.train.inputs import ArrayInputs, Part, TrainingData, batches, fit_normaliser
from probe.train.loop import fit_loop, predictor
from probe.train.rules import EarlyStop, LoopSettings, Optimiser, ReduceLr
from probe.train.schedule import parse_schedule


class Killed(Exception):
    pass


@contextlib.contextmanager
def without_graphs():
    """What is kept of a training, and when it ends, is decided outside of graphs; tracing them takes long."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def untraced():
    with without_graphs():
        yield


UNTRACED = pytest.mark.usefixtures("untraced")


def make_part(count, classes=3, seed=0):
    """Images whose brightest channel is their label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % classes
    images = rng.integers(0, 100, (count, 8, 8, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 60
    return Part(images, labels)


@pytest.fixture
def data():
    return TrainingData(make_part(48), make_part(24, seed=1), make_part(24, seed=2), 3)


RECIPE = Recipe(
    name="test/tiny",
    summary="every kind of state a training has",
    data="none",
    network="C4k3s R B P2 DO.3 F D8 R",
    augment="flip,zoom=0.1",
    normalise="norm",
    optimiser=Optimiser("adam", 1e-2),
    stops=(EarlyStop("val_loss", 50),),
    reduce_lr=ReduceLr("val_loss", 0.5, 1, 1e-4),
    epochs=4,
    batch_size=16,
    kernel_l2=1e-3,
)


def assert_same_weights(first, second):
    for left, right in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_killed_and_resumed_is_as_if_undisturbed(data, tmp_path):
    undisturbed = train(RECIPE, data, seed=3)

    def kill(epoch, figures):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train(RECIPE, data, seed=3, folder=tmp_path, on_epoch=kill)
    epochs_run = []
    resumed = train(
        RECIPE, data, seed=3, folder=tmp_path, resume=True, on_epoch=lambda epoch, _: epochs_run.append(epoch)
    )
    assert epochs_run == [3, 4]
    assert resumed.history == undisturbed.history
    assert resumed.kept_epoch == undisturbed.kept_epoch
    assert_same_weights(resumed.model, undisturbed.model)
    np.testing.assert_array_equal(resumed.probabilities["test"], undisturbed.probabilities["test"])


def test_a_finished_training_is_not_repeated_and_can_be_prolonged(tmp_path):
    inputs = ArrayInputs(vectors(), None, batch_size=4, seed=0)
    epochs_run = []

    def run(epochs, folder=tmp_path):
        model = build((), (2,), 2)
        return model, fit_loop(
            model,
            inputs,
            settings(epochs=epochs),
            folder=folder,
            resume=True,
            on_epoch=lambda epoch, _: epochs_run.append(epoch),
        )

    first, _ = run(2)
    again, _ = run(2)
    assert epochs_run == [1, 2]
    assert_same_weights(first, again)
    longer, result = run(3)
    assert epochs_run == [1, 2, 3]
    at_once, undisturbed = run(3, tmp_path / "other")
    assert_same_weights(longer, at_once)
    assert result.history == undisturbed.history


def test_another_training_is_not_resumed(data, tmp_path):
    simple = replace(RECIPE, network="F", augment="none")
    train(simple, data, epochs=1, folder=tmp_path)
    for other, seed in [(replace(simple, kernel_l2=0.0), 0), (simple, 1)]:
        with pytest.raises(UsageError, match="is not the one to be resumed"):
            train(other, data, seed=seed, epochs=2, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    "network",
    ["C4k3v R P2 F D4 T", "RES4/2 GAP", "U2 C4k3s/2 R GAP", "[C4 R B DO.5]x2 P2 F D4 S"],
)
def test_each_kind_of_block_trains_two_steps(data, network):
    recipe = replace(
        RECIPE,
        network=network,
        epochs=1,
        batch_size=24,
        keep="last",
        stops=(),
        reduce_lr=None,
        augment="none",
    )
    before = build(parse(network), (8, 8, 3), 3, seed=0).get_weights()
    outcome = train(recipe, data)
    after = outcome.model.get_weights()
    assert np.isfinite(outcome.history["loss"][0])
    # A convolution's bias before B has no gradient but rounding; kernels always move.
    assert all((old != new).any() for old, new in zip(before, after, strict=True) if old.ndim > 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_and_scores_every_part(data, precision):
    recipe = replace(RECIPE, network="C8k3s R GAP", reduce_lr=None, augment="none", epochs=15)
    outcome = train(recipe, data, precision=precision)
    assert outcome.probabilities["test"].shape == (24, 3)
    np.testing.assert_allclose(outcome.probabilities["test"].sum(axis=1), 1, atol=1e-5)
    assert (outcome.probabilities["test"].argmax(axis=1) == data.test.labels).mean() > 0.9
    accuracy = (outcome.probabilities["val"].argmax(axis=1) == data.val.labels).mean()
    assert accuracy == pytest.approx(max(outcome.history["val_accuracy"]))


def test_a_binary_recipe_has_one_unit_and_two_columns():
    data = TrainingData(make_part(32, 2), make_part(16, 2, seed=1), None, 2)
    recipe = replace(RECIPE, network="C8k3s R GAP", binary=True, augment="none", reduce_lr=None, epochs=15)
    outcome = train(recipe, data)
    assert outcome.model.output_shape == (None, 1)
    assert outcome.probabilities.keys() == {"val"}
    assert (outcome.probabilities["val"].argmax(axis=1) == data.val.labels).mean() > 0.9


def settings(**changes):
    return LoopSettings(**{"optimiser": Optimiser("sgd", 0.1), "epochs": 6, "keep": "last", **changes})


def vectors(count=8):
    rng = np.random.default_rng(0)
    return Part(rng.normal(size=(count, 2)).astype(np.float32), np.arange(count, dtype=np.int32) % 2)


@functools.cache
def all_labelled(label):
    """One batch; made once, because making it costs more than an epoch with it."""
    return batches(Part(vectors().inputs, np.full(8, label, np.int32)), 8)


class RisingLoss:
    """Training drives the model one way, validation is labelled the other way: val_loss only rises."""

    steps = 1

    def training(self, epoch):
        return all_labelled(0)

    def validation(self):
        return all_labelled(1)


@UNTRACED
def test_the_first_early_stop_that_is_due_ends_the_training():
    result = fit_loop(
        build((), (2,), 2),
        RisingLoss(),
        settings(stops=(EarlyStop("loss", 2), EarlyStop("val_loss", 3), EarlyStop("val_loss", 5))),
    )
    assert len(result.history["loss"]) == 4
    assert result.stopped == "val_loss has not improved for 3 epochs"


@UNTRACED
def test_the_best_epoch_is_kept_or_the_last():
    kept = {}
    for keep in ("val_loss", "last"):
        model = build((), (2,), 2)
        result = fit_loop(model, RisingLoss(), settings(keep=keep, epochs=3))
        kept[keep] = (result.kept_epoch, model.evaluate(RisingLoss().validation(), verbose=0)[0])
        assert kept[keep][1] == pytest.approx(result.history["val_loss"][result.kept_epoch - 1], rel=1e-5)
    assert kept["val_loss"][0] == 1
    assert kept["last"][0] == 3


@UNTRACED
@pytest.mark.parametrize(
    ("keep", "stops", "kept", "epochs"),
    [
        ("val_loss", (), 0, 4),
        ("val_accuracy", (), 0, 4),
        ("last", (), 4, 4),
        ("val_loss", (EarlyStop("val_loss", 3),), 0, 3),
        ("val_loss", (EarlyStop("loss", 2),), 0, 4),
    ],
)
def test_a_start_that_counts_is_epoch_0_of_every_rule(keep, stops, kept, epochs):
    model, seen = build((), (2,), 2), []
    before = model.get_weights()
    result = fit_loop(
        model,
        RisingLoss(),
        settings(keep=keep, stops=stops, epochs=4),
        start_counts=True,
        on_epoch=lambda epoch, _: seen.append(epoch),
    )
    assert result.start.keys() == {"val_loss", "val_accuracy"}
    assert result.start["val_loss"] < result.history["val_loss"][0]
    assert (result.kept_epoch, len(result.history["loss"])) == (kept, epochs)
    assert seen == list(range(epochs + 1))
    same = [np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert all(same) is (kept == 0)


def watched():
    """A network, and for every time that it is traced whether that was for training."""
    traced = []

    class Watched(keras.layers.Layer):
        def call(self, inputs, training=False):
            traced.append(training)
            return inputs

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(Watched()(inputs)))
    traced.clear()
    return model, traced


def test_a_network_is_traced_once_to_be_trained_and_once_to_be_scored():
    """Its Python code runs when TensorFlow traces it, which takes seconds for a large network."""
    model, traced = watched()
    fit_loop(model, RisingLoss(), settings(epochs=3), start_counts=True)
    assert sorted(traced) == [False, True]


def test_a_network_is_traced_once_to_predict_whatever_the_sizes_of_batches():
    model, traced = watched()
    predict = predictor(model)
    found = [
        predict(batches(Part(vectors().inputs[:count], vectors().labels[:count]), 2)) for count in (5, 3)
    ]
    assert [len(rows) for rows in found] == [5, 3]
    np.testing.assert_allclose(found[0][:3], found[1], atol=1e-6)
    assert traced == [False]


@UNTRACED
def test_a_start_that_does_not_count_is_not_scored():
    result = fit_loop(build((), (2,), 2), RisingLoss(), settings(keep="val_loss", epochs=2))
    assert (result.start, result.kept_epoch) == (None, 1)


def test_a_start_that_counts_changes_nothing_about_the_epochs():
    histories = [
        fit_loop(build((), (2,), 2), RisingLoss(), settings(), start_counts=counts).history
        for counts in (True, False)
    ]
    assert histories[0] == histories[1]


@UNTRACED
def test_a_plateau_counts_from_the_start_too():
    plateau = settings(reduce_lr=ReduceLr("val_loss", 0.1, 1, 5e-3), epochs=3)
    result = fit_loop(build((), (2,), 2), RisingLoss(), plateau, start_counts=True)
    np.testing.assert_allclose(result.history["lr"], [0.1, 0.01, 0.005], rtol=1e-5)


class FallingLoss(RisingLoss):
    """Training and validation want the same."""

    def validation(self):
        return all_labelled(0)


@UNTRACED
@pytest.mark.parametrize(("inputs", "kept"), [(RisingLoss(), 0), (FallingLoss(), 4)])
@pytest.mark.parametrize("before", [True, False], ids=["start scored", "state of before"])
def test_a_resumed_training_knows_its_start(tmp_path, inputs, kept, before):
    """Also where the state on disk is of a version that did not score it."""
    rules = settings(keep="val_loss", stops=(EarlyStop("val_loss", 20),), epochs=4)

    def run(folder, *, resume=False, start_counts=True, on_epoch=None):
        model = build((), (2,), 2)
        result = fit_loop(
            *(model, inputs, rules),
            folder=folder,
            resume=resume,
            start_counts=start_counts,
            on_epoch=on_epoch,
        )
        return model, result

    def kill(epoch, figures):
        if epoch == 2:
            raise Killed

    undisturbed, expected = run(tmp_path / "one")
    with pytest.raises(Killed):
        run(tmp_path / "two", start_counts=before, on_epoch=kill)
    if not before:
        forget_the_start(tmp_path / "two" / "state.npz")
    resumed, result = run(tmp_path / "two", resume=True)
    assert result.kept_epoch == expected.kept_epoch == kept
    assert (result.history, result.start) == (expected.history, expected.start)
    assert_same_weights(resumed, undisturbed)


def forget_the_start(path):
    """Make a state file what it was before the start was scored: without that field."""
    with np.load(path) as archive:
        arrays = dict(archive)
    facts = json.loads(arrays["facts"].tobytes())
    assert facts.pop("start") is None
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(path, **arrays)


@UNTRACED
def test_a_training_begun_anew_does_not_take_the_best_of_the_one_before(tmp_path):
    """Killed before its first epoch and resumed it is at its start, not in the state of the earlier one."""
    rules = settings(keep="val_loss", epochs=3)
    fit_loop(build((), (2,), 2), FallingLoss(), rules, folder=tmp_path, start_counts=True)

    def kill(epoch, figures):
        raise Killed

    with pytest.raises(Killed):
        fit_loop(build((), (2,), 2), RisingLoss(), rules, folder=tmp_path, start_counts=True, on_epoch=kill)
    result = fit_loop(
        build((), (2,), 2), RisingLoss(), rules, folder=tmp_path, resume=True, start_counts=True
    )
    assert (len(result.history["loss"]), result.kept_epoch) == (3, 0)


def test_the_learning_rate_falls_on_a_plateau_down_to_its_floor():
    result = fit_loop(
        build((), (2,), 2), RisingLoss(), settings(reduce_lr=ReduceLr("val_loss", 0.1, 1, 5e-3), epochs=5)
    )
    np.testing.assert_allclose(result.history["lr"], [0.1, 0.1, 0.01, 0.005, 0.005], rtol=1e-5)


def test_decay_is_that_of_keras_before_version_3():
    decaying = settings(optimiser=Optimiser("sgd", 0.1, decay=0.5), epochs=3)
    result = fit_loop(build((), (2,), 2), RisingLoss(), decaying)
    np.testing.assert_allclose(result.history["lr"], [0.1 / 1.5, 0.1 / 2, 0.1 / 2.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("cosine", [0.1 * (1 + np.cos(np.pi * t / 4)) / 2 for t in (1, 2, 3, 4)]),
        ("cosine=2", [0.05, 0.1, 0.05, 0.0]),
        ("linear", [0.075, 0.05, 0.025, 0.0]),
        ("exponential=0.5", [0.05, 0.025, 0.0125, 0.00625]),
        ("step=0.1:2", [0.1, 0.01, 0.01, 0.001]),
    ],
)
def test_a_schedule_moves_the_learning_rate_by_the_step(schedule, rates):
    inputs = ArrayInputs(vectors(), None, batch_size=3, seed=0)
    assert inputs.steps == 3
    asked = settings(optimiser=Optimiser("sgd", 0.1, schedule=schedule), epochs=4)
    result = fit_loop(build((), (2,), 2), inputs, asked)
    np.testing.assert_allclose(result.history["lr"], rates, rtol=1e-5, atol=1e-8)


def test_a_schedule_that_ends_with_the_training_is_not_prolonged(tmp_path):
    def run(schedule, epochs):
        inputs = ArrayInputs(vectors(), None, batch_size=3, seed=0)
        asked = settings(optimiser=Optimiser("sgd", 0.1, schedule=schedule), epochs=epochs)
        return fit_loop(build((), (2,), 2), inputs, asked, folder=tmp_path / schedule[:3], resume=True)

    assert len(run("step=0.1:2", 2).history["lr"]) == 2
    np.testing.assert_allclose(run("step=0.1:2", 4).history["lr"], [0.1, 0.01, 0.01, 0.001], rtol=1e-5)
    run("cosine", 2)
    with pytest.raises(UsageError, match="not the one to be resumed"):
        run("cosine", 4)


@pytest.mark.parametrize(
    "text", ["", "cosine=x", "linear=2", "step=0.1", "step=2:3", "exponential", "step=0.1:0"]
)
def test_a_schedule_that_cannot_be_read_is_said(text):
    with pytest.raises(UsageError, match="schedule cannot be read"):
        parse_schedule(text)


def test_a_diverged_training_stops_and_says_so():
    result = fit_loop(
        build(parse("D4"), (2,), 2), RisingLoss(), settings(optimiser=Optimiser("sgd", 1e38), epochs=50)
    )
    assert result.stopped == "the loss is no longer a number"
    assert len(result.history["loss"]) < 50


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keep": "val_loss"}, "val_loss is watched"),
        ({"stops": (EarlyStop("val_accuracy", 1),)}, "val_accuracy is watched"),
        ({"reduce_lr": ReduceLr()}, "val_loss is watched"),
        ({"keep": "best"}, "no epoch to keep"),
        ({"optimiser": Optimiser("adam", momentum=0.9)}, "adam has no momentum"),
        ({"optimiser": Optimiser("adamz")}, "no optimiser called 'adamz'"),
        ({"optimiser": Optimiser(decay=1e-6), "reduce_lr": ReduceLr("loss")}, "both decay and a plateau"),
        ({"optimiser": Optimiser(decay=1e-6, schedule="cosine")}, "both decay and a schedule"),
        ({"optimiser": Optimiser(schedule="sawtooth")}, "schedule cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_said(changes, says):
    inputs = ArrayInputs(vectors(), None, batch_size=4, seed=0)
    with pytest.raises(UsageError, match=says):
        fit_loop(build((), (2,), 2), inputs, settings(**changes))


def test_several_inputs_of_half_precision_train_without_validation():
    left, right = keras.Input((2,)), keras.Input((2,))
    top = keras.layers.Dense(2, activation="softmax")(keras.layers.Concatenate()([left, right]))
    half = vectors().inputs.astype(np.float16)
    inputs = ArrayInputs(Part((half, half), vectors().labels), None, batch_size=3, seed=0)
    result = fit_loop(
        keras.Model([left, right], top), inputs, settings(class_weights={0: 1.0, 1: 2.0}, clip_norm=1.0)
    )
    assert result.history.keys() == {"loss", "accuracy", "lr"}
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_class_weights_weigh_the_loss():
    part = Part(np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1], np.int32))
    inputs = ArrayInputs(part, None, batch_size=4, seed=0)
    still = settings(optimiser=Optimiser("sgd", 0.0), epochs=1)
    plain = fit_loop(build((), (2,), 2), inputs, still).history["loss"][0]
    weighted = fit_loop(build((), (2,), 2), inputs, replace(still, class_weights={0: 1.0, 1: 5.0}))
    assert plain == pytest.approx(np.log(2), rel=1e-5)
    assert weighted.history["loss"][0] == pytest.approx(2 * np.log(2), rel=1e-5)


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own():
    part = Part(np.arange(10, dtype=np.float32)[:, None], np.arange(10, dtype=np.int32))
    inputs = ArrayInputs(part, None, batch_size=4, seed=0)
    orders = [np.concatenate([y for _, y in inputs.training(e).as_numpy_iterator()]) for e in (0, 1, 0)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 3
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[0], orders[2])
    for images, labels in inputs.training(5).as_numpy_iterator():
        np.testing.assert_array_equal(images[:, 0], labels)


def test_only_the_training_part_is_augmented(data):
    inputs = ArrayInputs(data.train, data.val, batch_size=24, seed=0, augment=parse_augment("brightness=0:0"))
    assert not any(images.any() for images, _ in inputs.training(0).as_numpy_iterator())
    shown = np.concatenate([images for images, _ in inputs.validation().as_numpy_iterator()])
    np.testing.assert_array_equal(shown, data.val.inputs)


def test_normalisers(data):
    images = data.train.inputs
    standardised = fit_normaliser("norm", images)(tf.constant(images)).numpy()
    np.testing.assert_allclose(standardised.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=(0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(fit_normaliser("unit", images)(tf.constant(images)), images / 255, rtol=1e-6)
    np.testing.assert_array_equal(fit_normaliser("raw", images)(tf.constant(images)), images)
    flat = np.full((2, 4, 4, 1), 7, np.uint8)
    for kind in ("norm", "pixelwise"):
        assert not fit_normaliser(kind, flat)(tf.constant(flat)).numpy().any()


def test_every_place_can_be_brought_to_mean_0_and_deviation_1_by_itself():
    images = np.random.default_rng(0).integers(0, 200, (50, 3, 4, 2)).astype(np.uint8)
    images += np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    images[:, 2, 3, 1] = 9
    found = fit_normaliser("pixelwise", images)(tf.constant(images)).numpy()
    rows = StandardScaler().fit_transform(images.reshape(50, -1).astype(float))
    np.testing.assert_allclose(found.reshape(50, -1), rows, rtol=1e-4, atol=1e-5)
    assert not found[:, 2, 3, 1].any()


def test_the_normaliser_sees_the_training_part_only(data):
    bright = replace(data, val=Part(data.val.inputs + 90, data.val.labels))
    recipe = replace(RECIPE, network="F", augment="none", epochs=1)
    assert train(recipe, bright).normaliser == train(recipe, data).normaliser


def test_two_trainings_of_one_identity_do_not_share_a_folder(tmp_path):
    def another(epoch, figures):
        with pytest.raises(FitError, match="another process is at this very training"):
            fit_loop(build((), (2,), 2), FallingLoss(), settings(), folder=tmp_path)

    fit_loop(build((), (2,), 2), FallingLoss(), settings(epochs=1), folder=tmp_path, on_epoch=another)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path):
    content = bytearray(path.read_bytes())
    # The first byte of the last array: between arrays there are some that nobody reads.
    content[content.rindex(b"\x93NUMPY") + 128] ^= 16
    path.write_bytes(content)


def folder_instead(path):
    path.unlink()
    path.mkdir()


def of_another_network(path):
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["v00000"] = arrays["v00000"][:1]
    np.savez(path, **arrays)


def of_another_training(path):
    with np.load(path) as archive:
        arrays = dict(archive)
    facts = json.loads(arrays["facts"].tobytes()) | {"identity": "another"}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(path, **arrays)


def saying(**facts):
    def spoil(path):
        with np.load(path) as archive:
            arrays = dict(archive)
        said = json.loads(arrays["facts"].tobytes()) | facts
        arrays["facts"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
        np.savez(path, **arrays)

    return spoil


def in_other_types(path):
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"v00000": arrays["v00000"].astype(np.float64)}))


def led_elsewhere(path):
    path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.with_suffix(".kept"))


def emptied(path):
    path.write_bytes(b"")


SPOILED = [
    ("state.npz", cut_short),
    ("best.npz", flipped),
    ("state.npz", folder_instead),
    ("state.npz", of_another_network),
    ("best.npz", of_another_network),
    ("best.npz", emptied),
    ("best.npz", in_other_types),
    ("state.npz", led_elsewhere),
    ("state.npz", saying(epochs_done="2")),
    ("state.npz", saying(epochs_done=1)),
    ("state.npz", saying(history=[])),
    ("state.npz", saying(history={"loss": [1.0, "x"]})),
    ("state.npz", saying(kept_epoch=7)),
    ("state.npz", saying(stops=[{"best": 1.0, "wait": 0}])),
    ("state.npz", saying(stopped=3)),
]
"""Both files are read and believed by the same functions, except that each has shapes of its own to be of."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a training that has ended, its model, and what `fit_loop` said of it."""
    folder, model = tmp_path_factory.mktemp("finished"), build((), (2,), 2)
    with without_graphs():
        return folder, model, fit_loop(model, FallingLoss(), TWO_EPOCHS, folder=folder)


TWO_EPOCHS = settings(keep="val_loss", epochs=2)


@UNTRACED
@pytest.mark.parametrize(("file", "spoil"), SPOILED)
def test_a_damaged_state_counts_as_none(tmp_path, finished, file, spoil, capsys):
    folder, undisturbed, expected = finished
    shutil.copytree(folder, tmp_path / "damaged")
    spoil(tmp_path / "damaged" / file)
    again = build((), (2,), 2)
    result = fit_loop(again, FallingLoss(), TWO_EPOCHS, folder=tmp_path / "damaged", resume=True)
    assert "damaged, and it starts anew" in capsys.readouterr().err
    assert result.history == expected.history
    assert_same_weights(again, undisturbed)


def test_a_state_that_the_disk_does_not_give_now_stays(tmp_path, finished, monkeypatch):
    folder, _, _ = finished
    shutil.copytree(folder, tmp_path / "kept")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("probe.train.state.read_arrays", fail)
    with pytest.raises(OSError, match="Input/output error"):
        fit_loop(build((), (2,), 2), FallingLoss(), TWO_EPOCHS, folder=tmp_path / "kept", resume=True)
    assert (tmp_path / "kept" / "state.npz").read_bytes() == (folder / "state.npz").read_bytes()


@UNTRACED
def test_a_training_that_is_further_than_asked_is_not_taken_for_what_was_asked(tmp_path, finished):
    folder, _, _ = finished
    shutil.copytree(folder, tmp_path / "further")
    asked = settings(keep="val_loss", epochs=1)
    with pytest.raises(UsageError, match="further than asked"):
        fit_loop(build((), (2,), 2), FallingLoss(), asked, folder=tmp_path / "further", resume=True)
    assert (tmp_path / "further" / "state.npz").exists()


@UNTRACED
def test_the_best_weights_of_another_training_of_the_same_network_count_as_none(tmp_path, finished, capsys):
    folder, undisturbed, _ = finished
    shutil.copytree(folder, tmp_path / "damaged")
    of_another_training(tmp_path / "damaged" / "best.npz")
    again = build((), (2,), 2)
    fit_loop(again, FallingLoss(), TWO_EPOCHS, folder=tmp_path / "damaged", resume=True)
    assert "best.npz is of another training" in capsys.readouterr().err
    assert_same_weights(again, undisturbed)


@UNTRACED
def test_the_best_weights_that_are_gone_make_the_training_start_anew(tmp_path, finished):
    folder, _, expected = finished
    shutil.copytree(folder, tmp_path / "lost")
    (tmp_path / "lost" / "best.npz").unlink()
    again = fit_loop(build((), (2,), 2), FallingLoss(), TWO_EPOCHS, folder=tmp_path / "lost", resume=True)
    assert again.history == expected.history
