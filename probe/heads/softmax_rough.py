"""The loss of streamed rows, looked at in bfloat16 on the way and in float32 where the way ends.

Rounding factors to bfloat16 moves the gradient of a look by a thousandth or two. What it moved it by is
measured wherever a point is looked at closely, and taken off the looks that follow: near that point they are
right to first order, so that the search goes on where the closer look leads it, as iterative refinement does
for linear equations (Wilkinson; Higham, Accuracy and Stability of Numerical Algorithms, ch. 12). What a fit
says of itself comes from the close look alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from probe.heads.head import Floats, Samples
from probe.heads.rotation import Rotation
from probe.heads.softmax_kernel import Float64s
from probe.heads.softmax_loss import Look, StandaloneLooks, StreamedLoss, Sums
from probe.heads.softmax_products import Bfloat16Products, is_bfloat16_faster
from probe.heads.softmax_rows import StreamedRows
from probe.machine import return_large_buffers

RESOLUTION = 1e-3
"""Relative rounding of the loss: looks of one line may be with weights in one piece or in two."""
BLOCK_LOGITS = 1 << 22
"""Logits of a block of rows: half as many as in float32 take a tenth less time."""
FAR = 2.0**-5
"""Steps longer than this share of the coefficients are sixteen times as long as the rounding of weights."""


@dataclass(frozen=True)
class _Correction:
    """What a close look has beyond a rough one at the same weights (B·C, D) and bias (B·C,)."""

    weights: Float64s
    bias: Float64s
    loss: Float64s
    spread: Float64s
    by_weights: Float64s
    by_bias: Float64s

    def applied(self, sums: Sums) -> Sums:
        """The sums of a rough look elsewhere, corrected to first order."""
        problems = len(self.loss)
        moved = (self.by_weights * (sums.weights.T - self.weights)).reshape(problems, -1).sum(axis=1)
        moved += (self.by_bias * (sums.bias - self.bias)).reshape(problems, -1).sum(axis=1)
        return replace(
            sums,
            loss=sums.loss + self.loss + moved,
            spread=sums.spread + self.spread,
            by_weights=sums.by_weights + self.by_weights,
            by_bias=sums.by_bias + self.by_bias,
        )


class RoughLoss(StandaloneLooks):
    """`look` is rough, `look_closely` is a look of the loss `close`, which alone has `sums`."""

    resolution = RESOLUTION

    def __init__(self, close: StreamedLoss) -> None:
        self.close, self.classes, self.total = close, close.classes, close.total
        self.priors, self.variance = close.priors, close.variance
        width, columns, rows = close.features.shape[1], close.priors.size, close.streamed.rounded
        self._rough, self._finer = (
            close.by(Bfloat16Products(width, columns, close.threads, pieces), rows, BLOCK_LOGITS)
            for pieces in (1, 2)
        )
        self._correction: _Correction | None = None
        self._last: tuple[Floats, Sums] | None = None

    def look(self, coefficients: Floats, direction: Floats, step: Float64s) -> Look:
        change = direction * step.astype(np.float32)[:, None]
        there = coefficients + change
        far = np.linalg.norm(change) > FAR * np.linalg.norm(coefficients)
        sums = (self._rough if far else self._finer).sums_at(there)
        self._last = there, sums
        return self.close.seen(sums if self._correction is None else self._correction.applied(sums), there)

    def look_closely(self, coefficients: Floats) -> Look:
        close = self.close.sums_at(coefficients)
        rough = self._rough_sums_at(coefficients)
        self._correction = _Correction(
            close.weights.T.astype(np.float64),
            close.bias.astype(np.float64),
            close.loss - rough.loss,
            close.spread - rough.spread,
            close.by_weights - rough.by_weights,
            close.by_bias - rough.by_bias,
        )
        return replace(self.close.seen(close, coefficients), sums=close)

    def _rough_sums_at(self, coefficients: Floats) -> Sums:
        """Those of the last look, which a search ends with, where it was at these coefficients."""
        if self._last is not None and np.array_equal(self._last[0], coefficients):
            return self._last[1]
        return self._finer.sums_at(coefficients)


def streamed_loss(
    rotation: Rotation,
    samples: Samples,
    classes: int,
    weights: Floats | None,
    *,
    threads: int | None = None,
    rows: StreamedRows | None = None,
) -> StreamedLoss | RoughLoss:
    """Rough on the way where the machine multiplies faster that way and there is memory for it.

    `rows` are those of the samples, standardised as the rotation has it, where there are any yet.
    """
    features = samples.features
    rows = rows or StreamedRows(features, rotation.mean, rotation.scale, samples.folder)
    close = StreamedLoss(features, rotation, samples.labels, classes, weights, threads=threads, rows=rows)
    rough = samples.spare and is_bfloat16_faster(features.shape[1], close.priors.size)
    if not rough or len(close.priors) > 1:
        # By itself the C library keeps more of freed blocks than are in use. Rough looks at one problem free
        # few, and would take a tenth longer.
        return_large_buffers()
    return RoughLoss(close) if rough else close
