"""What a run said about every test image, in memory and as ``predictions.npz``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.archives import read_arrays

PREDICTIONS = "predictions.npz"
LARGEST_COMPRESSED = 16 << 20
"""Probabilities of thousands of classes hardly shrink, and would take longer than the fit."""


@dataclass(frozen=True)
class Predictions:
    """What a run said about M images, in the order of `ids`.

    Attributes
    ----------
    ids : (M,) strings.
    labels : (M,) int32, -1 where unknown.
    probabilities : (M, C) float32.
    groups : (M,) strings, "" where a row has none; None where the data set knows no groups.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    groups: NDArray[np.str_] | None = None

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(M,) the class of the largest probability."""
        return self.probabilities.argmax(axis=1)

    def labelled(self) -> Predictions:
        """Those of images whose class is known."""
        known = self.labels >= 0
        groups = None if self.groups is None else self.groups[known]
        return Predictions(self.ids[known], self.labels[known], self.probabilities[known], groups)

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels


def write_predictions(predictions: Predictions, folder: Path) -> None:
    """Keep them in a folder, with the predicted class beside the probabilities."""
    arrays: dict[str, Any] = {
        "ids": predictions.ids,
        "labels": predictions.labels,
        "predicted": predictions.predicted.astype(np.int32),
        "probabilities": predictions.probabilities,
    }
    if predictions.groups is not None:
        arrays["groups"] = predictions.groups
    large = predictions.probabilities.nbytes > LARGEST_COMPRESSED
    with (folder / PREDICTIONS).open("wb") as file:
        (np.savez if large else np.savez_compressed)(file, **arrays)


def read_predictions(folder: Path) -> Predictions:
    """What `write_predictions` kept.

    Raises OSError or ValueError for a file that is missing or damaged.
    """
    arrays = read_arrays(folder / PREDICTIONS, ("ids", "labels", "probabilities", "groups"))
    missing = {"ids", "labels", "probabilities"}.difference(arrays)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    found = Predictions(arrays["ids"], arrays["labels"], arrays["probabilities"], arrays.get("groups"))
    kinds = found.ids.dtype.kind, found.labels.dtype.kind, found.probabilities.dtype.kind
    if kinds != ("U", "i", "f"):
        raise ValueError(f"columns of the types {', '.join(kinds)}")
    rows, groups = found.ids.shape, found.groups
    if len(rows) != 1 or found.labels.shape != rows or found.probabilities.shape[:1] != rows:
        raise ValueError(
            f"{rows} ids, {found.labels.shape} labels, {found.probabilities.shape} probabilities"
        )
    if found.probabilities.ndim != 2 or (groups is not None and groups.shape != rows):
        raise ValueError("probabilities or groups of another shape than the ids")
    return found
