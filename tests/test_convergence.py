"""Logistic regression says "converged" where a float64 reference agrees, to the tolerance that it states."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probe.heads import HEADS
from probe.heads.crossval import CrossValidator
from probe.heads.draws import stratified_folds
from probe.heads.head import Samples
from probe.heads.logreg import LogregHead, LogregOptions
from probe.heads.softmax_exact import ExactLoss
from probe.heads.softmax_loss import StreamedLoss
from probe.heads.softmax_path import TOLERANCE, SoftmaxPath

VALUES = tuple(float(c) for c in 10.0 ** np.arange(-6, 7))


class Rows:
    """Rows that are not an array, as a store's are not."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, rows):
        return self.array[rows]


@cache
def problem(name: str) -> Samples:
    generator = np.random.default_rng(0)

    def classes(rows: int, width: int, count: int, separation: float) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(rows) % count
        centres = separation * generator.standard_normal((count, width))
        return centres[labels] + generator.standard_normal((rows, width)), labels

    if name == "repeated points":
        features, labels = classes(60, 12, 3, 0.5)
        again = np.arange(300) % 60
        noise = generator.random(300) < 0.15
        features, labels = features[again], np.where(noise, generator.integers(0, 3, 300), labels[again])
    elif name == "few repeated points":
        features, labels = classes(20, 30, 4, 0.5)
        features, labels = features[np.arange(200) % 20], generator.integers(0, 4, 200)
    elif name == "separable":
        features, labels = classes(150, 15, 3, 4)
    elif name == "separable, two classes":
        features, labels = classes(150, 5, 2, 4)
    elif name == "correlated columns":
        features, labels = classes(200, 10, 3, 0.7)
        mixing = generator.standard_normal((10, 3)) @ generator.standard_normal((3, 10))
        features = features @ (mixing + 1e-3 * np.eye(10))
    elif name == "one class rare":
        features, labels = classes(400, 8, 3, 0.7)
        labels = np.where(generator.random(400) < 0.97, 0, labels)
        labels[:6] = [0, 0, 1, 1, 2, 2]
    elif name == "more columns than rows":
        features, labels = classes(40, 90, 3, 0.5)
    else:
        features, labels = classes(300, 6, 2, 0.3)
        features[:, 0] += 1e4
        features[:, 1] *= 1e6
    return Samples(features.astype(np.float32), labels)


NAMES = (
    "repeated points",
    "few repeated points",
    "separable",
    "separable, two classes",
    "correlated columns",
    "one class rare",
    "more columns than rows",
    "odd columns",
)


def row_weights(samples: Samples, class_weight: str | None) -> np.ndarray:
    if class_weight is None:
        return np.ones(len(samples))
    counts = np.bincount(samples.labels)
    return (len(samples) / (len(counts) * counts))[samples.labels]


def objective(head: LogregHead, samples: Samples, c: float, class_weight: str | None) -> float:
    """scikit-learn's over C·Σw, in float64. Two classes are one weight vector there."""
    values = samples.features if isinstance(samples.features, np.ndarray) else samples.features.array
    standard = (values.astype(np.float64) - head.mean) / head.scale
    logits = standard @ head.weights.astype(np.float64) + head.bias.astype(np.float64)
    highest = logits.max(axis=1)
    losses = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    losses -= logits[np.arange(len(logits)), samples.labels]
    weights = row_weights(samples, class_weight)
    size = (head.weights.astype(np.float64) ** 2).sum() * (2 if head.classes == 2 else 1)
    return float((weights @ losses + size / (2 * c)) / weights.sum())


@cache
def lowest(name: str, c: float, class_weight: str | None) -> float:
    """The minimum, by Newton's method with the whole Hessian in float64."""
    samples = problem(name)
    values = samples.features.astype(np.float64)
    mean = values.mean(axis=0).astype(np.float32)
    scale = values.std(axis=0).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(
            C=c, tol=1e-12, max_iter=1000, solver="newton-cholesky", class_weight=class_weight
        ).fit((values - mean) / scale, samples.labels)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.r_[-bias / 2, bias / 2]
    return objective(LogregHead(mean, scale, weights, bias), samples, c, class_weight)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_c_ends_within_the_stated_tolerance_of_the_minimum(name, class_weight):
    samples = problem(name)
    count = int(samples.labels.max()) + 1
    path = HEADS["logreg"].fit(samples, samples, count, LogregOptions(c=VALUES, class_weight=class_weight))
    assert not any("converged" in note for note in path.notes)
    for row in path.path:
        assert row["converged"]
        best = lowest(name, row["c"], class_weight)
        assert -1e-8 <= row["objective"] / best - 1 <= TOLERANCE
        assert row["objective"] - best <= row["excess"] + 3e-8 * best


@pytest.mark.parametrize("c", [1e-6, 1.0, 1e5, 1e6])
@pytest.mark.parametrize("name", ["repeated points", "few repeated points", "separable", "odd columns"])
def test_one_value_of_c_ends_there_too_and_its_figures_are_those_of_the_head(name, c):
    samples = problem(name)
    count = int(samples.labels.max()) + 1
    outcome = HEADS["logreg"].fit(samples, None, count, LogregOptions(c=(c,)))
    (row,) = outcome.path
    assert row["converged"]
    found = objective(outcome.head, samples, c, None)
    assert row["objective"] == pytest.approx(found, rel=1e-9)
    assert found / lowest(name, c, None) - 1 <= TOLERANCE
    streamed = HEADS["logreg"].fit(
        Samples(Rows(samples.features), samples.labels), None, count, LogregOptions(c=(c,))
    )
    assert streamed.path[0]["converged"]
    assert objective(streamed.head, samples, c, None) / lowest(name, c, None) - 1 <= TOLERANCE


def test_a_tolerance_that_is_asked_for_is_met():
    samples = problem("repeated points")
    for tolerance in (1e-3, 1e-8):
        outcome = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1e3,), tolerance=tolerance))
        assert outcome.path[0]["converged"]
        assert outcome.path[0]["objective"] / lowest("repeated points", 1e3, None) - 1 <= tolerance


def test_a_fit_that_stops_at_its_limit_is_not_converged_and_said(monkeypatch):
    monkeypatch.setattr("probe.heads.softmax_path.MAX_ITERATIONS", 2)
    monkeypatch.setattr("probe.heads.softmax_exact.MAX_STEPS", 0)
    samples = problem("repeated points")
    path = HEADS["logreg"].fit(samples, samples, 3, LogregOptions(c=(1e-6, 1.0, 1e6)))
    assert [row["converged"] for row in path.path] == [True, False, False]
    for row in path.path[1:]:
        assert row["excess"] > TOLERANCE * row["objective"]
        assert f"the fit at C = {row['c']:g} stopped before it had converged" in path.notes
    refitted = HEADS["logreg"].fit(samples, samples, 3, LogregOptions(c=(1e6,)))
    assert any("train + validation at C = 1e+06 stopped before" in note for note in refitted.notes)
    alone = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1e6,)))
    assert alone.notes == ("the fit at C = 1e+06 stopped before it had converged",)
    folds = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1e5, 1e6), cv=3))
    assert [row["converged"] for row in folds.path] == [False, False]
    assert sum("stopped before" in note for note in folds.notes) == 3


def test_a_tolerance_beneath_rounding_is_not_reached_and_said():
    samples = problem("separable")
    outcome = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1.0,), tolerance=1e-17))
    assert not outcome.path[0]["converged"]
    assert "stopped before" in outcome.notes[0]


@pytest.mark.parametrize("together", [1, 10_000])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["repeated points", "separable, two classes"])
def test_folds_are_solved_to_their_tolerance_or_said_not_to_be(name, streamed, together, monkeypatch):
    """Each fold's log-loss on the rows held out, against a fit of its own that is solved ten times closer."""
    monkeypatch.setattr("probe.heads.crossval.TOGETHER", together)
    samples = problem(name)
    count = int(samples.labels.max()) + 1
    folds = stratified_folds(samples.labels, 3)
    source = Samples(Rows(samples.features), samples.labels) if streamed else samples
    validator = CrossValidator(source, count, folds, jobs=1)
    found = validator.run((1e-2, 1e2, 1e5))
    assert found.converged.all()
    standard = (samples.features.astype(np.float64) - validator.rotation.mean) / validator.rotation.scale
    for row, c in enumerate(found.values):
        for fold in range(3):
            kept = folds != fold
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = LogisticRegression(C=c, tol=1e-12, max_iter=1000, solver="newton-cholesky")
                model.fit(standard[kept], samples.labels[kept])
            expected = model.predict_proba(standard[~kept])[np.arange((~kept).sum()), samples.labels[~kept]]
            assert found.log_loss[row, fold] == pytest.approx(
                -np.log(np.maximum(expected, 1e-15)).mean(), rel=0.03, abs=1e-3
            )


def test_the_path_itself_never_says_converged_beyond_its_bound():
    from probe.heads.rotation import Rotation
    from probe.heads.softmax_loss import MemoryLoss

    for name in ("repeated points", "correlated columns", "separable"):
        samples = problem(name)
        rotation = Rotation.of(samples.features)
        path = SoftmaxPath(MemoryLoss(rotation.inputs(samples.features), samples.labels, 3))
        for c in VALUES:
            solution = path.solve(c)
            if solution.converged.all():
                assert solution.objective[0] / lowest(name, c, None) - 1 <= 2 * TOLERANCE


def test_more_logits_than_are_kept_in_memory_change_nothing(monkeypatch):
    """With thousands of classes the logits of all rows are larger than the features."""
    samples = problem("one class rare")
    options = LogregOptions(c=(1e-3, 1.0), cv=0)
    whole = HEADS["logreg"].fit(samples, samples, 3, options)
    folds = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1e-3, 1.0), cv=3))
    for module in ("logreg", "crossval"):
        monkeypatch.setattr(f"probe.heads.{module}.LOGITS", 10)
    monkeypatch.setattr("probe.heads.softmax_loss.BLOCK_LOGITS", 10)
    parts = HEADS["logreg"].fit(samples, samples, 3, options)
    for a, b in zip(whole.path, parts.path, strict=True):
        assert b["converged"]
        assert a["objective"] == pytest.approx(b["objective"], rel=2 * TOLERANCE)
    again = HEADS["logreg"].fit(samples, None, 3, LogregOptions(c=(1e-3, 1.0), cv=3))
    for a, b in zip(folds.path, again.path, strict=True):
        assert a["cv_log_loss"] == pytest.approx(b["cv_log_loss"], rel=0.02)


@pytest.mark.parametrize("blocks", ["few", "many"])
@pytest.mark.parametrize(
    "name", ["repeated points", "one class rare", "separable, two classes", "odd columns"]
)
def test_the_gap_of_a_streamed_fit_is_a_bound(name, blocks, monkeypatch):
    """Against the minimum of a Newton fit in float64; of many blocks only some are looked at again."""
    if blocks == "many":
        monkeypatch.setattr("probe.heads.head.BLOCK", 23)
    samples = problem(name)
    count = int(samples.labels.max()) + 1
    source = Samples(Rows(samples.features), samples.labels)
    for c in (1e-5, 1e-2, 10.0, 1e4):
        outcome = HEADS["logreg"].fit(source, None, count, LogregOptions(c=(c,)))
        (row,) = outcome.path
        best = lowest(name, c, None)
        assert row["converged"]
        assert row["gap"] == row["excess"] / row["objective"] <= TOLERANCE
        assert objective(outcome.head, samples, c, None) - best <= row["excess"] + 3e-8 * best
        assert row["objective"] == pytest.approx(objective(outcome.head, samples, c, None), rel=1e-6)
        assert outcome.fitted == {fact: row[fact] for fact in outcome.fitted}


def test_a_streamed_fit_is_certified_without_a_pass_in_float64_over_all_rows(monkeypatch):
    samples = problem("repeated points")
    source = Samples(Rows(samples.features), samples.labels)
    passes = []
    solve = ExactLoss.solve
    monkeypatch.setattr(ExactLoss, "solve", lambda *arguments: passes.append(1) or solve(*arguments))
    path = HEADS["logreg"].fit(source, source, 3, LogregOptions(c=(1e-5, 1e-2, 1.0)), refit=False).path
    assert all(row["converged"] for row in path)
    assert passes == []
    closer = HEADS["logreg"].fit(source, None, 3, LogregOptions(c=(1.0,), tolerance=1e-10))
    assert closer.path[0]["gap"] <= 1e-10
    assert passes


def test_rounding_that_is_too_large_is_found_and_not_certified(monkeypatch):
    """A pass whose sums are off by more than the tolerance allows: float64 has the last word."""
    samples = problem("one class rare")
    source = Samples(Rows(samples.features), samples.labels)
    exactly = StreamedLoss.sums_of_block

    def roughly(self, weights, bias, block):
        loss, spread, by_weights, by_bias = exactly(self, weights, bias, block)
        return loss, spread, by_weights.astype(np.float16).astype(np.float32), by_bias

    monkeypatch.setattr(StreamedLoss, "sums_of_block", roughly)
    outcome = HEADS["logreg"].fit(source, None, 3, LogregOptions(c=(10.0,)))
    (row,) = outcome.path
    best = lowest("one class rare", 10.0, None)
    assert row["converged"]
    assert objective(outcome.head, samples, 10.0, None) - best <= row["excess"] + 3e-8 * best


def test_nearly_every_iteration_is_one_look_at_the_rows(monkeypatch):
    """Streamed rows are read once a look: a first step that is far too long would have them read twice."""
    generator = np.random.default_rng(0)
    labels = np.arange(1500) % 10
    mixing = generator.standard_normal((40, 40))
    features = (generator.standard_normal((10, 40))[labels] + generator.standard_normal((1500, 40))) @ mixing
    source = Samples(Rows(features.astype(np.float32)), labels)
    looks = []
    look = StreamedLoss.look
    monkeypatch.setattr(StreamedLoss, "look", lambda *arguments: looks.append(1) or look(*arguments))
    path = HEADS["logreg"].fit(source, source, 10, LogregOptions(full_path=True), refit=False).path
    assert len(looks) <= 1.25 * sum(row["iterations"] for row in path)
