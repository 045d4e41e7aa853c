"""Are probabilities what they say? Reliability bins, and the temperature that makes them so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.stats.classification import BLOCK_VALUES, ECE_BINS, binned_confidence
from probe.stats.clusters import share_interval

TEMPERATURES = (1e-3, 1e3)


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose top-1 probability lies in (`start`, `stop`]; accuracy with its 95 % interval."""

    start: float
    stop: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def reliability(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    bins: int = ECE_BINS,
    groups: NDArray[np.str_] | None = None,
) -> list[ReliabilityBin]:
    """Equal-width bins of the top-1 probability, those without a row left out."""
    confidence, right, which = binned_confidence(probabilities, labels, bins)
    found = []
    for number in np.unique(which):
        rows = which == number
        n, hits = int(rows.sum()), int(right[rows].sum())
        low, high = share_interval(right[rows], None if groups is None else groups[rows])
        mean = float(confidence[rows].mean())
        found.append(ReliabilityBin(number / bins, (number + 1) / bins, n, mean, hits / n, low, high))
    return found


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The T for which softmax(logits / T) has the smallest log-loss (Guo et al. 2017); logits (N, C).

    Fit it on validation rows, never on those the logits were fitted on, nor on the test rows. Bounded to
    [1e-3, 1e3]: without a single error the best temperature would be zero.
    """
    from scipy.optimize import minimize_scalar

    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels].mean(dtype=np.float64)
    step = max(1, BLOCK_VALUES // logits.shape[1])
    blocks = [shifted[start : start + step] for start in range(0, len(shifted), step)]

    def log_loss(log_temperature: float) -> float:
        inverse = float(np.exp(-log_temperature))
        sums = [np.exp(block * inverse).sum(axis=1, dtype=np.float64) for block in blocks]
        return float(np.log(np.concatenate(sums)).mean() - own * inverse)

    found = minimize_scalar(log_loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def scaled(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.floating]:
    """Probabilities (N, C) at another temperature: their T-th roots, normalised."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.floating] = powers / powers.sum(axis=1, keepdims=True)
    return result
