"""Standardised features in their principal axes.

A rotation changes neither the fit nor an L2 penalty, but it makes the Hessian of a linear model nearly
diagonal, and with fewer rows than columns the solution lies in the span of the rows, so R = min(N, D)
columns are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from probe.heads.head import Floats
from probe.heads.standardise import moments

BLOCK = 8192
RANK_TOLERANCE = 1e-10
"""Axes with less than this share of the largest variance are left out: float32 does not resolve them."""


@dataclass(frozen=True)
class Rotation:
    """mean (D,), scale (D,), orthonormal axes (D, R), all float32."""

    mean: Floats
    scale: Floats
    axes: Floats

    @classmethod
    def of(cls, features: Floats) -> Self:
        """Statistics and axes of the training features (N, D)."""
        mean, scale = moments(features)
        rows, width = features.shape
        return cls(
            mean, scale, _row_axes(features, mean, scale) if rows < width else _axes(features, mean, scale)
        )

    def inputs(self, features: Floats) -> Floats:
        """(N, D) features -> (N, R + 1) standardised, rotated, the last column all ones for the intercept."""
        rotated = np.ones((len(features), self.axes.shape[1] + 1), dtype=np.float32)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            rotated[rows, :-1] = standardised(features[rows], self.mean, self.scale) @ self.axes
        return rotated

    def back(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """(R + 1, C) coefficients -> weights (D, C) of the standardised features and bias (C,)."""
        return self.axes @ coefficients[:-1], np.ascontiguousarray(coefficients[-1])


def standardised(features: Floats, mean: Floats, scale: Floats) -> Floats:
    result: Floats = (np.asarray(features, dtype=np.float32) - mean) / scale
    return result


def _axes(features: Floats, mean: Floats, scale: Floats) -> Floats:
    """Eigenvectors (D, D) of the covariance. Any orthonormal axes are exact, so float32 products do."""
    width = features.shape[1]
    gram = np.zeros((width, width))
    for start in range(0, len(features), BLOCK):
        block = standardised(features[start : start + BLOCK], mean, scale)
        gram += block.T @ block
    _, vectors = np.linalg.eigh(gram.astype(np.float32))
    return np.ascontiguousarray(vectors[:, ::-1])


def _row_axes(features: Floats, mean: Floats, scale: Floats) -> Floats:
    """Axes (D, R) that span the rows. They are quotients of small singular values, hence float64."""
    standard = standardised(features, mean, scale)
    gram = np.zeros((len(features), len(features)))
    for start in range(0, features.shape[1], BLOCK):
        block = standard[:, start : start + BLOCK].astype(np.float64)
        gram += block @ block.T
    variances, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(variances > RANK_TOLERANCE * max(variances[-1], 1e-30))[::-1]
    directions = (vectors[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    return np.ascontiguousarray(standard.T @ directions)
