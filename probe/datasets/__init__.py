"""Data sets: the table of names, and `open_dataset` for everything a user can name."""

from __future__ import annotations

from probe.config import Home
from probe.datasets.catalog import ROWS
from probe.datasets.dataset import Dataset
from probe.datasets.opening import DatasetOptions, open_spec
from probe.datasets.row import DatasetRow, RemoteFile
from probe.registry import Registry

__all__ = ["DATASETS", "Dataset", "DatasetOptions", "DatasetRow", "RemoteFile", "open_dataset"]

DATASETS: Registry[DatasetRow] = Registry("data set", ROWS)


def open_dataset(spec: str, home: Home, options: DatasetOptions | None = None) -> Dataset:
    """The data set a user names.

    Parameters
    ----------
    spec : a registered name; a folder with a folder per class, with or without train/val/test above; with
        ``options.labels`` a folder or a ``.txt`` list of files; a folder of images without labels; an npz
        with ``{train,val,test}_{images,labels}``. A registered name goes before a folder of that name.
    home : where fetched sets and caches lie.

    Raises UsageError for what cannot be asked and DataError for data that is not what it should be.
    """
    return open_spec(DATASETS, spec, home, options or DatasetOptions())
