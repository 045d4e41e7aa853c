"""The zarr arrays of a store: made from its layout, and compared with it before anybody believes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from probe.errors import StoreError
from probe.images.status import Status
from probe.store.files import LocalFiles
from probe.store.spec import Layout

METADATA = (
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "codecs",
    "fill_value",
    "attributes",
)
"""What decides how zarr reads a store."""


def create_arrays(root: Path, spec: Mapping[str, Any], layout: Layout) -> None:
    """The empty arrays of a store in a new folder; `spec` is a `StoreSpec` as JSON."""
    for name, content in _metadata(spec, layout).items():
        # One after another by this thread: zarr leaves others that still write when one of its writes fails.
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _metadata(spec: Mapping[str, Any], layout: Layout) -> dict[str, bytes]:
    """Name -> content of the files that make up arrays of which no row is written."""
    made: dict[str, Buffer] = {}
    record = {"probe": {"spec": dict(spec), "layout": layout.as_json()}}
    group = zarr.create_group(MemoryStore(made), zarr_format=3, attributes=record)
    for name in layout.array_names():
        shape = layout.row_shape(name)
        dtype = np.dtype(layout.array_dtype(name))
        group.create_array(
            name,
            shape=(layout.rows, *shape),
            chunks=(layout.unit_rows, *shape),
            dtype=dtype,
            compressors=[Crc32cCodec()],
            fill_value=layout.absent(name) if "/" in name else int(Status.NOT_COMPUTED),
            dimension_names=layout.dimensions(name),
        )
    return {f"data.zarr/{name}": content.to_bytes() for name, content in made.items()}


def read_layout(path: Path) -> Layout:
    """The record of a store that may be unfinished: how a later writer learns batch and unit size."""
    return Layout.from_json(read_record(path)["layout"], str(path))


def read_record(path: Path) -> dict[str, Any]:
    """``spec`` and ``layout`` as JSON, kept with the arrays from the first moment of a store on."""
    files = LocalFiles(path)
    try:
        attributes = files.read_json("data.zarr/zarr.json")["attributes"]["probe"]
        return {"spec": dict(attributes["spec"]), "layout": dict(attributes["layout"])}
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} has no record of what it holds",
            found=f"data.zarr/zarr.json: {error}",
            hint=files.repair_hint,
        ) from error


def wrong_metadata(files: LocalFiles, layout: Layout, spec: Mapping[str, Any]) -> dict[str, bytes]:
    """``zarr.json`` files that say something else than the layout -> what they should hold."""
    right = sorted(_metadata(spec, layout).items())
    return {name: content for name, content in right if not _says(files, name, content)}


def _says(files: LocalFiles, name: str, right: bytes) -> bool:
    try:
        found = files.read_json(name)
        return all(found.get(key) == value for key, value in json.loads(right).items() if key in METADATA)
    except (StoreError, ValueError, AttributeError, OSError):
        return False
