"""From a store to a result: which rows, which choices, what is kept, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.backbones import resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import FitError, ProbeError, UsageError
from probe.extract import ExtractJob, Views, extract
from probe.fit import Choice, FitJob, fit
from probe.fit.rows import load_parts, source_of
from probe.heads.knn import KnnOptions
from probe.heads.logreg import LogregOptions
from probe.heads.saving import load_head
from probe.images.augment import parse_augment
from probe.report.runs import result_lines
from probe.runs import Run, compare, compare_all
from probe.stats.calibration import fit_temperature
from probe.stats.classification import log_loss
from probe.store import Store, find_store, open_store, put_index
from tests.shell import unwrapped

QUICK = LogregOptions(c=(0.001, 0.01))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def store(home: Home) -> Store:
    """Small pixels and their map of 700 images of the sample, with two views of every image."""
    data = open_dataset("fashion-sample", home).take(np.arange(0, 3500, 5))
    spec = resolve("pixels", size=8, outputs=["pixels", "pixels:map"], home=home)
    views = Views(2, parse_augment("shift=0.1"), everywhere=True)
    return open_store(Path(extract(ExtractJob(data, spec, views=views), home).path))


@pytest.fixture(scope="module")
def plain_run(store: Store, home: Home) -> Run:
    return fit(FitJob(store, options=QUICK), home)


def test_a_run_keeps_everything_it_rests_on(plain_run: Run, store: Store) -> None:
    result = plain_run.result
    assert result["store_key"] == store.key
    assert result["index"] == store.index_hash
    assert result["chosen"]["c"] in (0.001, 0.01)
    assert [step["c"] for step in result["path"]] == [0.001, 0.01]
    assert result["parts"] == {"train": 400, "val": 100, "test": 200}
    assert result["versions"]["numpy"]
    assert sum(row["n"] for row in result["per_class"]) == 200
    for mistake in result["confident_mistakes"]:
        assert mistake["id"] in plain_run.predictions.ids
        assert mistake["true"] != mistake["called"]
    assert result["calibration"]["temperature"] > 0
    probabilities = load_head(plain_run.path).predict_proba(
        load_parts(store, Choice())["test"].samples.features
    )
    np.testing.assert_allclose(probabilities, plain_run.predictions.probabilities, atol=1e-5)


def test_every_value_of_c_says_how_near_the_minimum_it_is(store: Store, home: Home, plain_run: Run) -> None:
    """In the result, for the head that is kept as well, and told to people."""
    folds = fit(FitJob(store, options=LogregOptions(c=QUICK.c, cv=2)), home)
    for run, most in ((plain_run, 3e-6), (folds, 2e-4)):
        assert all(0 <= row["gap"] <= most for row in run.result["path"])
        fitted = run.result["fitted"]
        assert fitted["c"] == run.result["chosen"]["c"]
        assert fitted["gap"] == fitted["excess"] / fitted["objective"] <= 3e-6
        lines = result_lines(run)
        for row in run.result["path"]:
            assert any(f"{row['c']:.2e}" in line and f"{row['gap']:.1e} of" in line for line in lines)
        assert any(line.startswith("fit ") and f"{fitted['gap']:.1e} of" in line for line in lines)


def test_the_test_labels_change_nothing_but_the_test_score(store: Store, home: Home, plain_run: Run) -> None:
    index = store.index
    labels = index.labels.copy()
    test = np.flatnonzero(index.splits == "test")
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    put_index(store.path, replace(index, labels=labels))
    try:
        shuffled = fit(FitJob(open_store(store.path), options=QUICK), home)
    finally:
        put_index(store.path, index)
    same = ("chosen", "path", "val", "parts")
    assert {k: shuffled.result[k] for k in same} == {k: plain_run.result[k] for k in same}
    one, other = load_head(plain_run.path).arrays(), load_head(shuffled.path).arrays()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert shuffled.result["test"]["accuracy"] < plain_run.result["test"]["accuracy"] - 0.3


def test_outputs_are_put_side_by_side(store: Store) -> None:
    parts = load_parts(store, Choice(("pixels", "pixels:map")))
    one = load_parts(store, Choice(("pixels",)))
    width = one["val"].samples.features.shape[1]
    both = np.asarray(parts["val"].samples.features)
    assert both.shape[1] == 2 * width
    np.testing.assert_array_equal(both[:, :width], one["val"].samples.features)


def test_views_are_more_training_rows_and_nothing_else(store: Store) -> None:
    parts, plain = load_parts(store, Choice(views=2)), load_parts(store, Choice())
    train, features = parts["train"].samples, np.asarray(parts["train"].samples.features)
    assert len(train) == 3 * len(plain["train"].samples)
    np.testing.assert_array_equal(features[:400], plain["train"].samples.features)
    np.testing.assert_array_equal(train.labels, np.tile(plain["train"].samples.labels, 3))
    assert not np.array_equal(features[400:800], features[:400])
    assert len(parts["val"].samples) == len(plain["val"].samples)


def test_rows_on_disk_can_be_read_in_any_order(store: Store) -> None:
    stored = load_parts(store, Choice(("pixels", "pixels:map"), views=2, memory=1))["train"].samples.features
    assert not isinstance(stored, np.ndarray)
    places = np.random.default_rng(0).permutation(stored.shape[0])[:500]
    np.testing.assert_array_equal(stored[places], stored[:][places])
    assert stored[places[:0]].shape == (0, stored.shape[1])


def test_averaging_over_views_changes_the_probabilities(store: Store, home: Home, plain_run: Run) -> None:
    averaged = fit(FitJob(store, options=QUICK, average_views=True), home)
    both = averaged.predictions.probabilities, plain_run.predictions.probabilities
    assert not np.allclose(*both, atol=1e-3)
    np.testing.assert_allclose(averaged.predictions.probabilities.sum(1), 1, atol=1e-5)


def test_features_streamed_from_disk_give_the_same_answer(store: Store, home: Home, plain_run: Run) -> None:
    streamed = fit(FitJob(store, choice=Choice(memory=1), options=QUICK), home)
    assert streamed.result["chosen"] == plain_run.result["chosen"]
    np.testing.assert_allclose(
        streamed.predictions.probabilities, plain_run.predictions.probabilities, atol=0.02
    )
    both = streamed.result["test"]["accuracy"], plain_run.result["test"]["accuracy"]
    assert both[0] == pytest.approx(both[1], abs=0.0051)


def test_a_learning_curve_rises_and_is_of_several_draws(store: Store, home: Home) -> None:
    job = FitJob(store, options=QUICK, shots=("1", "10", "all"), fractions=(0.5,), repeats=3)
    curve = {point["size"]: point for point in fit(job, home).result["curve"]}
    assert [curve[name]["rows"] for name in curve] == [10, 100, 400, 200]
    assert curve["shots 1"]["mean"] < curve["shots 10"]["mean"] < curve["all"]["mean"]
    assert len(set(curve["shots 1"]["accuracies"])) > 1
    assert curve["shots 1"]["low"] < curve["shots 1"]["mean"] < curve["shots 1"]["high"]
    assert curve["all"]["low"] is None


def test_a_cluster_gives_what_this_machine_gives(store: Store, home: Home) -> None:
    from distributed import LocalCluster

    job = FitJob(store, options=replace(QUICK, cv=2), shots=("2", "5"), repeats=2)
    here = fit(job, home).result
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None, silence_logs=50) as cluster:
        there = fit(replace(job, dask=cluster.scheduler_address), home).result
    assert there["chosen"] == here["chosen"]
    assert there["curve"] == here["curve"]


def test_several_runs_are_compared_pair_by_pair(store: Store, home: Home, plain_run: Run) -> None:
    others = [
        fit(FitJob(store, "majority"), home),
        fit(FitJob(store, "knn", options=KnnOptions(k=(3,))), home),
    ]
    pairs = compare_all([plain_run, *others])
    assert len(pairs) == 3
    assert all(pair.p_adjusted >= pair.comparison.p_value for pair in pairs)
    assert pairs[0].shown
    assert compare(plain_run, others[0]).low > 0.3
    nothing = compare(plain_run, plain_run)
    assert (nothing.difference, nothing.p_value) == (0, 1)


def test_runs_that_cannot_be_paired_are_refused(plain_run: Run) -> None:
    classes = replace(plain_run, result={**plain_run.result, "classes": ["a", "b"]})
    with pytest.raises(FitError, match="different classes"):
        compare(plain_run, classes)


def relabelled(store: Store, labels: np.ndarray, splits: np.ndarray | None = None) -> None:
    index = store.index
    put_index(store.path, replace(index, labels=labels, splits=index.splits if splits is None else splits))


def one_class(store: Store) -> None:
    relabelled(store, np.zeros_like(store.index.labels))


def class_missing_in_train(store: Store) -> None:
    labels, splits = store.index.labels, store.index.splits.copy()
    splits[labels == 3] = "test"
    relabelled(store, labels, splits)


def unlabelled(store: Store) -> None:
    relabelled(store, np.full_like(store.index.labels, -1))


def no_train(store: Store) -> None:
    relabelled(store, store.index.labels, np.full_like(store.index.splits, "test"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_class, "only one class"),
        (class_missing_in_train, "have no row in the train part"),
        (unlabelled, "has no labels"),
        (no_train, "no training images"),
    ],
)
def test_bad_labels_end_in_one_clear_message(store: Store, home: Home, spoil: object, said: str) -> None:
    index = store.index
    spoil(store)  # type: ignore[operator]
    try:
        with pytest.raises(FitError, match=said):
            fit(FitJob(open_store(store.path), options=QUICK), home)
    finally:
        put_index(store.path, index)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choice": Choice(views=3)}, "does not have the augmented views"),
        ({"choice": Choice(("nothing",))}, "no output of"),
        ({"head": "forest"}, "no head called"),
        ({"shots": ("0",)}, "--shots"),
        ({"fractions": (1.5,)}, "--train-fraction"),
        ({"options": LogregOptions(cv=3), "choice": Choice(views=1)}, "exclude each other"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    store: Store, home: Home, change: dict[str, object], said: str
) -> None:
    job = FitJob(store)
    with pytest.raises(ProbeError, match=said):
        fit(replace(job, **change), home)  # type: ignore[arg-type]


def test_c_has_to_be_positive() -> None:
    with pytest.raises((FitError, UsageError), match="positive"):
        LogregOptions(c=(0.0,))


def test_without_a_test_part_validation_is_still_told(store: Store, home: Home) -> None:
    index = store.index
    splits = np.where(index.splits == "test", "", index.splits)
    put_index(store.path, replace(index, splits=splits))
    try:
        run = fit(FitJob(open_store(store.path), options=QUICK), home)
    finally:
        put_index(store.path, index)
    assert run.result["test"] is None
    assert run.result["val"]["accuracy"] > 0.5
    assert json.loads((run.path / "result.json").read_text())["run"] == run.name
    assert find_store(home, None).path == store.path


def test_a_curve_of_one_shot_beside_folds_is_kept_and_chooses_on_validation(store: Store, home: Home) -> None:
    job = FitJob(store, options=replace(QUICK, cv=5), shots=("1", "10"), repeats=2)
    with_folds, plain = fit(job, home).result, fit(replace(job, options=QUICK), home).result
    assert with_folds["chosen"]["cv"] == 5
    assert with_folds["curve"] == plain["curve"]
    assert [point["problem"] for point in with_folds["curve"]] == [None, None]


def without_validation(store: Store) -> None:
    splits = np.where(store.index.splits == "val", "train", store.index.splits)
    relabelled(store, store.index.labels, splits)


def test_a_point_of_a_curve_that_cannot_be_fitted_says_why_and_costs_nothing_else(
    store: Store, home: Home
) -> None:
    index = store.index
    without_validation(store)
    try:
        job = FitJob(open_store(store.path), options=replace(QUICK, cv=12), shots=("1", "5"), repeats=2)
        run = fit(job, home)
    finally:
        put_index(store.path, index)
    one, five = run.result["curve"]
    assert (one["mean"], one["low"], one["accuracies"]) == (None, None, [])
    assert one["problem"].startswith("2 of 2 draws could not be fitted: cross-validation cannot be split")
    assert five["problem"] is None
    assert 0.3 < five["mean"] < 1
    assert run.result["test"]["accuracy"] > 0.6
    assert any("could not be fitted" in line for line in result_lines(run))


def test_the_draws_of_a_size_that_is_everything_are_one(store: Store, home: Home) -> None:
    job = FitJob(store, options=QUICK, shots=("1000",), fractions=(1.0,), repeats=3)
    for point in fit(job, home).result["curve"]:
        assert point["rows"] == 400
        assert len(point["accuracies"]) == 1
        assert point["low"] is None


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("logreg", LogregOptions(c=(1e-4, 0.01))),
        ("knn", KnnOptions(k=(1, 9))),
        ("centroid", None),
        ("ridge", None),
    ],
)
def test_averages_over_views_choose_and_calibrate_as_they_are_scored(
    store: Store, home: Home, head: str, options: object
) -> None:
    run = fit(FitJob(store, head, options=options, average_views=True, refit=False), home)
    fitted, parts = load_head(run.path), load_parts(store, Choice())
    mean = {}
    for name in ("val", "test"):
        rows = parts[name].rows
        every = [fitted.predict_proba(source_of(store, (), rows, range(v, v + 1))[:]) for v in range(3)]
        mean[name] = np.mean(every, axis=0)
    val, test = parts["val"].samples.labels, parts["test"].samples.labels
    accuracy = (mean["val"].argmax(1) == val).mean()
    assert run.result["val"]["accuracy"] == pytest.approx(accuracy)
    assert run.result["val"]["log_loss"] == pytest.approx(log_loss(mean["val"], val), rel=1e-4)
    assert run.result["test"]["accuracy"] == pytest.approx((mean["test"].argmax(1) == test).mean())
    temperature = fit_temperature(np.log(np.maximum(mean["val"], 1e-12)), val)
    assert run.result["calibration"]["temperature"] == pytest.approx(temperature, rel=1e-2)
    if head in ("logreg", "knn"):
        best = max(run.result["path"], key=lambda row: (row["val_accuracy"], -row["val_log_loss"]))
        assert best["val_accuracy"] == pytest.approx(accuracy)
    if head == "ridge":
        assert any("chosen on plain features" in line for line in run.result["notes"])


def test_a_curve_is_scored_on_the_same_averages(store: Store, home: Home) -> None:
    job = FitJob(store, options=QUICK, average_views=True, refit=False, shots=("all",))
    run = fit(job, home)
    assert run.result["curve"][0]["mean"] == pytest.approx(run.result["test"]["accuracy"])


def test_averages_without_stored_views_are_refused_before_anything_is_fitted(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.heads.head.HeadRow.fit", lambda *_, **__: pytest.fail("fitted"))
    monkeypatch.setattr("probe.store.Store.view_count", 0)
    with pytest.raises(UsageError, match="no augmented views to average over"):
        fit(FitJob(store, average_views=True), home)


@pytest.mark.parametrize(
    ("change", "used_for"),
    [
        ({"options": QUICK}, "choose C"),
        ({"options": LogregOptions(c=(0.01,))}, ""),
        ({"options": replace(QUICK, cv=3)}, "choose C, in folds with the training rows"),
        ({"options": replace(QUICK, cv=3), "refit": False}, ""),
        ({"head": "knn", "options": None}, "choose k"),
        ({"head": "knn", "options": KnnOptions(k=(5,))}, ""),
        ({"head": "ridge", "options": None}, "choose alpha and a temperature"),
        ({"head": "majority", "options": None}, ""),
    ],
)
def test_the_figure_of_validation_says_what_was_chosen_on_it(
    store: Store, home: Home, change: dict[str, object], used_for: str
) -> None:
    run = fit(replace(FitJob(store), **change), home)  # type: ignore[arg-type]
    assert run.result["val"]["used_for"] == used_for
    assert run.result["val"]["fitted_on"] == "train"
    said = [line for line in unwrapped(result_lines(run)) if "these images were used to" in line]
    assert len(said) == bool(used_for)
    assert all(line.endswith("used to " + used_for) for line in said)


def test_figures_that_cannot_carry_their_weight_are_said(store: Store, home: Home) -> None:
    index, few = store.index, np.array(store.index.splits)
    for part, kept in (("val", 3), ("test", 5)):
        few[np.flatnonzero(few == part)[kept:]] = ""
    few[np.flatnonzero((few == "train") & (index.labels == 4))[2:]] = ""
    relabelled(store, index.labels, few)
    try:
        small = open_store(store.path)
        options = replace(QUICK, cv=4)
        run = fit(FitJob(small, options=options, shots=("5000", "20"), fractions=(0.01,), repeats=1), home)
        near = fit(FitJob(small, "knn", options=KnnOptions(k=(3, 4000))), home)
    finally:
        put_index(store.path, index)
    said = "\n".join(run.result["notes"])
    for note in (
        "the validation part has 3 images: a single one moves accuracy by 33 points",
        "the test part has 5 images: a single one moves accuracy by 20 points",
        "classes have no image in the validation part",
        "classes have no image in the test part",
        "some of the 4 folds hold out none of a class",
        "shots 5000: no class has so many",
        "shots 20: 1 of 10 classes have fewer and give all",
        "fraction 0.01: less than one row of",
        "the curve has 1 draw of each size",
    ):
        assert note in said
        assert any(note in line for line in unwrapped(result_lines(run)))
    assert any("k = 4000 is more than the" in note for note in near.result["notes"])


def test_ordinary_figures_are_told_without_remarks(plain_run: Run) -> None:
    assert [note for note in plain_run.result["notes"] if "lies at" not in note] == []


@pytest.mark.parametrize("cv", [0, 3])
def test_fits_and_curves_say_how_far_they_have_come(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cv: int
) -> None:
    monkeypatch.setattr("probe.progress.FIRST_S", 0.0)
    monkeypatch.setattr("probe.progress.EVERY_S", 0.0)
    job = FitJob(store, options=replace(QUICK, cv=cv), shots=("2", "all"), repeats=2, progress=True)
    fit(job, home)
    said = capsys.readouterr().err
    fits = 2 * max(cv, 1)
    assert f"fit logreg: {fits} of {fits} fits (100 %)" in said
    assert "curve: 3 of 3 fits (100 %)" in said
    fit(replace(job, progress=False), home)
    assert capsys.readouterr().err == ""
