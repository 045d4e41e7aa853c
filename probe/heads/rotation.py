"""Standardised features in their principal axes.

A rotation changes neither the fit nor an L2 penalty, but it makes the Hessian of a linear model nearly
diagonal, and with fewer rows than columns the solution lies in the span of the rows, so R = min(N, D)
columns are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from probe.heads.head import BLOCK, Features, Floats, blocks
from probe.heads.standardise import moments, standardised

RANK_TOLERANCE = 1e-10
"""Axes with less than this share of the largest variance are left out: float32 does not resolve them."""


@dataclass(frozen=True)
class Rotation:
    """mean (D,), scale (D,), orthonormal axes (D, R), variance along each (R,) falling; all float32."""

    mean: Floats
    scale: Floats
    axes: Floats
    variance: Floats

    @classmethod
    def of(cls, features: Features) -> Self:
        """Statistics and axes of the training features (N, D)."""
        mean, scale = moments(features)
        rows, width = features.shape
        find = _row_axes if rows < width else _column_axes
        return cls(mean, scale, *find(features, mean, scale))

    def inputs(self, features: Features) -> Floats:
        """(N, D) features -> (N, R + 1) standardised, rotated, the last column all ones for the intercept."""
        rotated = np.empty((features.shape[0], self.axes.shape[1] + 1), dtype=np.float32)
        rotated[:, -1] = 1
        for rows, block in blocks(features):
            np.matmul(standardised(block, self.mean, self.scale), self.axes, out=rotated[rows, :-1])
        return rotated

    def back(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """(R + 1, C) coefficients -> weights (D, C) of the standardised features and bias (C,)."""
        return self.axes @ coefficients[:-1], np.ascontiguousarray(coefficients[-1])

    def along(self, weights: Floats, bias: Floats, mean: Floats, scale: Floats) -> Floats:
        """Weights (D, C) and bias (C,) of features standardised by other statistics -> (R + 1, C), with the
        same logits as far as these axes reach and no column has become constant."""
        weights = weights / scale[:, None]
        moved = bias + (self.mean - mean) @ weights
        used = np.where(np.isinf(self.scale), np.float32(0), self.scale)
        return np.vstack([self.axes.T @ (weights * used[:, None]), moved])


def _column_axes(features: Features, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Eigenvectors (D, D) of the covariance. Any orthonormal axes are exact, so float32 products do."""
    rows, width = features.shape
    gram = np.zeros((width, width))
    for _, block in blocks(features):
        standard = standardised(block, mean, scale)
        gram += standard.T @ standard
    variances, vectors = np.linalg.eigh((gram / rows).astype(np.float32))
    return np.ascontiguousarray(vectors[:, ::-1]), np.maximum(variances[::-1], 0)


def _row_axes(features: Features, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Axes (D, R) that span the rows. They are quotients of small singular values, hence float64."""
    rows, width = features.shape
    standard = standardised(features[0:rows], mean, scale)
    gram = np.zeros((rows, rows))
    for start in range(0, width, BLOCK):
        block = standard[:, start : start + BLOCK].astype(np.float64)
        gram += block @ block.T
    variances, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(variances > RANK_TOLERANCE * max(variances[-1], 1e-30))[::-1]
    directions = (vectors[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    return np.ascontiguousarray(standard.T @ directions), (variances[kept] / rows).astype(np.float32)
