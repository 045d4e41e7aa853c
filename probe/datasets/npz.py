"""``.npz`` files with ``{train,val,test}_{images,labels}``, the layout of MedMNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import SPLITS
from probe.datasets.folder import short_name
from probe.datasets.listing import Listing, string_array
from probe.datasets.sources import ArraySource
from probe.datasets.unzip import DAMAGE, open_arrays, reason_of
from probe.errors import DataError

LAYOUT = "{train,val,test}_images (n, H, W) or (n, H, W, 3) uint8 and {train,val,test}_labels (n,) or (n, 1)"


def read_npz(
    path: Path,
    cache: Path,
    *,
    name: str | None = None,
    class_names: tuple[str, ...] = (),
    anew: bool = False,
) -> Listing:
    """The splits found in `path`, row ids ``split/000000``.

    Classes are 0 … C-1 unless `class_names` names them. Nothing is unpickled. Arrays too large for memory are
    unpacked once into the folder `cache` and mapped; `anew` unpacks them again. Raises DataError.
    """
    try:
        arrays = open_arrays(path, cache, anew=anew)
    except DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as an .npz file", expected=LAYOUT, found=reason_of(error)
        ) from error
    present = sorted(split for split in SPLITS if f"{split}_images" in arrays)
    if not present:
        raise DataError(
            f"{path} holds no images",
            expected=LAYOUT,
            found=", ".join(sorted(arrays)) or "nothing",
            hint=f"probe stores import {path} takes embeddings" if "features" in arrays else None,
        )
    images = [_images(path, f"{split}_images", arrays) for split in present]
    labels = [
        _labels(path, f"{split}_labels", arrays, len(part))
        for split, part in zip(present, images, strict=True)
    ]
    return array_listing(
        name or short_name(path.stem),
        present,
        [[part] for part in images],
        labels,
        class_names=class_names,
        origin=(path,),
    )


def array_listing(
    name: str,
    splits: list[str],
    images: list[list[NDArray[np.uint8]]],
    labels: list[NDArray[np.int32]],
    *,
    class_names: tuple[str, ...],
    origin: tuple[Path, ...],
) -> Listing:
    """A listing over arrays of images, one or several a split, and of labels, one a split."""
    everything = np.concatenate(labels)
    highest = int(everything.max(initial=-1))
    if class_names and highest >= len(class_names):
        raise DataError(
            f"{origin[0]} has a label that is no class",
            expected=f"labels below {len(class_names)}",
            found=str(highest),
        )
    counts = [len(part) for part in labels]
    ids = [f"{split}/{row:06d}" for split, count in zip(splits, counts, strict=True) for row in range(count)]
    return Listing(
        name=name,
        ids=string_array(ids),
        labels=everything,
        splits=np.repeat(np.array(splits, dtype="<U5"), counts),
        classes=class_names or tuple(str(label) for label in range(highest + 1)),
        source=ArraySource([array for part in images for array in part], origin),
    )


def _images(path: Path, key: str, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    array = arrays[key]
    colour = array.ndim == 4 and array.shape[3] in (1, 3)
    if array.dtype != np.uint8 or not (array.ndim == 3 or colour):
        raise DataError(
            f"{key} of {path} is not an array of images",
            expected="uint8 (n, H, W), (n, H, W, 1) or (n, H, W, 3)",
            found=f"{array.dtype} {array.shape}",
        )
    return array.view(np.uint8)


def _labels(path: Path, key: str, arrays: dict[str, NDArray[np.generic]], count: int) -> NDArray[np.int32]:
    if key not in arrays:
        raise DataError(f"{path} has no {key}", expected=LAYOUT, found=", ".join(sorted(arrays)))
    array = np.asarray(arrays[key])
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "iu":
        raise DataError(
            f"{key} of {path} is not one whole number an image",
            expected=f"integers ({count},) or ({count}, 1)",
            found=f"{array.dtype} {array.shape}",
            hint="sets with several labels an image are not supported",
        )
    if count and not (array.min() >= 0 and array.max() < 2**20):
        raise DataError(
            f"{key} of {path} holds a label that is no class",
            expected="0 or more",
            found=f"{array.min()} to {array.max()}",
        )
    return array.reshape(count).astype(np.int32)
