"""Data sets: the table of names, and `open_dataset` for everything a user can name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from probe.config import Home
from probe.datasets.catalog import ROWS
from probe.datasets.dataset import Dataset
from probe.datasets.opening import DatasetOptions, open_spec
from probe.datasets.origin import describe, read
from probe.datasets.row import DatasetRow
from probe.internet import RemoteFile
from probe.registry import Registry

__all__ = ["DATASETS", "Dataset", "DatasetOptions", "DatasetRow", "RemoteFile", "open_dataset", "reopen"]

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
    options = options or DatasetOptions()
    return replace(open_spec(DATASETS, spec, home, options), origin=describe(spec, options, DATASETS))


def reopen(origin: Mapping[str, Any], home: Home) -> Dataset:
    """The data set of a recorded `Dataset.origin`, read again.

    Raises DataError when nothing usable is recorded, and otherwise as `open_dataset`.
    """
    spec, options = read(origin)
    return open_dataset(spec, home, options)
