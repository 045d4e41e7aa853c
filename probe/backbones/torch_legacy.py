"""Reader of one PyTorch weights file in the format from before version 1.6; the only pickle reader here.

The file is five pickles — magic number, format version, system facts, the state dict, the list of storage
keys — and then each storage as an int64 element count and its raw little-endian values. It is read only if
its sha256 is the pinned one, and by an unpickler that admits the four names such a file needs.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probe.errors import WeightsError
from probe.whole import read_whole

LARGEST = 4 << 30
"""Bytes of weights, at most."""

MAGIC = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    elements: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Parameter name -> array, in the file's order and in PyTorch's axis order.

    Raises
    ------
    WeightsError : the file is not the one with this `sha256`, or is not laid out as described above.
    """
    try:
        content = read_whole(path, LARGEST, follow=True)
    except ValueError as error:
        raise WeightsError(f"{path} cannot be a PyTorch file of this network", found=str(error)) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{path} is not a PyTorch file this program trusts",
            expected=f"sha256 {sha256}",
            found=f"sha256 {found}",
            hint="convert other weights to Keras's .weights.h5 first",
        )
    file = io.BytesIO(content)
    header = [_Reader(file).load() for _ in range(3)]
    if header[:2] != [MAGIC, FORMAT_VERSION]:
        raise WeightsError(f"{path} is not a legacy PyTorch file", found=f"header {header[:2]}")
    tensors: dict[str, _Tensor] = _Reader(file).load()
    keys: list[str] = _Reader(file).load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {name: _materialise(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


class _Reader(pickle.Unpickler):
    """Turns PyTorch's descriptions into `_Tensor`; any name but the four of a plain state dict is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise WeightsError("a weights file wants to run code", found=f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _kind, dtype, key, _device, elements, _view = pid
        return _Storage(key, dtype, elements)


def _describe_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_training: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    elements = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(elements * dtype.itemsize), dtype)


def _materialise(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    """A contiguous copy, honouring the strides: the convolutions of this file are stored channels-last."""
    last = tensor.offset + sum(
        (n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if last >= len(storage):
        raise WeightsError("a tensor reaches beyond its storage", found=str(tensor))
    strides = tuple(stride * storage.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
