"""Nearest class mean on standardised features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.heads.head import FitOutcome, Samples, averaged, blocks, stack
from probe.heads.linear import LinearHead
from probe.heads.standardise import class_sums, constant_columns, moments, standardised

SMALLEST_VARIANCE = 1e-3
"""Of the total: what is left where the class means explain everything, as with one row a class."""


@dataclass(frozen=True)
class CentroidOptions:
    """There is nothing to choose."""


@dataclass(frozen=True)
class CentroidHead(LinearHead):
    """Softmax over −½·(squared distance to each class mean) / variance, which is linear in the features.

    The variance is one pooled within-class figure, so the probabilities are those of spherical Gaussians of
    equal size and equal prior. Constant columns are part neither of the distance nor of the variance.
    """

    name: ClassVar[str] = "centroid"


def fit(
    train: Samples, val: Samples | None, classes: int, options: CentroidOptions, *, refit: bool = True
) -> FitOutcome:
    head = _means(train, classes)
    notes = constant_columns(head.scale)
    val_probabilities = None if val is None else averaged(head, val)
    if refit:
        head = _means(stack(train, val), classes)
    return FitOutcome(head, {}, val_probabilities=val_probabilities, notes=notes)


def _means(samples: Samples, classes: int) -> CentroidHead:
    mean, scale = moments(samples.features)
    counts = np.bincount(samples.labels, minlength=classes)
    means = np.zeros((classes, len(mean)))
    for rows, block in blocks(samples.features):
        means += class_sums(standardised(block, mean, scale), samples.labels[rows], classes)
    means /= counts[:, None]
    varying = max(int(np.isfinite(scale).sum()), 1)
    # Standardised features have total variance one each; what the class means explain is not within-class.
    between = float((counts / len(samples)) @ (means**2).sum(axis=1))
    variance = max((varying - between) / varying, SMALLEST_VARIANCE)
    return CentroidHead(
        mean=mean,
        scale=scale,
        weights=np.ascontiguousarray((means / variance).T, dtype=np.float32),
        bias=(-0.5 * (means**2).sum(axis=1) / variance).astype(np.float32),
    )
