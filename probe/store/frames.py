"""A store's features as arrays with names: for pandas and for xarray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import UNLABELLED
from probe.errors import ProbeError

if TYPE_CHECKING:
    from probe.store.index import Index
    from probe.store.reader import Store

IMAGE = "image"
"""The dimension of rows, in arrays on disk as well."""


def to_pandas(store: Store, output: str | None, split: str | None) -> Any:
    """See `probe.store.Store.to_pandas`."""
    pandas = _load("pandas")
    rows = store.rows(split)
    values = store.features(output).flat(rows)
    columns = [f"f{number}" for number in range(values.shape[1])]
    ids = pandas.Index(store.index.ids[rows].astype(object), name="id")
    frame = pandas.DataFrame(values, index=ids, columns=columns)
    for place, (name, texts) in enumerate(named_columns(store.index.take(rows)).items()):
        frame.insert(place, name, pandas.Categorical([text or None for text in texts]))
    return frame


def to_xarray(store: Store, output: str | None, split: str | None) -> Any:
    """See `probe.store.Store.to_xarray`."""
    xarray = _load("xarray")
    rows, layout = store.rows(split), store.manifest.layout
    texts = {"id": store.index.ids[rows], **named_columns(store.index.take(rows))}
    return xarray.Dataset(
        {
            name: (layout.dimensions(f"features/{name}"), store.features(name).read(rows))
            for name in (store.outputs if output is None else [output])
        },
        coords={name: (IMAGE, values.astype(object)) for name, values in texts.items()},
        attrs={"store": store.name, "key": store.key, "index": store.index_hash},
    ).set_index({IMAGE: "id"})


def named_columns(index: Index) -> dict[str, NDArray[Any]]:
    """``label`` and ``split`` of every row as text, ``group`` where there are any; "" where there is none."""
    names = np.array([*index.classes.tolist(), ""], dtype=object)
    assert UNLABELLED == -1  # the last of the names
    columns: dict[str, NDArray[Any]] = {
        "label": names[index.labels],
        "split": index.splits.astype(object),
    }
    if index.groups is not None:
        columns["group"] = index.groups.astype(object)
    return columns


def _load(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ProbeError(f"this installation has no {package}", hint="pip install 'probe[frames]'") from error
