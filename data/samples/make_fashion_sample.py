"""Rebuild fashion-sample.npz, byte for byte, from the files of Fashion-MNIST.

    python data/samples/make_fashion_sample.py [FOLDER]

FOLDER holds the four ``*-ubyte.gz`` files; by default that of the Debian package dataset-fashion-mnist.
Train and validation are the first 200 and the next 50 of each class of the training file, test the first 100 of
each class of the test file, in file order.
"""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).parents[2] / "probe" / "datasets" / "samples" / "fashion-sample.npz"
CLASSES = 10


def read_idx(path: Path, header: int) -> np.ndarray:
    """The values of an idx file after its `header` bytes."""
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8)[header:]


def read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,)."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8)


def pick(labels: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows of the `start`-th to `stop`-th image of every class, in file order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[start:stop] for c in range(CLASSES)]))


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An .npz whose bytes depend on the arrays alone: no time stamps."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, buffer.getvalue(), compresslevel=9)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN
    train_images, train_labels = read_part(folder, "train")
    test_images, test_labels = read_part(folder, "t10k")
    rows = {"train": pick(train_labels, 0, 200), "val": pick(train_labels, 200, 250)}
    arrays = {}
    for split, chosen in rows.items():
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = train_images[chosen], train_labels[chosen]
    chosen = pick(test_labels, 0, 100)
    arrays["test_images"], arrays["test_labels"] = test_images[chosen], test_labels[chosen]
    save(TARGET, arrays)
    print(f"{TARGET}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))


if __name__ == "__main__":
    main()
