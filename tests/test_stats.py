"""Intervals, metrics and comparisons, against hand-worked figures and scikit-learn's own."""

import numpy as np
import pytest
from sklearn import metrics as reference

from probe.errors import DataError
from probe.stats.calibration import fit_temperature, reliability, scaled
from probe.stats.classification import evaluate
from probe.stats.confusion import confident_mistakes, confusion, most_confused, per_class
from probe.stats.intervals import bootstrap, mean_interval, wilson
from probe.stats.paired import compare_predictions, compare_several, holm, mcnemar


def test_wilson_is_newcombes_worked_example():
    # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval():
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), len(values))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_mean_interval_of_one_draw_claims_nothing():
    assert mean_interval([0.5]) == (float("-inf"), float("inf"))
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def some_predictions(classes: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = np.r_[np.arange(classes), generator.integers(0, classes, n - classes)]
    logits = generator.standard_normal((n, classes)) + 1.5 * np.eye(classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_figures_agree_with_scikit_learn(classes):
    probabilities, labels = some_predictions(classes)
    found = evaluate(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    assert found.n == 300
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found.accuracy_low < found.accuracy < found.accuracy_high
    assert found.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert found.log_loss == pytest.approx(reference.log_loss(labels, probabilities))
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert found.auc == pytest.approx(reference.roc_auc_score(labels, scores, multi_class="ovr"))
    if classes > 5:
        assert found.top5 == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=5))
    else:
        assert found.top5 == 1.0


def test_absent_classes_count_in_no_per_class_figure():
    probabilities, labels = some_predictions(4)
    kept = labels != 2
    found = evaluate(probabilities[kept], labels[kept])
    assert found.absent_classes == (2,)
    predicted = probabilities[kept].argmax(axis=1)
    recalls = [(predicted[labels[kept] == c] == c).mean() for c in (0, 1, 3)]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert found.auc is not None
    assert evaluate(probabilities[labels == 1], labels[labels == 1]).auc is None


def test_calibration_error_by_hand():
    # Four rows said 0.9 and three are right: |0.9 - 0.75|; one row said 0.6 and is wrong.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    labels = np.array([0, 0, 0, 1, 1])
    assert evaluate(probabilities, labels).ece == pytest.approx((4 * 0.15 + 0.6) / 5)


def test_metrics_are_json():
    import json

    probabilities, labels = some_predictions(3)
    assert json.loads(json.dumps(evaluate(probabilities, labels).to_json()))["n"] == 300


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.full((3, 2), 0.5), np.array([0, 1])),
        (np.full((0, 2), 0.5), np.array([], dtype=int)),
        (np.full((2, 2), np.nan), np.array([0, 1])),
        (np.full((2, 2), 0.5), np.array([0, 2])),
        (np.full((2, 2), 0.5), np.array([0, -1])),
    ],
)
def test_what_cannot_be_scored_is_said(probabilities, labels):
    with pytest.raises(DataError):
        evaluate(probabilities, labels)


def test_mcnemar_by_hand():
    # 1 against 5 of 6 disagreements: 2 * (1 + 6) / 64.
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1.0


def test_a_clear_difference_is_shown_both_ways_round():
    a = np.r_[np.ones(90, bool), np.zeros(10, bool)]
    b = np.r_[np.ones(70, bool), np.zeros(30, bool)]
    forth, back = compare_predictions(a, b), compare_predictions(b, a)
    assert forth.difference == pytest.approx(0.2)
    assert 0.1 < forth.low < 0.2 < forth.high < 0.3
    assert (forth.only_a, forth.only_b, forth.n) == (20, 0, 100)
    assert forth.verdict.startswith("A is better than B by 20.0 points (95 % interval 1")
    assert back.verdict.startswith("A is better than B by") is False
    assert back.verdict.startswith("B is better than A by 20.0 points (95 % interval 1")
    assert forth.p_value == back.p_value == pytest.approx(2 * 0.5**20)


def test_an_even_difference_is_not_shown():
    a = np.arange(100) % 2 == 0
    found = compare_predictions(a, ~a, name_a="x", name_b="y")
    assert found.p_value == 1.0
    assert found.verdict.startswith("no difference shown between x and y: +0.0 points")


def test_the_paired_interval_is_the_row_bootstrap():
    generator = np.random.default_rng(2)
    a, b = generator.random(500) < 0.8, generator.random(500) < 0.75
    gap = a.astype(float) - b
    low, high = bootstrap(lambda rows: float(gap[rows].mean()), 500)
    found = compare_predictions(a, b)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)


def test_different_rows_are_refused():
    with pytest.raises(DataError, match="row by row"):
        compare_predictions(np.ones(3, bool), np.ones(4, bool))


def test_holm_by_hand():
    # 0.01·4, then 0.02·3, then the larger of 0.03·2 and what came before, then 0.9.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_several_runs_are_compared_pair_by_pair():
    generator = np.random.default_rng(3)
    base = generator.random(400)
    found = compare_several({"good": base < 0.9, "same": base[::-1] < 0.9, "bad": base < 0.7})
    pairs = {(r.comparison.name_a, r.comparison.name_b): r for r in found}
    assert list(pairs) == [("good", "same"), ("good", "bad"), ("same", "bad")]
    assert pairs["good", "bad"].shown
    assert not pairs["good", "same"].shown
    assert all(r.p_adjusted >= r.comparison.p_value for r in found)


@pytest.mark.parametrize("true", [0.5, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    generator = np.random.default_rng(4)
    logits = 3 * generator.standard_normal((20_000, 5))
    chances = np.exp(logits / true)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < generator.random(20_000)[:, None]).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)
    plain = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scaled(plain, true), chances, atol=1e-6)


def test_reliability_bins_hold_every_row_once():
    probabilities, labels = some_predictions(3)
    bins = reliability(probabilities, labels)
    assert sum(b.n for b in bins) == 300
    assert all(b.start < b.confidence <= b.stop for b in bins)
    gap = sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / 300
    assert gap == pytest.approx(evaluate(probabilities, labels).ece)


def test_confusion_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 1, 1, 1, 0, 1])
    matrix = confusion(predicted, labels, 4)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(labels, predicted, labels=range(4)))
    pairs = most_confused(matrix)
    assert [(p.label, p.predicted, p.count) for p in pairs] == [(0, 1, 2), (1, 0, 1), (2, 1, 1)]
    assert pairs[0].share == pytest.approx(2 / 3)
    rows = per_class(matrix)
    assert (rows[0].recall, rows[0].precision) == pytest.approx((1 / 3, 1 / 2))
    assert rows[1].f1 == pytest.approx(2 * 1 / (2 + 4))
    assert (rows[3].recall, rows[3].precision, rows[3].f1, rows[3].n) == (None, None, None, 0)


def test_the_most_confident_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.99, 0.01], [0.8, 0.2]])
    found = confident_mistakes(probabilities, np.array([1, 1, 0, 1]))
    assert [(m.row, m.label, m.predicted) for m in found] == [(3, 1, 0), (0, 1, 0)]
    assert found[0].probability == pytest.approx(0.8)
