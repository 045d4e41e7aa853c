"""The engine ``pixels``: the picture's own pixels as its features, computed without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from probe.backbones import preprocess
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor, expect_pixels
from probe.config import Home
from probe.errors import unknown_name

OUTPUTS = ("pixels", "pixels:map")


class PixelExtractor:
    """(B, S, S, 3) uint8 -> preprocessed pixels, row by row: (B, 3·S·S), or (B, S, S, 3) for the map."""

    def __init__(self, spec: BackboneSpec, batch_size: int) -> None:
        self.batch_size = batch_size
        self._input_shape = (batch_size, spec.size, spec.size, 3)
        self._convention = preprocess.convention(spec.preprocess)
        shapes = {"pixels": (3 * spec.size**2,), "pixels:map": (spec.size, spec.size, 3)}
        for output in spec.outputs:
            if output not in shapes:
                raise unknown_name(f"output of {spec.name}", output, shapes)
        self.shapes: Mapping[str, tuple[int, ...]] = {output: shapes[output] for output in spec.outputs}

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Extractor`."""
        expect_pixels(pixels, self._input_shape)
        values = self._convention.apply(pixels.astype(np.float32))
        return {output: values.reshape(self.batch_size, *shape) for output, shape in self.shapes.items()}


def load(row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> Extractor:
    """See `probe.backbones.load`; nothing is kept."""
    return PixelExtractor(spec, batch_size)
