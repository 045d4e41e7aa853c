"""The figures of a result, from its predictions."""

from __future__ import annotations

from typing import Any

from probe.runs.run import Predictions
from probe.stats.classification import evaluate


def scores(predictions: Predictions) -> dict[str, Any] | None:
    """All figures of `probe.stats`, intervals by group where there are any; None when there is nothing to
    score."""
    if not len(predictions.ids):
        return None
    return evaluate(predictions.probabilities, predictions.labels, predictions.groups).to_json()
