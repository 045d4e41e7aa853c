"""Every head against one contract; the solvers against scikit-learn's converged answers."""

import functools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from probe.errors import DataError, FitError, UsageError
from probe.heads import HEADS
from probe.heads.attentive import AttentiveOptions
from probe.heads.conv import ConvOptions
from probe.heads.crossval import CrossValidator
from probe.heads.dense import DenseHead, DenseOptions, dense_network, folded_layers
from probe.heads.draws import few_shot, fraction, stratified_folds
from probe.heads.head import Samples
from probe.heads.knn import KnnOptions
from probe.heads.linear import softmax
from probe.heads.logreg import GRID, Candidate, LogregOptions, bracketed
from probe.heads.ridge import RidgeOptions
from probe.heads.rotation import Rotation
from probe.heads.saving import load_head, save_head
from probe.heads.softmax_loss import MemoryLoss
from probe.heads.softmax_path import TOLERANCE, SoftmaxPath
from probe.heads.weighting import balanced_weights
from probe.progress import Progress, counting
from probe.registry import load_object


@pytest.fixture(scope="module")
def digits() -> tuple[Samples, Samples, Samples]:
    """Real data, three parts: 1,000 / 300 / 497 rows of 64 pixels, 10 classes."""
    features, labels = load_digits(return_X_y=True)
    parts = np.split(np.random.default_rng(0).permutation(len(labels)), [1000, 1300])
    train, val, test = (
        Samples(features[rows].astype(np.float32), labels[rows], map_shape=(8, 8, 1)) for rows in parts
    )
    return train, val, test


FLOOR = {
    "majority": 0.05,
    "centroid": 0.85,
    "logreg": 0.94,
    "ridge": 0.9,
    "knn": 0.95,
    "dense": 0.9,
    "conv": 0.9,
    "attentive": 0.8,
}
QUICK = {
    "dense": DenseOptions(
        hidden=(32,), dropout=0.1, epochs=6, batch_size=64, batch_norm=True, learning_rate=0.01
    ),
    "conv": ConvOptions(network="C16k3s R B P2 F", epochs=6, batch_size=64, learning_rate=0.01),
    "attentive": AttentiveOptions(queries=4, units=32, epochs=15, batch_size=64, learning_rate=0.01),
}
"""Options other than the defaults, where those take long."""


def as_maps_for(name, digits):
    """`attentive` knows no order: a bag of 64 single values tells it nothing, one of eight rows does."""
    return [replace(part, map_shape=(1, 8, 8)) for part in digits] if name == "attentive" else digits


@pytest.fixture(scope="module")
def fitted(digits):
    """Of the name of a head and whether it is fitted again on train and validation: what came of it, once.

    Those that are never fitted again are asked for it, and trained once.
    """

    @functools.cache
    def fit(name, refit):
        train, val, _ = as_maps_for(name, digits)
        return HEADS[name].fit(train, val, 10, QUICK.get(name), refit=refit)

    return lambda name, refit: fit(name, refit or not HEADS[name].refits)


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("refit", [False, True])
def test_contract(name, refit, digits, fitted, tmp_path):
    test, outcome = digits[2], fitted(name, refit)
    head = outcome.head
    assert (head.name, head.classes, head.width) == (name, 10, 64)
    probabilities = head.predict_proba(test.features)
    assert probabilities.shape == (497, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == test.labels).mean() > FLOOR[name]
    assert outcome.val_probabilities.shape == (300, 10)
    json.dumps([outcome.chosen, outcome.path], allow_nan=False)

    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert type(loaded) is load_object(HEADS[name].head)
    np.testing.assert_array_equal(loaded.predict_proba(test.features), probabilities)


@pytest.mark.parametrize("name", list(HEADS))
def test_validation_probabilities_are_those_before_the_refit(name, digits, fitted):
    val = digits[1]
    kept, again = fitted(name, False), fitted(name, True)
    np.testing.assert_allclose(kept.val_probabilities, again.val_probabilities, atol=1e-6)
    np.testing.assert_allclose(kept.val_probabilities, kept.head.predict_proba(val.features), atol=1e-4)
    assert kept.chosen == again.chosen


BROKEN = {
    "NaN row": (lambda x, y: (np.where(np.arange(len(x))[:, None] == 3, np.nan, x), y), "row 3"),
    "one class": (lambda x, y: (x, np.zeros_like(y)), "only one class"),
    "class missing": (lambda x, y: (x, np.where(y == 7, 8, y)), "none of class number 7"),
    "empty": (lambda x, y: (x[:0], y[:0]), "empty"),
    "label too high": (lambda x, y: (x, y + 1), "out of range"),
    "unlabelled": (lambda x, y: (x, y - 1), "out of range"),
    "lengths differ": (lambda x, y: (x, y[1:]), "belong together"),
}


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("fault", list(BROKEN))
def test_bad_training_rows_end_in_one_message(name, fault, digits):
    train, val, _ = digits
    spoil, message = BROKEN[fault]
    with pytest.raises(FitError, match=message):
        HEADS[name].fit(Samples(*spoil(train.features, train.labels)), val, 10)


def test_bad_validation_rows_end_in_one_message(digits):
    train, val, _ = digits
    with pytest.raises(FitError, match="validation part is empty"):
        HEADS["logreg"].fit(train, Samples(val.features[:0], val.labels[:0]), 10)
    with pytest.raises(FitError, match="differ in width"):
        HEADS["logreg"].fit(train, Samples(val.features[:, :3], val.labels), 10)


# --- logistic regression against scikit-learn -------------------------------------------------------


def structured(rows: int, width: int, classes: int) -> tuple[Samples, Samples]:
    """Classes that overlap, in correlated columns of unlike scale: `rows` rows, and 2,000 fresh ones."""
    generator = np.random.default_rng(0)
    n = rows + 2000
    labels = np.arange(n) % classes
    latent = generator.standard_normal((classes, 20))[labels] + 1.5 * generator.standard_normal((n, 20))
    features = latent @ generator.standard_normal((20, width)) + generator.standard_normal((n, width))
    features = (features * generator.uniform(0.1, 10, width) + 3).astype(np.float32)
    return Samples(features[:rows], labels[:rows]), Samples(features[rows:], labels[rows:])


def objective(head, samples: Samples, c: float, weights=1.0) -> float:
    """scikit-learn's objective over C·N, in float64. Two classes are one weight vector there."""
    standard = (samples.features.astype(np.float64) - head.mean) / head.scale
    logits = standard @ head.weights.astype(np.float64) + head.bias
    loss = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    loss -= logits[np.arange(len(logits)), samples.labels]
    size = (head.weights.astype(np.float64) ** 2).sum()
    if head.classes == 2:
        size *= 2
    return float((weights * loss).mean() + size / (2 * c * len(logits)))


def converged(head, samples: Samples, c: float, **options):
    standard = (samples.features.astype(np.float64) - head.mean) / head.scale
    model = LogisticRegression(C=c, tol=1e-9, max_iter=20_000, **options).fit(standard, samples.labels)
    weights, bias = model.coef_.T, model.intercept_
    if head.classes == 2:
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.r_[-bias / 2, bias / 2]
    return type(head)(head.mean, head.scale, weights, bias)


@pytest.mark.parametrize("c", [1e-5, 1e-3, 0.1, 10.0, 1000.0])
@pytest.mark.parametrize(
    ("rows", "width", "classes"), [(300, 40, 5), (60, 150, 4), (200, 30, 2), (40, 90, 2)]
)
def test_logreg_is_scikit_learns_minimum(rows, width, classes, c):
    samples, fresh = structured(rows, width, classes)
    head = HEADS["logreg"].fit(samples, None, classes, LogregOptions(c=(c,))).head
    best = converged(head, samples, c)
    found, expected = objective(head, samples, c), objective(best, samples, c)
    assert found <= expected * (1 + 1e-4) + 1e-5
    assert found >= expected * (1 - 1e-6) - 1e-7
    ours, theirs = (h.predict_proba(fresh.features).argmax(1) == fresh.labels for h in (head, best))
    assert abs(ours.mean() - theirs.mean()) <= 0.002


def test_a_warm_started_path_ends_where_single_fits_do():
    train, val = structured(200, 30, 4)
    values = (1e-4, 1e-2, 1.0, 1000.0)
    path = HEADS["logreg"].fit(train, val, 4, LogregOptions(c=values)).path
    assert [row["c"] for row in path] == list(values)
    for row in path:
        single = HEADS["logreg"].fit(train, None, 4, LogregOptions(c=(row["c"],))).head
        best = objective(converged(single, train, row["c"]), train, row["c"])
        assert row["objective"] == pytest.approx(best, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("c", [1e-9, 1e-7, 1e-5])
def test_weights_are_right_where_c_leaves_them_small(c):
    """There they hardly move the objective, yet with even classes they alone decide the prediction."""
    train, _ = structured(300, 40, 5)
    head = HEADS["logreg"].fit(train, None, 5, LogregOptions(c=(c,))).head
    best = converged(head, train, c)
    assert np.linalg.norm(head.weights - best.weights) < 0.03 * np.linalg.norm(best.weights)


def test_a_path_walked_downwards_ends_there_too(digits):
    train, _, _ = digits
    rotation = Rotation.of(train.features)
    path = SoftmaxPath(MemoryLoss(rotation.inputs(train.features), train.labels, 10))
    for c in (1e4, 3e3, 1e-3, 1e2, 1e-1):
        solution = path.solve(c)
        fresh = SoftmaxPath(path.loss, tolerance=1e-7).solve(c)
        assert solution.converged
        assert solution.objective[0] == pytest.approx(fresh.objective[0], rel=1e-4, abs=1e-5)


def test_a_start_from_other_rows_is_taken_where_it_is_near_and_left_where_it_is_not(digits):
    train, _, _ = digits
    rotation = Rotation.of(train.features)
    loss = MemoryLoss(rotation.inputs(train.features), train.labels, 10)
    cold = SoftmaxPath(loss).solve(0.01)
    # A multiple is as good: the best one is looked for along the way.
    for start in (cold.coefficients, np.float32(0.7) * cold.coefficients, -30 * cold.coefficients):
        path = SoftmaxPath(loss)
        path.start(0.01, start)
        warm = path.solve(0.01)
        assert warm.converged
        assert warm.objective[0] == pytest.approx(cold.objective[0], rel=1e-5)
        if start is cold.coefficients:
            assert warm.iterations <= 2
    # At a large C rows are fitted nearly without error: a fit of other labels is further off than zero.
    others = MemoryLoss(loss.inputs, np.roll(train.labels, 1), 10)
    path = SoftmaxPath(loss)
    path.start(1e3, SoftmaxPath(others).solve(1e3).coefficients)
    assert not path.coefficients[:-1].any()


def test_a_head_is_found_again_along_other_axes(digits):
    train, val, _ = digits
    head = HEADS["logreg"].fit(train, None, 10, LogregOptions(c=(0.1,))).head
    rotation = Rotation.of(val.features)
    coefficients = rotation.along(head.weights, head.bias, head.mean, head.scale)
    # A column that is constant in the new rows has no spread to be divided by, and is not used.
    used = np.isfinite(rotation.scale)
    rows = np.where(used, train.features, rotation.mean)
    np.testing.assert_allclose(rotation.inputs(rows) @ coefficients, head.decision(rows), atol=1e-3)


def test_the_fits_of_a_choice_are_certified_wherever_they_start(digits):
    train, val, _ = digits
    both = Samples(np.concatenate([train.features, val.features]), np.append(train.labels, val.labels))
    for found in (
        HEADS["logreg"].fit(train, val, 10),
        HEADS["logreg"].fit(train, val, 10, LogregOptions(cv=3, jobs=1)),
    ):
        alone = HEADS["logreg"].fit(both, None, 10, LogregOptions(c=(found.chosen["c"],)))
        assert found.fitted["converged"]
        assert found.fitted["gap"] <= TOLERANCE
        assert found.fitted["objective"] == pytest.approx(alone.fitted["objective"], rel=2 * TOLERANCE)


def test_problems_solved_together_are_those_solved_alone(digits):
    train, _, _ = digits
    rotation = Rotation.of(train.features)
    inputs = rotation.inputs(train.features)
    folds = np.arange(len(train)) % 3
    weights = np.stack([folds != fold for fold in range(3)], axis=1).astype(np.float32)
    together = SoftmaxPath(MemoryLoss(inputs, train.labels, 10, weights))
    for c in (1e-3, 0.1):
        solution = together.solve(c)
        for fold in range(3):
            loss = MemoryLoss(inputs[folds != fold], train.labels[folds != fold], 10)
            alone = SoftmaxPath(loss, tolerance=1e-7)
            assert solution.objective[fold] == pytest.approx(alone.solve(c).objective[0], rel=1e-4)


def test_a_gradient_shared_out_among_threads_is_the_gradient(digits, monkeypatch):
    train, _, _ = digits
    loss = MemoryLoss(Rotation.of(train.features).inputs(train.features), train.labels, 10, threads=3)
    nowhere = np.zeros((len(loss.variance), 1, 10), dtype=np.float32)
    look = loss.look(nowhere, nowhere, np.zeros(1))
    alone = loss.gradient(look)
    monkeypatch.setattr("probe.heads.softmax_loss.SHARED_PRODUCT", 1)
    np.testing.assert_allclose(loss.gradient(look), alone, atol=1e-6)
    assert np.abs(alone).max() > 1e-2


class Rows:
    """Rows that are not an array, as a store's are not."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, rows):
        return self.array[rows]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_streamed_rows_give_the_same_answer(class_weight, digits, monkeypatch):
    monkeypatch.setattr("probe.heads.head.BLOCK", 97)
    train, val, test = digits
    options = LogregOptions(c=(1e-3, 1e-2, 1.0), class_weight=class_weight)
    kept = HEADS["logreg"].fit(train, val, 10, options)
    sources = [Samples(Rows(part.features), part.labels) for part in (train, val)]
    streamed = HEADS["logreg"].fit(*sources, 10, options)
    assert streamed.chosen == kept.chosen
    for a, b in zip(kept.path, streamed.path, strict=True):
        assert a["objective"] == pytest.approx(b["objective"], rel=2e-5)
        assert a["val_accuracy"] == pytest.approx(b["val_accuracy"], abs=0.004)
    np.testing.assert_allclose(
        streamed.head.predict_proba(Rows(test.features)), kept.head.predict_proba(test.features), atol=0.01
    )


@pytest.mark.parametrize("head", ["dense", "conv", "attentive"])
def test_heads_trained_by_steps_read_what_is_not_in_memory_batch_by_batch(head, digits, monkeypatch):
    monkeypatch.setattr("probe.heads.head.BLOCK", 97)
    train, val, test = as_maps_for(head, digits)
    by_class = np.argsort(train.labels, kind="stable")
    read = []

    class Counted(Rows):
        def __getitem__(self, rows):
            read.append(len(self.array[rows]))
            return super().__getitem__(rows)

    sorted_rows = Counted(train.features[by_class])
    sources = (
        Samples(sorted_rows, train.labels[by_class], train.map_shape),
        Samples(Counted(val.features), val.labels, val.map_shape),
    )
    options = replace(QUICK[head], class_weight="balanced")
    outcome = HEADS[head].fit(*sources, 10, options)
    assert max(read) <= 256
    predicted = outcome.head.predict_proba(Counted(test.features)).argmax(axis=1)
    assert (predicted == test.labels).mean() > FLOOR[head]


def test_the_seed_decides_in_which_order_batches_are_read(digits):
    """Reading is shared by all heads that are trained by steps."""
    test, sources = digits[2], [Samples(Rows(part.features), part.labels) for part in digits[:2]]
    options = replace(QUICK["dense"], epochs=1, class_weight="balanced")
    both = HEADS["dense"].fit(*sources, 10, replace(options, seeds=2)).seed_heads
    again = HEADS["dense"].fit(*sources, 10, options).head
    first, second, repeated = (head.predict_proba(test.features) for head in (*both, again))
    np.testing.assert_allclose(repeated, first, atol=1e-3)
    assert np.abs(first - second).max() > 0.01


def test_balanced_weights_are_scikit_learns(digits):
    train, _, _ = digits
    kept = np.flatnonzero((train.labels > 2) | (np.arange(1000) % 5 == 0))
    uneven = Samples(train.features[kept], train.labels[kept])
    head = HEADS["logreg"].fit(uneven, None, 10, LogregOptions(c=(0.01,), class_weight="balanced")).head
    weights = balanced_weights(uneven.labels, 10)
    best = converged(head, uneven, 0.01, class_weight="balanced")
    expected = objective(best, uneven, 0.01, weights)
    assert objective(head, uneven, 0.01, weights) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_logreg_statistics_come_from_the_fitted_rows_only(digits):
    train, val, _ = digits
    kept = HEADS["logreg"].fit(train, val, 10, LogregOptions(c=(0.01,)), refit=False).head
    np.testing.assert_allclose(kept.mean, train.features.mean(axis=0), rtol=1e-5)
    both = np.concatenate([train.features, val.features])
    again = HEADS["logreg"].fit(train, val, 10, LogregOptions(c=(0.01,)), refit=True).head
    np.testing.assert_allclose(again.mean, both.mean(axis=0), rtol=1e-5)


def test_constant_and_far_off_columns_do_no_harm(digits):
    train, val, _ = digits
    options = LogregOptions(c=(0.01,))
    plain = HEADS["logreg"].fit(train, val, 10, options, refit=False).val_probabilities
    moved = [np.hstack([part.features * 1e-3 + 10, np.full((len(part), 2), 7e5)]) for part in (train, val)]
    far = [Samples(x.astype(np.float32), part.labels) for x, part in zip(moved, (train, val), strict=True)]
    np.testing.assert_allclose(
        HEADS["logreg"].fit(*far, 10, options, refit=False).val_probabilities, plain, atol=0.02
    )


def test_the_choice_is_the_stated_rule(digits):
    train, val, _ = digits
    outcome = HEADS["logreg"].fit(train, val, 10, LogregOptions(full_path=True))
    assert [row["c"] for row in outcome.path] == sorted(GRID)
    best = max(outcome.path, key=lambda row: (row["val_accuracy"], -row["val_log_loss"]))
    assert outcome.chosen == {"c": best["c"]}


def test_the_search_looks_at_a_third_of_the_grid_and_finds_the_top():
    def score(c: float) -> Candidate:
        accuracy = -((np.log10(c) + 2.3) ** 2)
        return Candidate(c, accuracy, 0.0, {})

    tried = bracketed(score)
    assert len(tried) <= 15
    assert max(tried, key=lambda t: t.rank).c == min(GRID, key=lambda c: abs(np.log10(c) + 2.3))


def test_an_end_of_the_grid_is_noted(digits):
    train, val, _ = digits
    outcome = HEADS["logreg"].fit(train, val, 10, LogregOptions(c=(1e-8, 1e-7, 1e-6)))
    assert any("end of the values" in note for note in outcome.notes)


@pytest.mark.parametrize("c", [0.0, -1.0, float("nan"), float("inf")])
def test_a_c_that_is_not_positive_is_refused(c):
    with pytest.raises(FitError, match="positive"):
        LogregOptions(c=(c,))


def test_options_that_cannot_be():
    with pytest.raises(UsageError, match="class weight"):
        LogregOptions(class_weight="heavy")


def test_c_cannot_be_chosen_without_validation(digits):
    with pytest.raises(FitError, match="validation"):
        HEADS["logreg"].fit(digits[0], None, 10)


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]], dtype=np.float32)), [[1.0, 0.0]])


# --- cross-validation -------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 10_000])
def test_cross_validation_is_one_fit_per_fold(together, digits, monkeypatch):
    """One fold at a time or all in one go, and against scikit-learn on the same standardised rows."""
    monkeypatch.setattr("probe.heads.crossval.TOGETHER", together)
    train, _, _ = digits
    folds = stratified_folds(train.labels, 3)
    validator = CrossValidator(train, 10, folds)
    result = validator.run((0.1, 1e-3))
    assert result.values == (1e-3, 0.1)
    standard = (train.features - validator.rotation.mean) / validator.rotation.scale
    for row, c in enumerate(result.values):
        for fold in range(3):
            kept = folds != fold
            model = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(standard[kept], train.labels[kept])
            expected = model.score(standard[~kept], train.labels[~kept])
            assert result.accuracy[row, fold] == pytest.approx(expected, abs=0.004)
    assert result.converged.all()
    assert result.mean_accuracy()[0] == pytest.approx(result.accuracy[0].mean(), abs=1e-3)


def test_streamed_cross_validation_is_the_same(digits):
    train, _, _ = digits
    folds = stratified_folds(train.labels, 3)
    kept = CrossValidator(train, 10, folds, class_weight="balanced").run((1e-3, 0.1))
    rows = Samples(Rows(train.features), train.labels)
    streamed = CrossValidator(rows, 10, folds, class_weight="balanced").run((1e-3, 0.1))
    np.testing.assert_allclose(streamed.accuracy, kept.accuracy, atol=0.004)
    np.testing.assert_allclose(streamed.log_loss, kept.log_loss, rtol=1e-2)


def test_c_chosen_by_cross_validation(digits):
    train, val, test = digits
    outcome = HEADS["logreg"].fit(train, val, 10, LogregOptions(cv=3))
    judged = [row for row in outcome.path if "cv_accuracy" in row]
    best = max(judged, key=lambda row: (row["cv_accuracy"], -row["cv_log_loss"]))
    assert outcome.chosen == {"c": best["c"], "cv": 3}
    assert len(outcome.path) < 20
    kept = HEADS["logreg"].fit(train, val, 10, LogregOptions(c=(outcome.chosen["c"],)), refit=False)
    np.testing.assert_allclose(outcome.val_probabilities, kept.val_probabilities, atol=0.01)
    assert (outcome.head.predict_proba(test.features).argmax(1) == test.labels).mean() > 0.94
    alone = HEADS["logreg"].fit(train, None, 10, LogregOptions(cv=3, c=(1e-3, 1e-2)))
    assert [row["c"] for row in alone.path] == [1e-3, 1e-2]


@pytest.mark.parametrize("together", [1, 10_000])
def test_a_search_in_folds_chooses_only_among_values_that_every_fold_has_seen(together, digits, monkeypatch):
    monkeypatch.setattr("probe.heads.crossval.TOGETHER", together)
    train, _, _ = digits
    outcome = HEADS["logreg"].fit(train, None, 10, LogregOptions(cv=3))
    judged = [row for row in outcome.path if "cv_accuracy" in row]
    glanced = [row for row in outcome.path if "cv_accuracy" not in row]
    assert 5 <= len(judged) < 20
    assert glanced
    assert all(
        set(row) == {"c", "first_fold_accuracy", "first_fold_log_loss", "converged", "gap"} for row in glanced
    )
    values = [row["c"] for row in judged]
    assert min(values) < outcome.chosen["c"] < max(values)
    folds = stratified_folds(train.labels, 3)
    alone = CrossValidator(train, 10, folds).run(tuple(values))
    np.testing.assert_allclose([row["fold_accuracy"] for row in judged], alone.accuracy, atol=0.007)
    np.testing.assert_allclose([row["cv_log_loss"] for row in judged], alone.mean_log_loss(), rtol=5e-3)


def test_a_first_fold_that_misleads_only_decides_where_the_search_begins(digits, monkeypatch):
    from probe.heads.crossval import FoldPath

    train = Samples(digits[0].features[:300], digits[0].labels[:300])
    expected = HEADS["logreg"].fit(train, None, 10, LogregOptions(cv=3)).chosen["c"]
    monkeypatch.setattr(FoldPath, "score", _first_fold_likes_small_values(FoldPath.score))
    misled = HEADS["logreg"].fit(train, None, 10, LogregOptions(cv=3))
    judged = {row["c"]: row["cv_accuracy"] for row in misled.path if "cv_accuracy" in row}
    assert misled.chosen["c"] > min(judged)
    assert min(judged) < 1e-5 < expected
    assert judged[misled.chosen["c"]] > judged[min(judged)]


def _first_fold_likes_small_values(score):
    """As `score`, except that the first fold alone is ever less right."""

    def wrong(path, c):
        found = score(path, c)
        if len(path.group) == 1:
            found[0] = 1 / (1 + c)
        return found

    return wrong


def test_values_that_cost_much_are_searched_in_larger_steps_and_it_is_said(digits, monkeypatch):
    train, val, _ = digits
    usual = HEADS["logreg"].fit(train, val, 10)
    assert not any("larger steps" in note for note in usual.notes)
    monkeypatch.setattr("probe.heads.logreg.LOGITS", 5_000)
    short = HEADS["logreg"].fit(train, val, 10)
    assert len(short.path) < len(usual.path)
    (note,) = (note for note in short.notes if "larger steps" in note)
    assert "1,000 rows × 10 classes" in note
    assert "--full-path" in note
    best = max(row["val_accuracy"] for row in usual.path)
    assert max(row["val_accuracy"] for row in short.path) >= best - 0.01
    folds = HEADS["logreg"].fit(train, None, 10, LogregOptions(cv=3))
    assert any("larger steps" in note for note in folds.notes)
    given = HEADS["logreg"].fit(train, val, 10, LogregOptions(c=(0.01, 0.1)))
    assert not any("larger steps" in note for note in given.notes)


def test_folds_are_even_in_every_class():
    labels = np.repeat([0, 1, 2], [10, 7, 4])
    folds = stratified_folds(labels, 3, seed=5)
    counts = np.array([np.bincount(labels[folds == fold], minlength=3) for fold in range(3)])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) == 0
    assert not np.array_equal(folds, stratified_folds(labels, 3, seed=6))
    with pytest.raises(FitError, match="cross-validation"):
        stratified_folds(labels, 22)


def test_few_shot_draws_are_nested_and_balanced():
    labels = np.repeat([0, 1, 2], [10, 7, 4])
    five, two = few_shot(labels, 5), few_shot(labels, 2)
    assert list(np.bincount(labels[five])) == [5, 5, 4]
    assert list(np.bincount(labels[two])) == [2, 2, 2]
    assert set(two) < set(five)
    assert list(np.bincount(labels[fraction(labels, 0.5)])) == [5, 4, 2]
    with pytest.raises(FitError):
        few_shot(labels, 0)
    with pytest.raises(FitError):
        fraction(labels, 0.0)


# --- ridge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width", "classes"), [(300, 40, 5), (60, 150, 4), (50, 90, 2)])
def test_ridge_is_ridge_classifier(rows, width, classes):
    samples, fresh = structured(rows, width, classes)
    for alpha in (0.1, 10.0, 1000.0):
        outcome = HEADS["ridge"].fit(samples, None, classes, RidgeOptions(alpha=(alpha,)))
        head, temperature = outcome.head, outcome.chosen["temperature"]
        standard, other = (
            (part.features.astype(np.float64) - head.mean) / head.scale for part in (samples, fresh)
        )
        model = RidgeClassifier(alpha=alpha).fit(standard, samples.labels)
        expected = model.decision_function(other)
        found = head.decision(fresh.features) * temperature
        found = found[:, 1] if classes == 2 else found
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_leave_one_out_is_what_leaving_out_gives():
    samples, _ = structured(40, 15, 3)
    alpha = 5.0
    row = HEADS["ridge"].fit(samples, None, 3, RidgeOptions(alpha=(alpha,))).path[0]
    standard = (samples.features - samples.features.mean(0)) / samples.features.std(0)
    targets = 2.0 * np.eye(3)[samples.labels] - 1
    errors, right = [], []
    for left_out in range(40):
        kept = np.arange(40) != left_out
        model = Ridge(alpha=alpha).fit(standard[kept], targets[kept])
        value = model.predict(standard[left_out : left_out + 1])[0]
        errors.append((value - targets[left_out]) ** 2)
        right.append(value.argmax() == samples.labels[left_out])
    assert row["loo_error"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert row["loo_accuracy"] == pytest.approx(np.mean(right))


def test_ridge_validation_figures_are_those_of_the_head(digits):
    train, val, _ = digits
    outcome = HEADS["ridge"].fit(train, val, 10, RidgeOptions(alpha=(30.0,)), refit=False)
    row, head = outcome.path[0], outcome.head
    values = head.decision(val.features) * outcome.chosen["temperature"]
    targets = 2.0 * np.eye(10)[val.labels] - 1
    assert outcome.chosen["loo_accuracy"] == pytest.approx(row["val_accuracy"], abs=0.05)
    assert row["val_error"] == pytest.approx(((values - targets) ** 2).mean(), rel=1e-3)
    assert row["val_accuracy"] == pytest.approx((values.argmax(1) == val.labels).mean())


def test_an_alpha_that_is_not_positive_is_refused():
    with pytest.raises(FitError, match="positive"):
        RidgeOptions(alpha=(0.0,))


# --- nearest neighbours -----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_is_scikit_learns(metric, digits, monkeypatch):
    monkeypatch.setattr("probe.heads.neighbours.QUERY_BLOCK", 101)
    monkeypatch.setattr("probe.heads.neighbours.POINT_BLOCK", 77)
    train, _, test = digits
    # Whole-number pixels have many rows at equal distance, whose order nothing defines.
    generator = np.random.default_rng(0)
    train, test = (
        Samples(part.features + generator.uniform(0, 0.1, part.features.shape).astype("f"), part.labels)
        for part in (train, test)
    )
    for k in (1, 5, 100):
        head = HEADS["knn"].fit(train, None, 10, KnnOptions(k=(k,), metric=metric)).head
        model = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(train.features, train.labels)
        same = np.isclose(head.predict_proba(test.features), model.predict_proba(test.features), atol=1e-6)
        assert same.mean() > 0.9995


def test_knn_on_standardised_features_is_knn_behind_a_scaler(digits, tmp_path):
    train, val, test = digits
    weights = np.geomspace(0.1, 10, train.features.shape[1]).astype(np.float32)
    noise = np.random.default_rng(0).uniform(0, 0.1, test.features.shape).astype(np.float32)
    train, val = (Samples(part.features * weights, part.labels) for part in (train, val))
    asked = (test.features + noise) * weights
    options = KnnOptions(k=(5,), metric="euclidean", standardise=True)
    outcome = HEADS["knn"].fit(train, val, 10, options)
    assert outcome.chosen == {"k": 5, "metric": "euclidean", "standardise": True}
    rows, labels = np.concatenate([train.features, val.features]), np.concatenate([train.labels, val.labels])
    scaler = StandardScaler().fit(rows)
    model = KNeighborsClassifier(5, algorithm="brute").fit(scaler.transform(rows), labels)
    found = outcome.head.predict_proba(asked)
    assert np.isclose(found, model.predict_proba(scaler.transform(asked)), atol=1e-6).mean() > 0.9995
    plain = HEADS["knn"].fit(train, val, 10, replace(options, standardise=False)).head
    assert (plain.predict_proba(asked) != found).any()
    save_head(outcome.head, tmp_path)
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(asked), found)


def test_k_is_chosen_on_validation(digits):
    train, val, _ = digits
    outcome = HEADS["knn"].fit(train, val, 10, KnnOptions(k=(1, 5, 700, 5000)))
    assert [row["k"] for row in outcome.path] == [1, 5, 700, 1000]
    best = max(outcome.path, key=lambda row: (row["val_accuracy"], -row["val_log_loss"]))
    assert outcome.chosen["k"] == best["k"]
    with pytest.raises(FitError, match="validation"):
        HEADS["knn"].fit(train, None, 10)
    with pytest.raises(FitError, match="at least one"):
        KnnOptions(k=(0,))
    with pytest.raises(UsageError, match="metric"):
        KnnOptions(metric="manhattan")


# --- dense ------------------------------------------------------------------------------------------


def test_dense_keeps_every_seed_and_needs_no_keras_to_predict(digits):
    train, val, test = digits
    options = DenseOptions(
        hidden=(24,), dropout=0.2, batch_norm=True, epochs=3, seeds=2, seed=7, class_weight="balanced"
    )
    with Progress("fit", shown=False) as bar, counting(bar):
        outcome = HEADS["dense"].fit(train, val, 10, options)
    assert bar.n == 2 * 3
    assert [row["seed"] for row in outcome.path] == [7, 8]
    assert len(outcome.seed_heads) == len(outcome.history) == 2
    assert len(outcome.history[0]) == 3
    best = min(outcome.path, key=lambda row: row["val_log_loss"])
    assert outcome.chosen["seed"] == best["seed"]
    again = HEADS["dense"].fit(train, val, 10, replace(options, seeds=1))
    np.testing.assert_allclose(
        again.head.predict_proba(test.features),
        outcome.seed_heads[0].predict_proba(test.features),
        atol=1e-3,
    )


def test_folded_batch_norm_is_what_keras_computes(digits):
    train, _, _ = digits
    model = dense_network(64, 10, DenseOptions(hidden=(12, 8), batch_norm=True))
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    kernels, biases = folded_layers(model)
    head = DenseHead(np.zeros(64, "f"), np.ones(64, "f"), kernels, biases)
    expected = model(train.features[:50], training=False).numpy()
    np.testing.assert_allclose(head.decision(train.features[:50]), expected, rtol=1e-4)


def test_dense_options_that_cannot_be(digits):
    for wrong in ({"hidden": (0,)}, {"dropout": 1.0}, {"seeds": 0}, {"class_weight": "heavy"}):
        with pytest.raises(UsageError):
            DenseOptions(**wrong)
    with pytest.raises(FitError, match="validation"):
        HEADS["dense"].fit(digits[0], None, 10)


# --- conv -------------------------------------------------------------------------------------------


def test_conv_keeps_every_seed_and_its_history(digits):
    train, val, _ = digits
    outcome = HEADS["conv"].fit(train, val, 10, replace(QUICK["conv"], epochs=2, seeds=2))
    assert [row["seed"] for row in outcome.path] == [0, 1]
    assert [len(history) for history in outcome.history] == [2, 2]
    first, second = (head.predict_proba(val.features) for head in outcome.seed_heads)
    assert np.abs(first - second).max() > 0.01
    assert outcome.chosen["network"] == "C16k3s R B P2 F"


def test_conv_sees_places_in_the_order_of_the_rows():
    """A bright left column against a bright right one: means over all places cannot tell them apart."""
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    maps = generator.standard_normal((200, 4, 6, 3)).astype(np.float32)
    maps[labels == 0, :, 0] += 4
    maps[labels == 1, :, -1] += 4
    samples = Samples(maps.reshape(200, -1), labels, map_shape=(4, 6, 3))
    options = ConvOptions(network="C4k1s R F", epochs=6, batch_size=20, learning_rate=0.03)
    head = HEADS["conv"].fit(samples, samples, 2, options).head
    assert (head.predict_proba(samples.features).argmax(axis=1) == labels).mean() > 0.95


def test_conv_without_a_map_is_one_message_that_says_how_to_store_one(digits):
    train, val, _ = digits
    for name in ("conv", "attentive"):
        with pytest.raises(FitError, match="block5:map"):
            HEADS[name].fit(replace(train, map_shape=None), val, 10)
    with pytest.raises(FitError, match="not the maps"):
        HEADS["conv"].fit(replace(train, map_shape=(8, 8, 3)), val, 10)


@pytest.mark.parametrize("network", ["C8 X", "C8k3s", "C8k9v GAP"])
def test_conv_networks_that_cannot_be(network, digits):
    with pytest.raises(UsageError, match=r"network string|feature map|nothing is left"):
        HEADS["conv"].fit(*digits[:2], 10, ConvOptions(network=network))


def test_a_conv_head_whose_network_is_not_that_of_its_weights_is_refused(fitted, tmp_path):
    head = fitted("conv", True).head
    for network in ("C8k3s R B P2 F", "C16k3s", "C16"):
        save_head(replace(head, network=network), tmp_path)
        with pytest.raises(DataError, match="damaged"):
            load_head(tmp_path)


# --- attentive --------------------------------------------------------------------------------------


def marked(rows: int, seed: int) -> Samples:
    """Maps of noise with one token of their class at any place, which their average hardly shows."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    maps = generator.standard_normal((rows, 6, 6, 8)).astype(np.float32)
    places = generator.integers(0, 6, (rows, 2))
    maps[np.arange(rows), places[:, 0], places[:, 1]] = 0
    maps[np.arange(rows), places[:, 0], places[:, 1], labels] = 6
    return Samples(maps.reshape(rows, -1), labels, map_shape=(6, 6, 8))


def test_attentive_finds_the_token_that_matters_where_the_mean_does_not():
    train, val, test = marked(600, 0), marked(150, 1), marked(300, 2)
    options = AttentiveOptions(queries=3, units=24, epochs=15, batch_size=64, learning_rate=0.1)
    head = HEADS["attentive"].fit(train, val, 3, options).head
    means = [
        replace(part, features=part.features.reshape(len(part), 36, 8).mean(1), map_shape=None)
        for part in (train, val, test)
    ]
    linear = HEADS["logreg"].fit(*means[:2], 3).head
    right, plain = (
        (found.predict_proba(part.features).argmax(1) == test.labels).mean()
        for found, part in ((head, test), (linear, means[2]))
    )
    assert right > 0.95 > 0.85 > plain
    attention = head.attention(test.features)
    assert attention.shape == (300, 3, 6, 6)
    np.testing.assert_allclose(attention.sum((2, 3)), 1, atol=1e-5)


def test_attentive_is_what_keras_computes_and_knows_no_order_of_places():
    samples = marked(90, 0)
    options = AttentiveOptions(queries=3, units=24, epochs=3, batch_size=32, dropout=0.2)
    head = HEADS["attentive"].fit(samples, samples, 3, options).head
    found = head.predict_proba(samples.features)
    np.testing.assert_allclose(head.keras_model()(samples.features), found, atol=1e-5)
    turned = samples.features.reshape(90, 36, 8)[:, ::-1].reshape(90, -1)
    np.testing.assert_allclose(head.predict_proba(turned), found, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"queries": 3, "units": 32}, {"dropout": 1.0}])
def test_attentive_options_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        AttentiveOptions(**wrong)


def test_an_attentive_head_whose_arrays_do_not_fit_its_map_is_refused(fitted, tmp_path):
    head = fitted("attentive", True).head
    for wrong in ({"shape": (1, 4, 4)}, {"queries": head.queries[:, :3]}, {"bias": head.bias[:9]}):
        save_head(replace(head, **wrong), tmp_path)
        with pytest.raises(DataError, match="damaged"):
            load_head(tmp_path)


# --- on disk ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(digits, tmp_path):
    save_head(HEADS["centroid"].fit(*digits[:2], 10).head, tmp_path)
    return tmp_path


def rewrite(folder, **changes):
    path = folder / "head.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "head.json").unlink(), "there is no head"),
        (lambda d: (d / "head.npz").unlink(), "damaged"),
        (lambda d: (d / "head.json").write_text("{"), "damaged"),
        (lambda d: (d / "head.json").write_text("[]"), "another version"),
        (lambda d: rewrite(d, schema=99), "another version"),
        (lambda d: rewrite(d, arrays={}), "damaged"),
        (lambda d: rewrite(d, meta={}), "damaged"),
        (lambda d: rewrite(d, meta={"classes": 3, "width": 64}), "damaged"),
        (lambda d: rewrite(d, sha256=""), "damaged"),
        (lambda d: (d / "head.json").write_bytes(b" " * (2 << 20)), "damaged"),
        (lambda d: (d / "head.npz").write_bytes((d / "head.npz").read_bytes()[:-50]), "damaged"),
    ],
)
def test_a_damaged_head_is_refused(saved, spoil, message):
    spoil(saved)
    with pytest.raises(DataError, match=message):
        load_head(saved)


def test_an_unknown_head_is_refused(saved):
    rewrite(saved, head="os:system")
    with pytest.raises(UsageError, match="unknown head"):
        load_head(saved)


def test_a_pickled_array_is_refused(saved):
    import hashlib

    np.savez(saved / "head.npz", mean=np.array([{}], dtype=object))
    rewrite(saved, sha256=hashlib.sha256((saved / "head.npz").read_bytes()).hexdigest())
    with pytest.raises(DataError, match="damaged"):
        load_head(saved)


def test_fitting_and_loading_logreg_import_no_tensorflow(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from probe.heads import HEADS\n"
        "from probe.heads.head import Samples\n"
        "from probe.heads.saving import load_head, save_head\n"
        "x = np.random.default_rng(0).standard_normal((40, 5)).astype('f')\n"
        "part = Samples(x, np.arange(40) % 4)\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "save_head(HEADS['logreg'].fit(part, part, 4).head, folder)\n"
        "load_head(folder).predict_proba(x)\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'scipy'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
