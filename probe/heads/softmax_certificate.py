"""A bound on the distance to the minimum from a pass in float32, with its rounding measured.

|∇F|²/(2λ) bounds F − F* for the exact gradient (`probe.heads.softmax_exact`). The gradient of a streamed pass
is a sum over blocks, each rounded to float32. For some blocks, at even distances, the same sums are formed in
float64: the largest difference found, times the number of blocks, is taken for the error of the whole. Errors
of blocks would all have to point the same way to add up to that, and there is a factor for blocks that were
not looked at. A pass over all rows in float64, which costs twice a pass in float32, is then only needed where
the bound is too wide: at large C, or where a tolerance is asked for that float32 does not reach.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats
from probe.heads.softmax_exact import ExactLoss, Solved
from probe.heads.softmax_kernel import Float64s, in_order
from probe.heads.softmax_loss import StreamedLoss, Sums

CHECKED = 8
"""Blocks that are looked at in float64."""
UNSEEN = 2.0
"""What the others may be worse by than the worst of those."""


def certified(
    exact: ExactLoss, loss: StreamedLoss, sums: Sums, coefficients: Floats, c: float, tolerance: float
) -> Solved | None:
    """The coefficients (R + 1, C) that the sums of one problem are of; None where they are not shown to be
    within `tolerance` of the minimum."""
    penalty = exact.penalty(c)
    weights = sums.weights.astype(np.float64)
    size = float(np.linalg.norm(sums.by_weights + penalty * weights.T))
    objective = float(sums.loss[0]) + 0.5 * penalty * float((weights**2).sum())

    def bound(error: float, by_bias: Float64s | float) -> float:
        intercept = (np.abs(sums.by_bias) + by_bias) ** 2 / np.maximum(sums.spread[0], 1e-300)
        return (size + error) ** 2 / (2 * penalty) + float(intercept.sum())

    # Rounding only widens it: where it is too wide without, nothing has to be measured.
    if bound(0.0, 0.0) > tolerance * objective:
        return None
    excess = bound(*_rounding(exact, loss, sums))
    if excess > tolerance * objective:
        return None
    return Solved(
        sums.weights, sums.bias, coefficients, objective, float(sums.loss[0]), excess, converged=True
    )


def _rounding(exact: ExactLoss, loss: StreamedLoss, sums: Sums) -> tuple[float, Float64s]:
    """How far off the derivatives by the weights (their norm) and by the bias (C,) may be."""
    from threadpoolctl import threadpool_limits

    slices = loss.slices(1)
    places = np.unique(np.linspace(0, len(slices) - 1, CHECKED).round().astype(int))
    chosen = [slices[place] for place in places.tolist()]
    with threadpool_limits(limits=1 if loss.threads > 1 else None, user_api="blas"):
        found = list(in_order(partial(_differences, exact, loss, sums), chosen, loss.threads))
    by_weights = [error for error, _ in found]
    by_bias = np.array([error for _, error in found])
    if len(chosen) == len(slices):
        return float(sum(by_weights)), by_bias.sum(axis=0)
    many = UNSEEN * len(slices)
    return many * max(by_weights), many * by_bias.max(axis=0)


def _differences(
    exact: ExactLoss, loss: StreamedLoss, sums: Sums, rows: slice
) -> tuple[float, NDArray[np.float64]]:
    """What is wrong with a block's derivative by the weights (a norm), and with that by the bias (C,)."""
    values = np.asarray(loss.features[rows], dtype=np.float32)
    _, _, rough, rough_bias = loss.sums_of_block(sums.weights, sums.bias, (rows, values))
    _, _, fine, fine_bias = exact.sums_of_block(sums.weights, sums.bias, (rows, values))
    return float(np.linalg.norm(rough.T - fine)), np.abs(rough_bias - fine_bias)
