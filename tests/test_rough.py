"""Looks at streamed rows in bfloat16 lead where looks in float32 lead, which state where that is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.special import logsumexp

from probe.heads import HEADS
from probe.heads.head import Samples
from probe.heads.logreg import LogregHead, LogregOptions
from probe.heads.rotation import Rotation
from probe.heads.softmax_loss import StreamedLoss
from probe.heads.softmax_path import TOLERANCE
from probe.heads.softmax_products import WORTHWHILE, Bfloat16Products, BlasProducts, is_bfloat16_faster
from probe.heads.softmax_rough import RoughLoss

CLASSES, WIDTH, ROWS = 12, 40, 600


class Rows:
    """Rows that are not an array, as a store's are not."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.array[rows]


@cache
def samples() -> Samples:
    """Overlapping classes behind a ReLU, with a column that is constant and one far from zero."""
    generator = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    centres = generator.standard_normal((CLASSES, WIDTH))
    features = np.maximum(centres[labels] + 2 * generator.standard_normal((ROWS, WIDTH)), 0)
    features[:, 3], features[:, 5] = 7, 1000 + features[:, 5]
    return Samples(Rows(features.astype(np.float32)), labels)


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every streamed problem be worth it, on any machine."""
    monkeypatch.setattr("probe.heads.softmax_rough.is_bfloat16_faster", lambda width, columns: True)


def rough_loss(weights: np.ndarray | None = None) -> RoughLoss:
    rotation = Rotation.of(samples().features)
    return RoughLoss(StreamedLoss(samples().features, rotation, samples().labels, CLASSES, weights))


def objective(head: LogregHead, c: float) -> float:
    """Of these very weights, in float64, divided by C·N."""
    features = samples().features[slice(None)].astype(np.float64)
    standard = (features - head.mean) / head.scale.astype(np.float64)
    logits = standard @ head.weights.astype(np.float64) + head.bias
    true = logits[np.arange(ROWS), samples().labels]
    penalty = float((head.weights.astype(np.float64) ** 2).sum()) / (2 * c * ROWS)
    return float((logsumexp(logits, axis=1) - true).mean()) + penalty


@pytest.mark.parametrize(("pieces", "bound"), [(1, 2.0**-8), (2, 2.0**-15)])
def test_products_in_bfloat16_are_as_exact_as_their_pieces(pieces: int, bound: float) -> None:
    generator = np.random.default_rng(1)
    # What bfloat16 holds exactly, so that the rounding of the weights is all there is.
    inputs = generator.integers(-100, 100, (50, WIDTH)).astype(np.float32)
    bits = (inputs.view(np.uint32) >> 16).astype(np.uint16)
    weights = generator.standard_normal((WIDTH, CLASSES), dtype=np.float32)
    products = Bfloat16Products(WIDTH, CLASSES, threads=2, pieces=pieces)
    for rows in (50, 7):
        out = np.empty((rows, CLASSES), np.float32)
        products.logits(bits[:rows], weights, out)
        allowed = bound * (np.abs(inputs[:rows]) @ np.abs(weights))
        assert (np.abs(out - inputs[:rows] @ weights) <= allowed).all()
    residual = generator.integers(-5, 5, (50, CLASSES)).astype(np.float32)
    assert np.array_equal(products.by_weights(residual, bits), residual.T @ inputs)


def test_where_a_point_was_looked_at_closely_rough_looks_are_right_to_first_order() -> None:
    generator = np.random.default_rng(2)
    weights = generator.random((ROWS, 2)).astype(np.float32)
    loss = rough_loss(weights)
    shape = (len(loss.variance), 2, CLASSES)
    here = (0.1 * generator.standard_normal(shape)).astype(np.float32)
    way = (1e-5 * generator.standard_normal(shape)).astype(np.float32)
    steps = np.ones(2)

    def error(look, there):
        """Of the gradient, relative, and of the loss."""
        exact = loss.close.look(there, np.zeros_like(there), steps)
        gradient = np.linalg.norm(look.gradient - exact.gradient) / np.linalg.norm(exact.gradient)
        return gradient, np.abs(look.loss - exact.loss).max()

    before = error(loss.look(here, way, steps), here + way)
    close = loss.look_closely(here)
    assert close.sums is not None
    assert error(close, here) == (0, 0)
    after = loss.look(here, way, steps)
    assert after.sums is None
    assert error(after, here + way)[0] < 0.25 * before[0]
    at_rest = error(loss.look(here, np.zeros_like(here), steps), here)
    assert at_rest[0] < 1e-6
    assert at_rest[1] < 1e-9


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
@pytest.mark.usefixtures("rough")
def test_a_fit_by_rough_looks_is_certified_as_any_other(c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = HEADS["logreg"].fit(samples(), None, CLASSES, LogregOptions(c=(c,)))
    monkeypatch.setattr("probe.heads.softmax_rough.is_bfloat16_faster", lambda width, columns: False)
    exact = HEADS["logreg"].fit(samples(), None, CLASSES, LogregOptions(c=(c,), tolerance=1e-9))
    (row,), (best,) = found.path, exact.path
    assert row["converged"]
    assert row["gap"] <= TOLERANCE
    lowest = objective(exact.head, c)
    assert best["gap"] <= 1e-9
    assert objective(found.head, c) - lowest + 3e-8 * lowest >= 0
    assert objective(found.head, c) - lowest <= row["excess"] + 3e-8 * lowest
    assert row["objective"] == pytest.approx(objective(found.head, c), rel=1e-6)


@pytest.mark.usefixtures("rough")
def test_most_looks_are_rough_and_each_value_ends_with_a_close_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for owner, name in ((RoughLoss, "look"), (RoughLoss, "look_closely")):
        method = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *given, name=name, method=method: seen.append(name) or method(*given)
        )
    values = (1e-4, 2e-4, 5e-4, 1e-3)
    path = HEADS["logreg"].fit(samples(), samples(), CLASSES, LogregOptions(c=values), refit=False).path
    assert all(row["converged"] for row in path)
    assert seen.count("look_closely") >= len(values)
    assert seen.count("look") > seen.count("look_closely")


@pytest.mark.usefixtures("rough")
def test_folds_by_rough_looks_score_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    options = LogregOptions(c=(1e-3, 1e-2), cv=3)
    found = HEADS["logreg"].fit(samples(), None, CLASSES, options)
    monkeypatch.setattr("probe.heads.softmax_rough.is_bfloat16_faster", lambda width, columns: False)
    exact = HEADS["logreg"].fit(samples(), None, CLASSES, options)
    for a, b in zip(found.path, exact.path, strict=True):
        assert a["converged"]
        assert a["cv_log_loss"] == pytest.approx(b["cv_log_loss"], rel=1e-2)
        assert a["cv_accuracy"] == pytest.approx(b["cv_accuracy"], abs=0.01)


def test_bfloat16_is_for_cpus_that_have_it_with_openvino_and_products_worth_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = "probe.heads.softmax_products."
    monkeypatch.setattr(where + "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert is_bfloat16_faster(WORTHWHILE, 1)
    assert not is_bfloat16_faster(WORTHWHILE - 1, 1)
    monkeypatch.setattr(where + "has_module", lambda name: False)
    assert not is_bfloat16_faster(WORTHWHILE, 1)
    monkeypatch.setattr(where + "has_module", lambda name: True)
    monkeypatch.setattr(where + "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert not is_bfloat16_faster(WORTHWHILE, 1)


def test_float32_is_what_a_loss_multiplies_in_by_itself() -> None:
    loss = rough_loss().close
    assert isinstance(loss.products, BlasProducts)
    assert loss.by(BlasProducts(), loss.rows, 1 << 20) is not loss
