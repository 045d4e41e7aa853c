"""The npz files of MedMNIST, one a size."""

from __future__ import annotations

from probe.config import Home
from probe.datasets.layout import layout_error
from probe.datasets.listing import Listing
from probe.datasets.npz import read_npz
from probe.datasets.opening import DatasetOptions
from probe.datasets.place import find_data
from probe.datasets.row import DatasetRow


def read_medmnist(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """The row's npz, or any file that ``--from`` names; its pictures must have the side the row says."""
    source = options.source
    whole = source is not None and source.is_file() and source.suffix == ".npz"
    path = source if whole and source else find_data(row, home, source) / row.files[0].name
    listing = read_npz(path, home.cache, name=row.name, class_names=row.class_names, anew=options.rehash)
    shape = listing.source.read(0).shape if len(listing) else ()  # type: ignore[union-attr]
    side = int(row.variant)
    if shape != (side, side, 3):
        raise layout_error(row, path, "the pictures have another size", f"{(side, side, 3)}, not {shape}")
    return listing
