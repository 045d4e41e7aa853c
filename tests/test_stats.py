"""Intervals, metrics and comparisons, against hand-worked figures and scikit-learn's own."""

import numpy as np
import pytest
from sklearn import metrics as reference

from probe.errors import DataError
from probe.stats.calibration import fit_temperature, reliability, scaled
from probe.stats.classification import evaluate, macro_f1, roc_auc, top_k_accuracy
from probe.stats.confusion import confident_mistakes, confusion, most_confused, per_class
from probe.stats.intervals import mean_interval, mean_share_interval, wilson


def test_wilson_is_newcombes_worked_example():
    # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_mean_interval_of_one_draw_claims_nothing():
    assert mean_interval([0.5]) == (float("-inf"), float("inf"))
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_the_mean_of_shares_has_an_interval_of_shares():
    # Two few-shot draws: t alone says -0.47 to 1.91.
    assert mean_share_interval([0.625, 0.8125]) == (0.0, 1.0)
    assert mean_share_interval([0.5]) == (0.0, 1.0)
    inside = [0.5, 0.52, 0.54]
    assert mean_share_interval(inside) == mean_interval(inside)


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


# --- thousands of classes ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [50, 1 << 22])
@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_scikit_learns_class_by_class_whatever_the_ties_and_the_absent_classes(
    ties, block, monkeypatch
):
    monkeypatch.setattr("probe.stats.classification.BLOCK_VALUES", block)
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(12), 90).astype(np.float32)
    if ties:
        probabilities = np.round(probabilities, 1)
    labels = generator.choice([0, 2, 3, 7, 8, 11], 90)
    expected = np.mean([reference.roc_auc_score(labels == c, probabilities[:, c]) for c in np.unique(labels)])
    assert roc_auc(probabilities, labels) == pytest.approx(expected, abs=1e-9)
    two = probabilities[:, :2]
    assert roc_auc(two, labels % 2) == pytest.approx(reference.roc_auc_score(labels % 2, two[:, 1]), abs=1e-9)
    assert roc_auc(probabilities, np.full(90, 3)) is None
    assert top_k_accuracy(probabilities, labels, 5) == pytest.approx(
        np.mean(
            [
                np.argsort(-row, kind="stable")[:5].tolist().count(y)
                for row, y in zip(probabilities, labels, strict=True)
            ]
        )
    )


def test_every_figure_of_thousands_of_classes_is_computed_without_a_look_at_each_pair():
    """3,000 classes, a row each and one more: a table of all pairs alone would be 72 MB."""
    import tracemalloc

    generator = np.random.default_rng(0)
    labels = np.arange(3001) % 3000
    predicted = np.where(generator.random(3001) < 0.5, labels, (labels + 1) % 3000)
    tracemalloc.start()
    matrix = confusion(predicted, labels, 3000)
    rows, pairs = per_class(matrix), most_confused(matrix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert sum(row.n for row in rows) == 3001
    assert len(rows) == 3000
    assert all(pair.predicted == (pair.label + 1) % 3000 for pair in pairs)
    assert np.trace(np.asarray(matrix)) == (predicted == labels).sum()


def test_macro_f1_counts_the_classes_that_occur_or_are_predicted():
    labels, predicted = np.array([0, 0, 3, 3, 5]), np.array([0, 3, 3, 1, 0])
    expected = reference.f1_score(labels, predicted, average="macro", zero_division=0.0)
    assert macro_f1(predicted, labels, 7) == pytest.approx(expected)
