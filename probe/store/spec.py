"""The identity of a store, and the record of how it is laid out on disk."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import canonical_json
from probe.errors import StoreError

INT8 = "int8"
DTYPES = ("float32", "float16", INT8)
"""What features can be stored in."""
SCHEMAS = (1, 2)
"""The second is that of stores in 8 bits, so that a version that does not know them says so."""
IMPORTED = "imported"
"""The backbone's name in stores of embeddings that were computed elsewhere."""

AXES = {1: ("feature",), 3: ("row", "column", "channel")}
"""How the axes of a row of so many are called."""

DIGESTED = 1 << 16
"""Rows that are text at a time."""
UNIT_BYTES = 16 << 20
"""No array's unit is larger than this, bytes."""


@dataclass(frozen=True)
class StoreSpec:
    """Everything that changes the features. Labels, splits, batch size and device are not here.

    Attributes
    ----------
    backbone : `BackboneSpec.key_part()`: name, weights hash, size, preprocessing, outputs, precision.
    pixels : decode and resize policy, EXIF handling.
    views : count, augmentation, seed and the digest of the rows that have views; None without views.
    dtype : of the stored features, one of `DTYPES`.
    images : `images_digest` of the ids and content hashes, in row order.
    """

    backbone: Mapping[str, Any]
    pixels: Mapping[str, Any]
    views: Mapping[str, Any] | None
    dtype: str
    images: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> str:
        """See `spec_key`."""
        return spec_key(self.as_json())


def spec_key(spec: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of a specification and the schema version, 64 hex digits."""
    schema = schema_of(spec.get("dtype"))
    return hashlib.sha256(canonical_json({"schema": schema, **spec}).encode()).hexdigest()


def schema_of(dtype: Any) -> int:
    """The schema version of a store whose features are stored in `dtype`."""
    return SCHEMAS[dtype == INT8]


def stored_arrays(output: str, dtype: str) -> list[str]:
    """The arrays of an output, or of a view of it: its values, and where they are 8 bits their scales."""
    return [f"features/{output}", *([f"scales/{output}"] if dtype == INT8 else [])]


def images_digest(ids: NDArray[np.str_], hashes: NDArray[np.str_]) -> str:
    """One hash over all ids and content hashes in order; lengths are framed, so no two lists collide."""
    starts = range(0, len(ids), DIGESTED)
    return images_digest_of(
        (ids[start : start + DIGESTED].tolist() for start in starts),
        (hashes[start : start + DIGESTED].tolist() for start in starts),
    )


def images_digest_of(ids: Iterable[list[str]], hashes: Iterable[list[str]]) -> str:
    """The same of ids and hashes that come in blocks, as text a block at a time."""
    digest = hashlib.sha256()
    for some_ids, some_hashes in zip(ids, hashes, strict=True):
        for row_id, content in zip(some_ids, some_hashes, strict=True):
            name = row_id.encode()
            digest.update(b"%d:%s%d:%s" % (len(name), name, len(content), content.encode()))
    return digest.hexdigest()


@dataclass(frozen=True)
class Layout:
    """How rows lie in arrays; fixed when the store is made and kept by every later writer.

    Attributes
    ----------
    key : of the `StoreSpec`.
    rows : N.
    unit_rows : R, rows written and committed together; the chunk length of every array.
    batch_size : rows the network computes at once; divides R, so a resumed unit sees the same batches.
    shapes : array name under ``features/`` -> shape of one row, ``(D,)`` or ``(H, W, C)``.
    dtype : of the features, one of `DTYPES`.
    internal : prefix caches are stores, but never the newest one.
    """

    key: str
    rows: int
    unit_rows: int
    batch_size: int
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    internal: bool = False

    @property
    def units(self) -> int:
        return -(-self.rows // self.unit_rows)

    @property
    def has_views(self) -> bool:
        return any("@" in name for name in self.shapes)

    def unit_range(self, unit: int) -> tuple[int, int]:
        """First row and row after the last of a unit."""
        start = unit * self.unit_rows
        return start, min(start + self.unit_rows, self.rows)

    def rows_of(self, units: Sequence[int]) -> NDArray[np.intp]:
        """(n,) the rows of several units, in their order."""
        return np.array([row for unit in units for row in range(*self.unit_range(unit))], np.intp)

    def array_names(self) -> list[str]:
        """Every array of the group, the bookkeeping ones last."""
        names = [array for output in self.shapes for array in self.arrays_of(output)]
        return [*names, "status", *(["viewed"] if self.has_views else [])]

    def arrays_of(self, output: str) -> list[str]:
        """See `stored_arrays`."""
        return stored_arrays(output, self.dtype)

    @property
    def values_dtype(self) -> str:
        """What features are given out in that were not asked for as float32."""
        return "float32" if self.dtype == INT8 else self.dtype

    def row_shape(self, array: str) -> tuple[int, ...]:
        kind, _, output = array.partition("/")
        if kind == "scales":
            return self.shapes[output][:-1]
        return self.shapes[output] if kind == "features" else ()

    def dimensions(self, array: str) -> tuple[str, ...]:
        """Names of an array's axes: ``image``, then those of its network output, which are no other's."""
        output = array.partition("/")[2]
        name, rank = output.partition("@")[0], len(self.shapes.get(output, ()))
        inner = AXES.get(rank, tuple(f"axis{number}" for number in range(rank)))
        return ("image", *(f"{name}_{axis}" for axis in inner))[: 1 + len(self.row_shape(array))]

    def array_dtype(self, array: str) -> str:
        kind = array.partition("/")[0]
        return {"features": self.dtype, "scales": "float32"}.get(kind, "uint8")

    def absent(self, array: str) -> float | int:
        """What stands where a row has no features: NaN, which 8 bits leave to their scales."""
        return math.nan if np.dtype(self.array_dtype(array)).kind == "f" else 0

    def chunk_name(self, array: str, unit: int) -> str:
        """File of a unit's chunk: rows are chunked by R, every other axis is whole."""
        return "/".join(["data.zarr", array, "c", str(unit), *("0" for _ in self.row_shape(array))])

    def chunk_bytes(self, array: str) -> int:
        """Exact size of a chunk file: zarr pads the last unit, and crc32c adds four bytes."""
        values = self.unit_rows * math.prod(self.row_shape(array))
        return values * np.dtype(self.array_dtype(array)).itemsize + 4

    def row_bytes(self, output: str) -> int:
        """Of one row of an output."""
        sizes = ((math.prod(self.row_shape(a)), self.array_dtype(a)) for a in self.arrays_of(output))
        return sum(values * np.dtype(dtype).itemsize for values, dtype in sizes)

    def total_bytes(self) -> int:
        return self.units * sum(self.chunk_bytes(name) for name in self.array_names())

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"shapes": {name: list(shape) for name, shape in self.shapes.items()}}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Layout:
        """Check and read a layout record; StoreError names what is off."""
        try:
            layout = cls(
                key=str(value["key"]),
                rows=int(value["rows"]),
                unit_rows=int(value["unit_rows"]),
                batch_size=int(value["batch_size"]),
                shapes={str(name): tuple(map(int, shape)) for name, shape in value["shapes"].items()},
                dtype=str(value["dtype"]),
                internal=bool(value["internal"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StoreError(f"{where} does not hold a store's record", found=repr(error)) from error
        plain = all(OUTPUT_NAME.fullmatch(name) for name in layout.shapes) and not all(
            "@" in name for name in layout.shapes
        )
        known = layout.dtype in DTYPES
        sane = known and layout.rows > 0 and 0 < layout.batch_size <= layout.unit_rows and plain
        sane = sane and all(min(shape, default=0) > 0 for shape in layout.shapes.values())
        sane = sane and layout.units <= MOST_UNITS and layout.total_bytes() <= MOST_BYTES
        sane = sane and all(layout.chunk_bytes(name) <= MOST_CHUNK for name in layout.array_names())
        if not sane:
            raise StoreError(f"{where} holds a store's record with impossible values")
        return layout


MOST_UNITS, MOST_BYTES, MOST_CHUNK = 10_000_000, 1 << 50, 1 << 32
"""What no store has; a record that says so would be believed for hours."""

OUTPUT_NAME = re.compile(r"[A-Za-z0-9_.:-]+(@[1-9][0-9]*)?")
"""What an array may be called: one path component, since names become folders."""


def unit_rows(rows: int, batch_size: int, widest_row: int) -> int:
    """R for a new store: a multiple of the batch, 256 by default.

    Parameters
    ----------
    rows : N; above a million, units grow so that a store has some thousands of files and not millions.
    widest_row : bytes of one row of the widest output; a unit of it stays under 16 MB where the batch allows.
    """
    target = 256
    while rows > target * 4096:
        target *= 2
    target = min(target, max(UNIT_BYTES // widest_row, 1))
    return max(target // batch_size, 1) * batch_size
