"""What a set of test predictions says beyond one number: classes, confusions, mistakes, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.runs.predictions import Predictions
from probe.runs.record import Analysis, Calibration, ClassScores, Confused, MistakenImage, Scores
from probe.stats.calibration import fit_temperature, reliability, scaled
from probe.stats.classification import evaluate, expected_calibration_error, log_loss
from probe.stats.confusion import confident_mistakes, confusion, most_confused, per_class, recall_intervals

SMALLEST = 1e-12


def scores(predictions: Predictions) -> Scores | None:
    """All figures of `probe.stats`, intervals by group where there are any; None when there is nothing to
    score."""
    if not len(predictions.ids):
        return None
    return Scores(**vars(evaluate(predictions.probabilities, predictions.labels, predictions.groups)))


def analyse(predictions: Predictions, classes: Sequence[str]) -> Analysis:
    """Per-class table, most-confused pairs, most-confident mistakes with ids, reliability bins."""
    labels, groups = predictions.labels, predictions.groups
    recalls = None
    if groups is not None:
        recalls = recall_intervals(predictions.predicted, labels, len(classes), groups)
    matrix = confusion(predictions.predicted, labels, len(classes))
    return Analysis(
        per_class=tuple(
            ClassScores(name=classes[row.label], **vars(row)) for row in per_class(matrix, recalls)
        ),
        most_confused=tuple(
            Confused(true=classes[pair.label], called=classes[pair.predicted], **vars(pair))
            for pair in most_confused(matrix)
        ),
        confident_mistakes=tuple(
            MistakenImage(str(predictions.ids[m.row]), classes[m.label], classes[m.predicted], m.probability)
            for m in confident_mistakes(predictions.probabilities, labels)
        ),
        reliability=tuple(reliability(predictions.probabilities, labels, groups=groups)),
    )


def calibrate(
    val_probabilities: NDArray[np.float32], val_labels: NDArray[np.integer], test: Predictions
) -> Calibration:
    """The temperature fitted on validation, and what it does to the test figures (accuracy it cannot change).

    The temperature belongs to the candidate chosen on validation, before any refit on both parts.
    """
    temperature = fit_temperature(np.log(np.maximum(val_probabilities, SMALLEST)), val_labels)
    better = scaled(test.probabilities, temperature)
    return Calibration(
        temperature,
        expected_calibration_error(better, test.labels),
        log_loss(better, test.labels),
        len(val_labels),
    )
