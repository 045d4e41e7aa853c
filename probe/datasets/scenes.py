"""Fifteen scenes: a folder per class, wherever the user has it."""

from __future__ import annotations

from probe.config import Home
from probe.datasets.folder import read_folder
from probe.datasets.listing import Listing
from probe.datasets.opening import DatasetOptions
from probe.datasets.place import find_data
from probe.datasets.row import DatasetRow


def read_scenes(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """Any class-per-folder tree; ``probe data check`` tells when it is not the declared one."""
    return read_folder(
        find_data(row, home, options.source),
        name=row.name,
        layout=options.layout,
        follow_links=options.follow_links,
    )
