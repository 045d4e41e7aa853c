"""Heads against float64 references where float32 alone goes wrong: offsets, odd scales, ties, few rows."""

import functools

import numpy as np
import pytest

from probe.heads import HEADS
from probe.heads.attentive import AttentiveOptions
from probe.heads.conv import ConvOptions
from probe.heads.dense import DenseOptions
from probe.heads.head import Samples
from probe.heads.knn import KnnOptions
from probe.heads.neighbours import NeighbourSearch
from probe.heads.ridge import RidgeOptions, RidgePath
from probe.heads.standardise import moments, standardised

CLASSES = 3


class Rows:
    """Rows that are not an array, as a store's are not."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, rows):
        return self.array[rows]


def overlapping(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Float64 features (N, D) of classes that overlap, and labels (N,)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES
    centres = np.random.default_rng(99).standard_normal((CLASSES, width))
    return 0.7 * centres[labels] + generator.standard_normal((rows, width)), labels


# --- nearest neighbours -----------------------------------------------------------------------------


def brute_force(train: np.ndarray, query: np.ndarray, k: int, metric: str) -> np.ndarray:
    """By (distance, row) in float64; cosine in more digits, as it has to know equal angles from rounding."""
    if metric == "euclidean":
        train, query = train.astype(np.float64), query.astype(np.float64)
        distances = np.array([((train - row) ** 2).sum(axis=1) for row in query])
        return np.argsort(distances, axis=1, kind="stable")[:, :k]
    train, query = (_unit(part.astype(np.longdouble)) for part in (train, query))
    squares = np.array([((train - row) ** 2).sum(axis=1) for row in query])
    squares[:, ~train.any(axis=1)] = 2
    squares[~query.any(axis=1)] = 2
    return np.argsort(np.round(np.sqrt(squares), 16), axis=1, kind="stable")[:, :k]


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1)


def odd_features() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    plain = generator.standard_normal((460, 24))
    repeated = plain[generator.integers(0, 60, 460)]
    one_column, wide_column, outlier, zeros = (plain.copy() for _ in range(4))
    one_column[:, 5] = 1e4
    wide_column[:, 5] *= 1e5
    outlier[3] = 1e9
    zeros[::9] = 0
    return {
        "plain": plain,
        "a mean of 1000 spreads": plain + 1000,
        "a mean of a million spreads": plain + 1e6,
        "one constant column": one_column,
        "one wide column": wide_column,
        "one far row": outlier,
        "repeated rows": repeated,
        "few whole numbers": generator.integers(0, 3, (460, 4)),
        "whole numbers": generator.integers(0, 17, (460, 24)),
        "zero rows": zeros,
        "all the same": np.full((460, 7), 3.0),
        "far clusters": plain + 1e5 * generator.integers(0, 3, (460, 1)),
        "tiny": plain * 1e-20,
        "tinier": plain * 1e-30,
        "large": plain * 1e15,
        "larger": plain * 1e30,
    }


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", list(odd_features()))
def test_neighbours_are_those_of_float64_with_ties_by_row(name, metric):
    features = odd_features()[name].astype(np.float32)
    train, query = features[:400], features[400:]
    expected = brute_force(train, query, 60, metric)
    search = NeighbourSearch(train, metric)
    np.testing.assert_array_equal(search.find(query, 60), expected)
    for k in (1, 3, 10):
        np.testing.assert_array_equal(search.find(query, k), expected[:, :k])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_do_not_depend_on_block_sizes(metric, monkeypatch):
    features = odd_features()["few whole numbers"].astype(np.float32)
    train, query = features[:400], features[400:]
    whole = NeighbourSearch(train, metric).find(query, 20)
    for name, size in {
        "QUERY_BLOCK": 7,
        "POINT_BLOCK": 31,
        "SPARE": 1,
        "HARD_VALUES": 900,
        "PAIR_VALUES": 50,
    }.items():
        monkeypatch.setattr(f"probe.heads.neighbours.{name}", size)
    monkeypatch.setattr("probe.heads.neighbours.CENTRED_ROWS", 13)
    np.testing.assert_array_equal(NeighbourSearch(train, metric).find(query, 20), whole)


def test_a_multiple_of_a_row_is_as_near_by_cosine_as_the_row():
    whole = np.random.default_rng(2).integers(-4, 5, (50, 9)).astype(np.float32)
    train = np.concatenate([whole * factor for factor in (3, 1, 7)])
    found = NeighbourSearch(train, "cosine").find(whole, 3)
    np.testing.assert_array_equal(found, np.arange(50)[:, None] + [0, 50, 100])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_k_scores_the_same_whichever_others_are_tried(metric):
    generator = np.random.default_rng(0)
    features = generator.integers(0, 3, (300, 4)).astype(np.float32)
    labels = generator.integers(0, 3, 300)
    train, val = Samples(features[:200], labels[:200]), Samples(features[200:], labels[200:])
    alone = HEADS["knn"].fit(train, val, 3, KnnOptions(k=(3,), metric=metric)).path[0]
    among = HEADS["knn"].fit(train, val, 3, KnnOptions(k=(1, 3, 50), metric=metric)).path[1]
    assert alone == among
    streamed = [Samples(Rows(part.features), part.labels) for part in (train, val)]
    assert HEADS["knn"].fit(*streamed, 3, KnnOptions(k=(3,), metric=metric)).path[0] == alone


def test_knn_with_a_large_constant_column_is_knn_without_it():
    features, labels = overlapping(400, 10)
    with_column = np.hstack([features, np.full((400, 1), 1e4)])
    found = []
    for values in (features, with_column):
        train, val = (
            Samples(values[part].astype(np.float32), labels[part]) for part in (slice(250), slice(250, 400))
        )
        found.append(HEADS["knn"].fit(train, val, CLASSES, KnnOptions(metric="euclidean")))
    assert found[0].path == found[1].path
    assert found[0].notes == ()
    assert found[1].notes == ("1 of 11 feature column is constant in the training rows",)


def test_a_head_of_unit_vectors_saved_by_an_earlier_version_predicts_the_same():
    features, labels = overlapping(200, 10)
    samples = Samples(features.astype(np.float32), labels)
    head = HEADS["knn"].fit(samples, None, CLASSES, KnnOptions(k=(5,))).head
    unit = head.points / np.linalg.norm(head.points, axis=1)[:, None]
    older = type(head).from_arrays({"points": unit, "labels": head.labels}, head.meta())
    query = overlapping(90, 10, seed=5)[0].astype(np.float32)
    np.testing.assert_array_equal(older.predict_proba(query), head.predict_proba(query))


# --- ridge ------------------------------------------------------------------------------------------


def refitted_without_each_row(features: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """Values (N, C) by a fit without each row, in float64; the standardisation is that of all rows."""
    values = features.astype(np.float64)
    spread = values.std(axis=0)
    spread[spread < 1e-9] = np.inf
    standard = (values - values.mean(axis=0)) / spread
    targets = 2.0 * np.eye(CLASSES)[labels] - 1
    found = []
    for row in range(len(standard)):
        kept = np.arange(len(standard)) != row
        centre, offset = standard[kept].mean(axis=0), targets[kept].mean(axis=0)
        rows = standard[kept] - centre
        inner = rows @ rows.T + alpha * np.eye(len(rows))
        weights = rows.T @ np.linalg.solve(inner, targets[kept] - offset)
        found.append((standard[row] - centre) @ weights + offset)
    return np.array(found)


@pytest.mark.parametrize("kind", ["plain", "constant columns", "large mean", "correlated"])
@pytest.mark.parametrize(("rows", "width"), [(36, 120), (36, 36), (37, 36), (90, 12)])
def test_leave_one_out_is_a_refit_without_the_row(rows, width, kind):
    features, labels = overlapping(rows, width)
    if kind == "constant columns":
        features[:, ::3] = 5
    if kind == "large mean":
        features += 1000
    if kind == "correlated":
        mixing = np.random.default_rng(3).standard_normal((width, 4))
        features = features @ mixing @ mixing.T + 0.01 * features
    features = features.astype(np.float32)
    path = RidgePath(Samples(features, labels), CLASSES)
    targets = 2.0 * np.eye(CLASSES)[labels] - 1
    for alpha in (1e-4, 1e-2, 1.0, 1e4):
        expected = refitted_without_each_row(features, labels, alpha)
        np.testing.assert_allclose(path.leave_one_out_values(alpha), expected, rtol=1e-4, atol=1e-4)
        score = path.leave_one_out(np.array([1e-3, alpha]))
        assert score.accuracy[1] == (expected.argmax(axis=1) == labels).mean()
        assert score.error[1] == pytest.approx(((expected - targets) ** 2).mean(), rel=1e-4)


def test_ridge_in_blocks_and_streamed_is_ridge_at_once(monkeypatch):
    features, labels = overlapping(150, 20)
    samples = Samples(features.astype(np.float32), labels)
    alphas = RidgeOptions(alpha=(1e-3, 1.0, 1e3))
    whole = HEADS["ridge"].fit(samples, None, CLASSES, alphas)
    monkeypatch.setattr("probe.heads.ridge.BLOCK_ELEMENTS", 70)
    monkeypatch.setattr("probe.heads.ridge.MOST_ROWS", 64)
    monkeypatch.setattr("probe.heads.ridge.MOST_COLUMNS", 7)
    monkeypatch.setattr("probe.heads.head.BLOCK", 41)
    parts = HEADS["ridge"].fit(Samples(Rows(samples.features), labels), None, CLASSES, alphas)
    for a, b in zip(whole.path, parts.path, strict=True):
        assert a == pytest.approx(b)
    few = Samples(samples.features[:15], labels[:15])
    weights = RidgePath(few, CLASSES).head(0.1, 1.0).weights
    monkeypatch.undo()
    np.testing.assert_allclose(RidgePath(few, CLASSES).head(0.1, 1.0).weights, weights, atol=1e-6)


# --- centroid, and columns that say nothing ---------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_constant_columns_change_no_centroid_probability(streamed):
    features, labels = overlapping(120, 8)
    padded = np.hstack([features, np.full((120, 30), 7.0), np.zeros((120, 2)), np.full((120, 1), 1e9)])
    plain, more = (Samples(values.astype(np.float32), labels) for values in (features, padded))
    expected = HEADS["centroid"].fit(plain, None, CLASSES)
    source = Samples(Rows(more.features), labels) if streamed else more
    found = HEADS["centroid"].fit(source, None, CLASSES)
    np.testing.assert_allclose(
        found.head.predict_proba(more.features), expected.head.predict_proba(plain.features), atol=1e-6
    )
    assert expected.notes == ()
    assert found.notes == ("33 of 41 feature columns are constant in the training rows and not used",)


def test_centroid_is_the_spherical_gaussian_of_the_varying_columns():
    features, labels = overlapping(150, 6)
    padded = np.hstack([features + 1000, np.full((150, 6), 3.0)]).astype(np.float32)
    head = HEADS["centroid"].fit(Samples(padded, labels), None, CLASSES).head
    values = padded[:, :6].astype(np.float64)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    means = np.array([standard[labels == label].mean(axis=0) for label in range(CLASSES)])
    variance = ((standard - means[labels]) ** 2).mean()
    logits = -((standard[:, None] - means) ** 2).sum(axis=2) / (2 * variance)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(padded), expected, atol=1e-4)


def test_a_constant_column_stays_out_whatever_it_is_in_new_rows():
    """Rounding around a mean of 1e10 is a thousand units large, and no feature."""
    features, labels = overlapping(200, 8)
    noisy = 1e10 * (1 + 1e-8 * np.random.default_rng(0).standard_normal((200, 3)))
    padded = np.hstack([features, noisy]).astype(np.float32)
    for name in ("logreg", "ridge", "centroid"):
        options = {"logreg": {"c": (0.1,)}, "ridge": {"alpha": (1.0,)}, "centroid": {}}[name]
        kind = type(_options(name))(**options)
        fits = [
            HEADS[name].fit(Samples(values.astype(np.float32), labels), None, CLASSES, kind).head
            for values in (features, padded)
        ]
        moved = padded.copy()
        moved[:, 8:] = -5e10
        np.testing.assert_allclose(
            fits[1].predict_proba(moved), fits[0].predict_proba(features.astype(np.float32)), atol=1e-4
        )


def _options(name: str):
    from probe.registry import load_object

    return load_object(HEADS[name].options)()


# --- odd scales -------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("factor", [1e-38, 1e-30, 1e-20, 1e15, 1e30, 5e37])
@pytest.mark.parametrize("name", ["logreg", "ridge", "knn", "centroid"])
def test_the_unit_of_the_features_changes_nothing(name, factor, streamed):
    features, labels = overlapping(300, 8)
    parts = []
    for scale in (1.0, factor):
        values = (features * scale).astype(np.float32)
        wrap = Rows if streamed and scale != 1.0 else np.asarray
        parts.append([Samples(wrap(values[rows]), labels[rows]) for rows in (slice(200), slice(200, 300))])
    plain, scaled = (HEADS[name].fit(*some, CLASSES, refit=False) for some in parts)
    assert plain.chosen.get("c") == scaled.chosen.get("c")
    assert plain.chosen.get("k") == scaled.chosen.get("k")
    np.testing.assert_allclose(scaled.val_probabilities, plain.val_probabilities, atol=0.02)
    assert scaled.notes == plain.notes


@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize("name", ["dense", "conv", "attentive"])
def test_the_unit_of_the_features_changes_no_training(name, factor):
    np.testing.assert_allclose(trained_on(name, factor), trained_on(name, 1.0), atol=0.01)


@functools.cache
def trained_on(name, scale):
    """What a head says of validation rows after a training on features in this unit."""
    features, labels = overlapping(240, 8)
    options = {
        "dense": DenseOptions(hidden=(16,), epochs=3, batch_size=32, learning_rate=0.01),
        "conv": ConvOptions(network="C8k1s R F", epochs=3, batch_size=32, learning_rate=0.01),
        "attentive": AttentiveOptions(queries=2, units=16, epochs=3, batch_size=32, learning_rate=0.01),
    }[name]
    values = (features * scale).astype(np.float32)
    train, val = (
        Samples(Rows(values[rows]), labels[rows], (2, 2, 2)) for rows in (slice(160), slice(160, 240))
    )
    return HEADS[name].fit(train, val, CLASSES, options).val_probabilities


def test_training_that_ends_at_its_last_epoch_says_so():
    features, labels = overlapping(120, 8)
    values = np.hstack([features, np.ones((120, 2))]).astype(np.float32)
    train, val = (Samples(values[rows], labels[rows]) for rows in (slice(80), slice(80, 120)))
    cut = HEADS["dense"].fit(
        train, val, CLASSES, DenseOptions(hidden=(), epochs=2, learning_rate=1e-4, seeds=2)
    )
    assert [row["stopped_early"] for row in cut.path] == [False, False]
    assert cut.notes[0] == "2 of 10 feature columns are constant in the training rows and not used"
    assert "training of 2 of 2 seeds ended at the limit of 2 epochs" in cut.notes[1]
    ended = HEADS["dense"].fit(
        train, val, CLASSES, DenseOptions(hidden=(8,), epochs=200, patience=1, learning_rate=0.1)
    )
    assert ended.path[0]["stopped_early"]
    assert not any("limit" in note for note in ended.notes)


def test_moments_are_those_of_float64():
    generator = np.random.default_rng(0)
    values = (
        generator.standard_normal((5000, 6)) * [1e-35, 1e-20, 1, 1e3, 1e25, 1e37] + [0, 0, 1e3, 1e3, 0, 2e38]
    ).astype(np.float32)
    mean, scale = moments(values)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale, exact.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(standardised(values, mean, scale).std(axis=0), 1, rtol=1e-3)
