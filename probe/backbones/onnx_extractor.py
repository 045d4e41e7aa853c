"""An ONNX file behind the `Extractor` contract, whatever computes it.

Pixel values, the order of axes and pooling are handled here, in float32, so that engines compute what the
file says and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones import onnx_file, preprocess
from probe.backbones.backbone import BackboneSpec, expect_pixels
from probe.backbones.onnx_file import CLS, MAP, MEAN, Network, Tensor

Compute = Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
"""The file's input -> the tensors that were asked for, in their order."""


class OnnxExtractor:
    """Pictures in batches of any size through a file that may take so many at once and no others.

    Parameters
    ----------
    compute : computes `tensors` for batches of `pictures_at_once`.
    """

    def __init__(
        self,
        compute: Compute,
        network: Network,
        tensors: Sequence[Tensor],
        spec: BackboneSpec,
        batch_size: int,
    ) -> None:
        self.batch_size = batch_size
        self._compute, self._network, self._tensors = compute, network, tensors
        self._outputs, self._pieces = spec.outputs, pictures_at_once(network, batch_size)
        self._input_shape = (batch_size, spec.size, spec.size, 3)
        self._convention = preprocess.convention(spec.preprocess)
        features = self(np.zeros(self._input_shape, np.uint8))
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: found.shape[1:] for name, found in features.items()
        }

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Extractor`."""
        expect_pixels(pixels, self._input_shape)
        values = self._values(pixels)
        parts = [self._piece(values[i : i + self._pieces]) for i in range(0, len(values), self._pieces)]
        return {output: np.concatenate([part[output] for part in parts]) for output in self._outputs}

    def _values(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """What the file takes of pictures, (B, S, S, 3) or (B, 3, S, S)."""
        changed = self._convention.apply(pixels.astype(np.float32)).astype(self._network.dtype)
        return changed.transpose(0, 3, 1, 2) if self._network.channels_first else changed

    def _piece(self, values: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        count = len(values)
        if count < self._pieces:
            more = np.zeros((self._pieces - count, *values.shape[1:]), values.dtype)
            values = np.concatenate([values, more])
        found = self._compute(np.ascontiguousarray(values))
        named = zip(self._outputs, self._tensors, found, strict=True)
        return {output: _finish(value[:count], tensor, output) for output, tensor, value in named}


def pictures_at_once(network: Network, batch_size: int) -> int:
    """How many pictures one call of the file takes."""
    return network.batch or batch_size


def tensors_of(network: Network, spec: BackboneSpec) -> list[Tensor]:
    """The tensors behind the outputs of `spec`, in their order."""
    return [network.tensors[onnx_file.split(output)[0]] for output in spec.outputs]


def _finish(value: NDArray[Any], tensor: Tensor, output: str) -> NDArray[np.float32]:
    """A tensor as it is stored: (B, D), tokens (B, T, D) or a map (B, H, W, C); pooled in float32."""
    value = value.astype(np.float32)
    form = onnx_file.split(output)[1]
    if form == CLS:
        return value[:, 0]
    if form == MEAN:
        return value[:, onnx_file.prefix_tokens(value.shape[1]) :].mean(axis=1)
    if value.ndim != 4:
        return value
    if form == MAP:
        return np.ascontiguousarray(value.transpose(0, 2, 3, 1)) if tensor.channels_first else value
    count, channels = len(value), value.shape[1 if tensor.channels_first else 3]
    if tensor.channels_first:
        return value.reshape(count, channels, -1).mean(axis=2)
    return value.reshape(count, -1, channels).mean(axis=1)
