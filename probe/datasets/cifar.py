"""CIFAR in its binary form, which needs no pickle: one or two labels, then three planes of 32×32."""

from __future__ import annotations

from dataclasses import replace
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
from probe.whole import read_text

SIDE = 32
COARSE, FIRST_25 = "coarse", "25"


def read_cifar10(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """data_batch_1.bin … 5, test_batch.bin (label, pixels) and batches.meta.txt."""
    base = find_data(row, home, options.source)
    classes = _names(row, base / "batches.meta.txt", row.classes)
    train = [base / f"data_batch_{number}.bin" for number in range(1, 6)]
    return _read(row, base, {TEST: [base / "test_batch.bin"], TRAIN: train}, 1, 0, classes)


def read_cifar100(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """train.bin, test.bin (coarse label, fine label, pixels), {fine,coarse}_label_names.txt."""
    base = find_data(row, home, options.source)
    files = {TEST: [base / "test.bin"], TRAIN: [base / "train.bin"]}
    if row.variant == COARSE:
        return _read(row, base, files, 2, 0, _names(row, base / "coarse_label_names.txt", 20))
    listing = _read(row, base, files, 2, 1, _names(row, base / "fine_label_names.txt", 100))
    if row.variant != FIRST_25:
        return listing
    rows = np.flatnonzero(listing.labels < 25)
    return replace(listing, classes=listing.classes[:25]).take(rows)


def _read(
    row: DatasetRow,
    base: Path,
    files: dict[str, list[Path]],
    labels: int,
    which: int,
    classes: tuple[str, ...],
) -> Listing:
    """Rows of the splits in `files`; the `which`-th of `labels` label bytes counts. Pixels stay on disk."""
    records = {split: [_records(row, base, path, labels) for path in paths] for split, paths in files.items()}
    for part in (part for parts in records.values() for part in parts):
        if len(part) and int(part[:, which].max()) >= len(classes):
            raise layout_error(
                row, base, f"the label {int(part[:, which].max())} is no class", f"0 to {len(classes) - 1}"
            )
    splits = sorted(records)
    return array_listing(
        row.name,
        splits,
        [[_pixels(part, labels) for part in records[split]] for split in splits],
        [np.concatenate([part[:, which] for part in records[split]]).astype(np.int32) for split in splits],
        class_names=classes,
        origin=tuple(path for split in splits for path in files[split]),
    )


def _records(row: DatasetRow, base: Path, path: Path, labels: int) -> NDArray[np.uint8]:
    """(n, labels + 3072) uint8, mapped."""
    width = labels + 3 * SIDE * SIDE
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 or size % width:
        raise layout_error(
            row, base, f"{path.name} is missing or cut", f"a multiple of {width} bytes; it has {size}"
        )
    return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, width)


def _pixels(records: NDArray[np.uint8], labels: int) -> NDArray[np.uint8]:
    """(n, 32, 32, 3), a view: the file holds all red, then all green, then all blue of an image."""
    return records[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _names(row: DatasetRow, path: Path, count: int) -> tuple[str, ...]:
    try:
        lines = read_text(path, follow=True).splitlines()
    except (OSError, ValueError) as error:
        raise layout_error(row, path.parent, f"{path.name} cannot be read", f"{count} class names") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != count:
        raise layout_error(row, path.parent, f"{path.name} has {len(names)} names", f"{count} class names")
    return names
