"""The majority class and the class frequencies, whatever the features say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Features, FitOutcome, Floats, Samples, averaged, stack


@dataclass(frozen=True)
class MajorityOptions:
    """There is nothing to choose."""


@dataclass(frozen=True)
class MajorityHead:
    """Every row gets the class frequencies (C,) of the fitted labels."""

    name: ClassVar[str] = "majority"
    frequencies: Floats
    width: int

    @property
    def classes(self) -> int:
        return len(self.frequencies)

    def predict_proba(self, features: Features) -> Floats:
        return np.tile(self.frequencies, (features.shape[0], 1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"frequencies": self.frequencies}

    def meta(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        if arrays["frequencies"].shape != (int(meta["classes"]),):
            raise ValueError(f"frequencies have shape {arrays['frequencies'].shape}")
        return cls(arrays["frequencies"].astype(np.float32, copy=False), int(meta["width"]))


def fit(
    train: Samples, val: Samples | None, classes: int, options: MajorityOptions, *, refit: bool = True
) -> FitOutcome:
    head = _count(train, classes)
    val_probabilities = None if val is None else averaged(head, val)
    if refit:
        head = _count(stack(train, val), classes)
    return FitOutcome(head, {"class": int(head.frequencies.argmax())}, val_probabilities=val_probabilities)


def _count(samples: Samples, classes: int) -> MajorityHead:
    frequencies = np.bincount(samples.labels, minlength=classes) / len(samples)
    return MajorityHead(frequencies.astype(np.float32), samples.features.shape[1])
