"""What a backbone is: a row of facts, and the function it becomes when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file: where it is and what it hashes to (CATALOG facts, with their source)."""

    file: str
    url: str
    md5: str
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class Backbone:
    """One row of the table of backbones.

    Attributes
    ----------
    loader : ``module:function`` building the network (lazy, so that the table imports no TensorFlow).
    size : default side of the square input, pixels.
    min_size : smallest side the network accepts.
    width : length D of the default pooled embedding.
    preprocess : name of the value convention, see `probe.backbones.preprocess`.
    stages : ``block1`` … ``block5`` -> Keras name of the last layer of that stage, shallow to deep.
    weights : the published ImageNet file, where there is one.
    licence, source : of the weights.
    note : one sentence for ``probe backbones``.
    """

    name: str
    loader: str
    size: int
    min_size: int
    width: int
    preprocess: str
    stages: Mapping[str, str]
    weights: WeightsFile | None = None
    licence: str = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone with every choice made that changes its features; JSON-able, and part of a store's key.

    Attributes
    ----------
    name : row name, ``keras:NAME`` for another keras.applications network, ``file:STEM`` for a .keras file.
    weights : identity of the weights: ``sha256:<hex>`` of the file, ``random:<seed>:keras-<version>``
        or ``none`` (backbones without parameters).
    size : side of the square input, pixels.
    preprocess : name of the value convention.
    outputs : output name -> how it is computed: ``"<layer>"`` pooled to (D,), ``"<layer>:map"`` as (H, W, C).
    precision : ``fp32``, ``bf16`` or ``fp16``.
    weights_path : where the weights file lies on this machine, None without one. Not part of the key.
    """

    name: str
    weights: str
    size: int
    preprocess: str
    outputs: tuple[str, ...]
    precision: str
    weights_path: str | None = field(default=None, compare=False)

    def key_part(self) -> dict[str, Any]:
        """Everything that changes the features, as plain JSON values."""
        return {
            "name": self.name,
            "weights": self.weights,
            "size": self.size,
            "preprocess": self.preprocess,
            "outputs": list(self.outputs),
            "precision": self.precision,
        }


class Extractor(Protocol):
    """A loaded backbone: uint8 pixels in, float32 features out, always with one fixed batch shape.

    ``shapes`` gives each output's shape without the batch axis, ``(D,)`` or ``(H, W, C)``.
    """

    batch_size: int
    shapes: Mapping[str, tuple[int, ...]]

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """(B, S, S, 3) uint8 RGB -> output name -> (B, …) float32. B is always `batch_size`."""
        ...
