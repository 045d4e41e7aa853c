"""The sample that comes with the package."""

from __future__ import annotations

from pathlib import Path

from probe.config import Home
from probe.datasets.listing import Listing
from probe.datasets.npz import read_npz
from probe.datasets.opening import DatasetOptions
from probe.datasets.row import DatasetRow
from probe.errors import DataError

SHIPPED = Path(__file__).parent / "samples"


def read_sample(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """``NAME.npz`` from ``--from``, else from ``PROBE_HOME/samples`` or the package, the first there is."""
    file = f"{row.name}.npz"
    places = [options.source] if options.source else [home.root / "samples" / file, SHIPPED / file]
    for path in places:
        if path.is_file():
            return read_npz(path, home.cache, name=row.name, class_names=row.class_names, anew=options.rehash)
    raise DataError(
        f"the sample {row.name} is not on this machine",
        expected=" or ".join(str(path) for path in places),
        hint="install probe again, or rebuild it with data/samples/make_fashion_sample.py of the repository",
    )
