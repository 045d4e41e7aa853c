"""A store's rows as the arrays a head is fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import SPLITS, TRAIN, UNLABELLED
from probe.errors import FitError
from probe.heads.head import Samples
from probe.store import Store


@dataclass(frozen=True)
class Part:
    """The usable rows of one split: read, labelled, in store order.

    Attributes
    ----------
    ids : (n,) strings.
    samples : features (n, D) float32 and labels (n,).
    """

    ids: NDArray[np.str_]
    samples: Samples

    def __len__(self) -> int:
        return len(self.ids)


def load_parts(store: Store, output: str | None) -> Mapping[str, Part]:
    """Train, val and test of one output; unreadable and unlabelled rows are dropped.

    FitError when nothing is labelled or nothing is left to train on.
    """
    labels = store.index.labels
    if (labels == UNLABELLED).all():
        raise FitError(
            f"{store.name} has no labels",
            hint="extract again with --labels labels.csv: the features are kept, only labels are added",
        )
    features = store.features(output)
    parts = {}
    for split in SPLITS:
        rows = store.rows(split)
        rows = rows[labels[rows] != UNLABELLED]
        values = features.read(rows).reshape(len(rows), -1)
        parts[split] = Part(store.index.ids[rows], Samples(values, labels[rows]))
    if not len(parts[TRAIN]):
        raise FitError(f"{store.name} has no training images", hint="extract again with --split 0.7,0.1,0.2")
    return parts
