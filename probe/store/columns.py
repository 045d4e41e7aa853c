"""Columns of an index on disk: text end to end, hashes as bytes, repeated names as numbers.

Each is read by itself. A row takes what its id and its hash have as bytes: text of a fixed width takes four
bytes for every character of the longest, and 256 for a hash.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Rows that are text at a time."""
HASH = 32
TEXT, ENDS, NAMES = "_text", "_ends", "_names"
RANDOM = ("hashes",)
"""Columns that do not shrink."""

Columns = Mapping[str, NDArray[Any]]


def pack_text(name: str, column: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """Texts (N,) end to end as bytes, and where each ends."""
    parts, ends = [], np.empty(len(column), np.int64)
    for start in range(0, len(column), BLOCK):
        texts = [text.encode("utf-8", "surrogatepass") for text in column[start : start + BLOCK].tolist()]
        ends[start : start + len(texts)] = [len(text) for text in texts]
        parts.append(b"".join(texts))
    content = np.frombuffer(b"".join(parts), np.uint8)
    return {name + TEXT: content, name + ENDS: np.cumsum(ends)}


def unpack_text(name: str, columns: Columns) -> Iterator[list[str]]:
    """The texts, a block at a time; ValueError or KeyError where they do not fit their ends."""
    content, ends = columns[name + TEXT], columns[name + ENDS]
    if ends.dtype != np.int64 or content.dtype != np.uint8 or content.ndim != 1 or ends.ndim != 1:
        raise ValueError(f"{name} are of another type")
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    if (ends < starts).any() or (len(ends) and (starts[0] != 0 or ends[-1] != len(content))):
        raise ValueError(f"{name} do not fit their ends")
    for first in range(0, len(ends), BLOCK):
        some = slice(first, first + BLOCK)
        left, right = starts[some].tolist(), ends[some].tolist()
        raw = content[left[0] : right[-1]].tobytes()
        cut = [(a - left[0], b - left[0]) for a, b in zip(left, right, strict=True)]
        whole = raw.decode("ascii") if raw.isascii() else None
        yield [whole[a:b] if whole is not None else raw[a:b].decode("utf-8", "surrogatepass") for a, b in cut]


def text_column(blocks: Iterator[list[str]]) -> NDArray[np.str_]:
    """(N,) of `unpack_text`."""
    parts = [np.array(block, np.str_) for block in blocks]
    return np.concatenate(parts) if parts else np.empty(0, np.str_)


def pack_hashes(column: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """sha256 of (N,) rows as (N, 32) bytes, zeros for ""; as text where they are something else."""
    try:
        packed = hash_bytes(column)
    except ValueError:
        return pack_text("hashes", column)
    for start in range(0, len(column), BLOCK):
        some = slice(start, start + BLOCK)
        if hash_texts(packed[some]) != column[some].tolist():
            return pack_text("hashes", column)
    return {"hashes": packed.view(np.uint8).reshape(-1, HASH)}


def hash_bytes(hashes: NDArray[np.str_]) -> NDArray[np.bytes_]:
    """(N,) sha256 as 64 hex digits, or "" -> 32 bytes, an eighth of the memory; ValueError for other text."""
    out = np.empty(len(hashes), "S32")
    for start in range(0, len(hashes), BLOCK):
        part = hashes[start : start + BLOCK].tolist()
        if any(len(text) not in (0, 2 * HASH) for text in part):
            raise ValueError("a content hash that is no sha256")
        content = bytes.fromhex("".join(text or 2 * HASH * "0" for text in part))
        out[start : start + BLOCK] = np.frombuffer(content, "S32")
    return out


def hash_texts(packed: NDArray[np.bytes_]) -> list[str]:
    """The inverse of `hash_bytes`: "" where all bytes are zero."""
    digits = np.ascontiguousarray(packed).tobytes().hex()
    nothing, width = 2 * HASH * "0", 2 * HASH
    texts = [digits[place : place + width] for place in range(0, len(digits), width)]
    return ["" if text == nothing else text for text in texts]


def content_bytes(hashes: NDArray[np.str_]) -> NDArray[np.bytes_]:
    """(N,) 32 bytes, equal where the hashes are, zeros for ""."""
    try:
        return hash_bytes(hashes)
    except ValueError:
        digests = [
            hashlib.sha256(text.encode()).digest() if text else bytes(HASH) for text in hashes.tolist()
        ]
        return np.array(digests, "S32")


def pack_names(name: str, column: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """Texts (N,) of few values as numbers (N,) of one byte or four, and the values."""
    values, numbers = np.unique(column, return_inverse=True)
    kind = np.uint8 if len(values) < 1 << 8 else np.uint32
    return {name: numbers.astype(kind), **pack_text(name + NAMES, values)}


def unpack_names(name: str, columns: Columns) -> NDArray[np.str_]:
    """(N,) of `pack_names`; ValueError where a number has no value."""
    values, numbers = text_column(unpack_text(name + NAMES, columns)), columns[name]
    if numbers.dtype.kind != "u" or numbers.ndim != 1 or (len(numbers) and numbers.max() >= len(values)):
        raise ValueError(f"{name} has numbers without a name")
    return values[numbers] if len(values) else np.empty(0, np.str_)


def write_columns(path: Path, columns: Columns) -> None:
    """All columns as one ``.npz``."""
    # The fastest: what shrinks here shrinks at once.
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:
        for name, column in columns.items():
            archive.compression = zipfile.ZIP_STORED if name in RANDOM else zipfile.ZIP_DEFLATED
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                stream = io.BytesIO()
                np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(column))
                file.write(stream.getvalue())
                file.write(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
