"""Nearest class mean on standardised features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from probe.heads.head import FitOutcome, Samples, stack
from probe.heads.linear import LinearHead
from probe.heads.standardise import class_sums, moments


@dataclass(frozen=True)
class CentroidOptions:
    """There is nothing to choose."""


@dataclass(frozen=True)
class CentroidHead(LinearHead):
    """Softmax over −½·(squared distance to each class mean) / variance, which is linear in the features.

    The variance is one pooled within-class figure, so the probabilities are those of spherical Gaussians of
    equal size and equal prior.
    """

    name: ClassVar[str] = "centroid"


def fit(
    train: Samples, val: Samples | None, classes: int, options: CentroidOptions, *, refit: bool = True
) -> FitOutcome:
    head = _means(train, classes)
    val_probabilities = None if val is None else head.predict_proba(val.features)
    if refit:
        head = _means(stack(train, val), classes)
    return FitOutcome(head, {}, val_probabilities=val_probabilities)


def _means(samples: Samples, classes: int) -> CentroidHead:
    mean, scale = moments(samples.features)
    counts = np.bincount(samples.labels, minlength=classes)
    means = (class_sums(samples.features, samples.labels, classes) / counts[:, None] - mean) / scale
    varying = samples.features.shape[1]
    # Standardised features have total variance one each; what the class means explain is not within-class.
    between = float((counts / len(samples)) @ (means**2).sum(axis=1))
    variance = max((varying - between) / varying, 1e-3)
    return CentroidHead(
        mean=mean,
        scale=scale,
        weights=np.ascontiguousarray((means / variance).T, dtype=np.float32),
        bias=(-0.5 * (means**2).sum(axis=1) / variance).astype(np.float32),
    )
