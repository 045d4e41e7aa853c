"""What a set of test predictions says beyond one number: per class, confusions, mistakes, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.runs import Predictions
from probe.stats.calibration import fit_temperature, reliability, scaled
from probe.stats.classification import expected_calibration_error, log_loss
from probe.stats.confusion import confident_mistakes, confusion, most_confused, per_class, recall_intervals

SMALLEST = 1e-12


def analyse(predictions: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    """Per-class table, most-confused pairs, most-confident mistakes with ids, reliability bins; JSON-able."""
    labels, groups = predictions.labels, predictions.groups
    recalls = None
    if groups is not None:
        recalls = recall_intervals(predictions.predicted, labels, len(classes), groups)
    matrix = confusion(predictions.predicted, labels, len(classes))
    return {
        "per_class": [{"class": classes[row.label], **row.to_json()} for row in per_class(matrix, recalls)],
        "most_confused": [
            {"true": classes[pair.label], "called": classes[pair.predicted], **pair.to_json()}
            for pair in most_confused(matrix)
        ],
        "confident_mistakes": [
            {
                "id": str(predictions.ids[m.row]),
                "true": classes[m.label],
                "called": classes[m.predicted],
                "probability": m.probability,
            }
            for m in confident_mistakes(predictions.probabilities, labels)
        ],
        "reliability": [
            found.to_json() for found in reliability(predictions.probabilities, labels, groups=groups)
        ],
    }


def calibrate(
    val_probabilities: NDArray[np.float32], val_labels: NDArray[np.integer], test: Predictions
) -> dict[str, Any]:
    """The temperature fitted on validation, and what it does to the test figures (accuracy it cannot change).

    The temperature belongs to the candidate chosen on validation, before any refit on both parts.
    """
    temperature = fit_temperature(np.log(np.maximum(val_probabilities, SMALLEST)), val_labels)
    better = scaled(test.probabilities, temperature)
    return {
        "temperature": temperature,
        "fitted_on": len(val_labels),
        "test_ece": expected_calibration_error(better, test.labels),
        "test_log_loss": log_loss(better, test.labels),
    }
