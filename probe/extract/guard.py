"""Features that cannot be right, caught while there is nothing to lose: after the first unit of rows.

A network that was given values it was never trained on, whose weights overflow in half precision, or that was
saved untrained still gives numbers, and everything after it runs. What gives it away is that they are no
numbers, or the same for every picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.extract.job import ExtractJob
from probe.images.reader import Batch

LOOK_AT = (
    "--preprocess (the pixel values it was trained on), --precision fp32, --weights, or another layer with "
    "--outputs"
)


class Guard:
    """Looks at every batch of one extraction; equal features are a fault where the pictures differ."""

    def __init__(self, job: ExtractJob) -> None:
        self._job = job
        self._picture: NDArray[np.uint8] | None = None
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._same: set[str] = set()
        self._pictures_differ = self._has_light = self._decided = False

    def look(self, batch: Batch, features: Mapping[str, NDArray[np.float32]]) -> None:
        """DataError where a readable picture of the batch has features that are not finite."""
        places = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        self.finite(features, batch.rows[places], places)
        if self._decided or not places:
            return
        if self._picture is None:
            self._picture = batch.pixels[places[0]].copy()
            self._rows = {output: values[places[0]].copy() for output, values in features.items()}
            self._same = set(features)
        pixels = batch.pixels[places]
        self._has_light |= bool(pixels.any())
        self._pictures_differ |= bool((pixels != self._picture).any())
        self._same = {
            output for output in self._same if (features[output][places] == self._rows[output]).all()
        }

    def finite(
        self, features: Mapping[str, NDArray[np.float32]], rows: NDArray[np.intp], places: list[int]
    ) -> None:
        """DataError unless the features at `places` of a batch, which belong to `rows`, are all numbers."""
        if not places:
            return
        for output, values in features.items():
            good = np.isfinite(values[places].reshape(len(places), -1)).all(axis=1)
            if not good.all():
                names = [str(self._job.dataset.ids[row]) for row in rows[~good][:3]]
                raise self._error(
                    f"output {output} of {self._job.backbone.name} is not finite for {', '.join(names)}",
                    f"{int((~good).sum())} of {len(places)} pictures with infinite values or NaN",
                )

    def end_unit(self) -> None:
        """DataError where every picture so far, and they differ, has the same features or only zeros."""
        if self._decided or self._picture is None:
            return
        for output in sorted(self._same):
            if self._pictures_differ:
                zeros = "zeros" if not self._rows[output].any() else "the same values"
                raise self._error(
                    f"output {output} of {self._job.backbone.name} is the same for every picture",
                    f"{zeros} in all rows of the first unit, whose pictures differ",
                )
            if self._has_light and not self._rows[output].any():
                raise self._error(
                    f"output {output} of {self._job.backbone.name} is zero everywhere", "nothing but zeros"
                )
        self._decided = self._pictures_differ

    def _error(self, problem: str, found: str) -> DataError:
        return DataError(
            problem, expected="finite features that tell pictures apart", found=found, hint=LOOK_AT
        )
