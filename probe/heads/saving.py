"""A fitted head on disk: ``head.json`` (what it is) and ``head.npz`` (its arrays). No pickle either way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.archives import read_arrays
from probe.durable import replacing
from probe.errors import DataError, UnknownNameError
from probe.hashing import file_hash
from probe.heads import HEADS
from probe.heads.head import Head
from probe.registry import load_object
from probe.whole import open_file, read_json

SCHEMA = 1
META_FILE, ARRAYS_FILE = "head.json", "head.npz"


def save_head(head: Head, folder: Path) -> None:
    """Write the head into an existing folder; ``head.json`` comes last, so without it there is no head."""
    arrays = {name: np.ascontiguousarray(array) for name, array in head.arrays().items()}
    with replacing(folder / ARRAYS_FILE) as partial:
        np.savez(partial, allow_pickle=False, **arrays)
    record = {
        "schema": SCHEMA,
        "head": head.name,
        "meta": head.meta(),
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
        "sha256": file_hash(folder / ARRAYS_FILE),
    }
    with replacing(folder / META_FILE) as partial:
        partial.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


def load_head(folder: Path) -> Head:
    """The head that `save_head` wrote; DataError when a file is missing, damaged or of another version."""
    record = _read_record(folder / META_FILE)
    arrays = _read_arrays(folder / ARRAYS_FILE, record)
    head_class = load_object(HEADS[record["head"]].head)
    try:
        head: Head = head_class.from_arrays(arrays, record["meta"])
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(folder, f"its arrays and its description disagree: {error}") from error
    return head


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except FileNotFoundError as error:
        raise DataError(
            f"there is no head in {path.parent}", expected=str(path), hint="fit one with `probe fit`"
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise DataError(
            f"{path} is a head of another version",
            expected=f"schema {SCHEMA}",
            found=f"schema {found}",
            hint="fit the head again, or use the version of probe that wrote it",
        )
    kinds = {"head": str, "meta": dict, "arrays": dict, "sha256": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(record.get(key), kind)]
    if wrong:
        raise _damaged(path, f"missing or wrong: {', '.join(wrong)}")
    if record["head"] not in HEADS:
        raise UnknownNameError(f"{path} names an unknown head", found=record["head"][:80])
    return record


def _read_arrays(path: Path, record: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays, after every cheap check that they are what the record promises."""
    try:
        open_file(path).close()
        if file_hash(path) != record["sha256"]:
            raise _damaged(path, "another hash than head.json records")
        arrays = read_arrays(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    found = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    if found != record["arrays"]:
        raise _damaged(path, f"arrays {sorted(found)}", expected=f"arrays {sorted(record['arrays'])}")
    return arrays


def _damaged(path: Path | os.PathLike[str], found: str, expected: str | None = None) -> DataError:
    return DataError(
        f"the saved head {path} is damaged", expected=expected, found=found, hint="fit the head again"
    )
