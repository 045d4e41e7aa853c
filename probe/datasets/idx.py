"""Fashion-MNIST: four idx files, gzipped or not, in the Debian package's folder or anywhere."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.config import Home
from probe.datasets.dataset import TEST, TRAIN
from probe.datasets.layout import layout_error
from probe.datasets.listing import Listing
from probe.datasets.npz import array_listing
from probe.datasets.opening import DatasetOptions
from probe.datasets.place import find_data
from probe.datasets.row import DatasetRow

PARTS = {TEST: "t10k", TRAIN: "train"}
_MOST_BYTES = 2**30


def read_fashion(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """The four files, under either spelling of their names."""
    base = find_data(row, home, options.source)
    images, labels, origin = [], [], []
    for part in PARTS.values():
        paths = [_find(row, base, f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        images.append([_idx(row, paths[0], 3)])
        labels.append(_idx(row, paths[1], 1).astype(np.int32))
        origin += paths
        if len(images[-1][0]) != len(labels[-1]):
            raise layout_error(row, base, f"{part}: not as many labels as images", "one label an image")
    return array_listing(
        row.name, list(PARTS), images, labels, class_names=row.class_names, origin=tuple(origin)
    )


def _find(row: DatasetRow, base: Path, name: str) -> Path:
    """Also under the spelling ``train-images.idx3-ubyte`` that some copies have."""
    spellings = (name, name.replace("-idx", ".idx"))
    for path in (base / f"{spelling}{end}" for spelling in spellings for end in (".gz", "")):
        if path.is_file():
            return path
    raise layout_error(row, base, f"there is no {name}.gz", "the four idx files of the publisher")


def _idx(row: DatasetRow, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of bytes: two zeros, the type 8, the number of dimensions, their lengths, the values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            whole = len(head) == 4 + 4 * dimensions and head[:4] == bytes((0, 0, 8, dimensions))
            shape = tuple(np.frombuffer(head[4:], ">u4").tolist()) if whole else ()
            size = math.prod(shape)
            if not whole or not 0 < size <= _MOST_BYTES:
                raise layout_error(
                    row, path.parent, f"{path.name} is no idx file", f"{dimensions} dimensions"
                )
            values = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        problem = f"{path.name} cannot be read ({error})"
        raise layout_error(row, path.parent, problem, "a whole file") from error
    if len(values) != size:
        raise layout_error(row, path.parent, f"{path.name} is not as long as it says", f"{size} values")
    return np.frombuffer(values, np.uint8).reshape(shape)
