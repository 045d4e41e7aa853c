"""What a file of embeddings holds, before it is checked and becomes a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, UNLABELLED
from probe.datasets.labels import SPLIT_WORDS, class_order
from probe.datasets.listing import string_array
from probe.errors import DataError

BLOCK_BYTES = 8 << 20
"""What is held of the features at once, bytes."""


@dataclass(frozen=True)
class Labelling:
    """Who N rows are. Everything but `labels` may be unknown.

    Attributes
    ----------
    labels : (N,) int32 into `classes`, -1 unlabelled.
    classes : class names in label order.
    ids, splits, hashes, groups : (N,) strings, or None where the file does not say.
    """

    labels: NDArray[np.int32]
    classes: tuple[str, ...] = ()
    ids: NDArray[np.str_] | None = None
    splits: NDArray[np.str_] | None = None
    hashes: NDArray[np.str_] | None = None
    groups: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def unknown(cls, count: int) -> Labelling:
        return cls(np.full(count, UNLABELLED, np.int32))


@dataclass(frozen=True)
class FeatureTable:
    """Embeddings (N, D) or (N, H, W, C), in memory or mapped, and what the same file says of the rows.

    Raises DataError on creation when the array cannot be embeddings.
    """

    origin: str
    features: NDArray[Any]
    labelling: Labelling | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        features = self.features
        if features.dtype.kind != "f" or features.ndim not in (2, 4) or not features.size:
            images = features.dtype == np.uint8 and features.ndim in (3, 4)
            raise DataError(
                f"{self.origin} does not hold embeddings",
                expected="floating-point numbers (N, D) or (N, H, W, C), at least one",
                found=f"{features.dtype} {features.shape}",
                hint="these look like images: probe extract computes embeddings of them" if images else None,
            )
        if self.labelling is not None and len(self.labelling) != len(features):
            raise DataError(
                f"{self.origin} has not one label for each row of features",
                expected=str(len(features)),
                found=str(len(self.labelling)),
            )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dtype(self) -> str:
        """Of the store: float16 stays, everything else becomes float32."""
        return "float16" if self.features.dtype == np.float16 else "float32"

    def block(self, start: int, stop: int) -> NDArray[Any]:
        """Rows as the store keeps them; values beyond the range of float32 become infinite."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(self.features[start:stop], dtype=self.dtype)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first row, rows) over everything, a few MB at a time."""
        step = max(1, BLOCK_BYTES // (8 * int(np.prod(self.features.shape[1:]))))
        for start in range(0, len(self), step):
            yield start, self.block(start, min(start + step, len(self)))


def parse_labelling(
    origin: str,
    labels: NDArray[Any] | None,
    *,
    count: int,
    classes: Sequence[str] | None = None,
    ids: NDArray[Any] | None = None,
    splits: NDArray[Any] | None = None,
    hashes: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> Labelling:
    """Check the columns of a file and bring them into one form. Raises DataError naming column and row."""
    label_values, names = _labels(origin, labels, count, classes)
    row_ids = None if ids is None else _strings(origin, "ids", ids, count)
    if row_ids is not None:
        _expect_unique(origin, row_ids)
    row_hashes = None if hashes is None else _strings(origin, "hashes", hashes, count)
    if row_hashes is not None and not all(_is_hash(text) for text in row_hashes.tolist()):
        raise DataError(f"the hashes of {origin} are none", expected="64 hex digits, or nothing")
    row_splits = None if splits is None else _splits(origin, _strings(origin, "splits", splits, count))
    row_groups = None if groups is None else _strings(origin, "groups", groups, count)
    return Labelling(label_values, names, row_ids, row_splits, row_hashes, row_groups)


def _labels(
    origin: str, labels: NDArray[Any] | None, count: int, classes: Sequence[str] | None
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if labels is None:
        return Labelling.unknown(count).labels, tuple(classes or ())
    labels = np.asarray(labels)
    if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "iuUS":
        raise DataError(
            f"the labels of {origin} are not one class a row",
            expected=f"whole numbers or names ({count},)",
            found=f"{labels.dtype} {labels.shape}",
        )
    labels = labels.reshape(count)
    if labels.dtype.kind in "iu" and classes is not None:
        return _numbers(origin, labels, len(classes)), tuple(classes)
    names = texts_of(origin, "labels", labels)
    if labels.dtype.kind == "i":
        names = ["" if name == str(UNLABELLED) else name for name in names]
    known = tuple(classes) if classes is not None else class_order(set(names) - {""})
    place = {name: number for number, name in enumerate(known)} | {"": UNLABELLED}
    strange = next((row for row, name in enumerate(names) if name not in place), None)
    if strange is not None:
        raise DataError(f"{origin}, row {strange}: {names[strange]!r} is none of the classes of the file")
    return np.array([place[name] for name in names], dtype=np.int32), known


def _numbers(origin: str, labels: NDArray[Any], classes: int) -> NDArray[np.int32]:
    wrong = np.flatnonzero((labels < UNLABELLED) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{origin}, row {wrong[0]}: the label is no class",
            expected=f"0 to {classes - 1}, or -1 for none",
            found=str(labels[wrong[0]]),
        )
    return labels.astype(np.int32)


def _strings(origin: str, column: str, values: NDArray[Any], count: int) -> NDArray[np.str_]:
    values = np.asarray(values)
    if values.shape != (count,) or values.dtype.kind not in "USiu":
        raise DataError(
            f"the {column} of {origin} are not one text a row",
            expected=f"text ({count},)",
            found=f"{values.dtype} {values.shape}",
        )
    return string_array(texts_of(origin, column, values))


def texts_of(origin: str, column: str, values: NDArray[Any]) -> list[str]:
    """Names or whole numbers (n,) as texts; bytes are those of UTF-8."""
    try:
        texts: list[str] = (
            np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(np.str_)
        ).tolist()
        # Half a pair of UTF-16 is a letter to numpy, and to no file.
        "".join(texts).encode()
    except UnicodeError as error:
        raise DataError(f"the {column} of {origin} are not text", found=str(error)) from error
    return texts


def _expect_unique(origin: str, ids: NDArray[np.str_]) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any() or "" in values:
        found = repr(str(values[counts > 1][0])) + " twice" if (counts > 1).any() else "an empty one"
        raise DataError(f"the ids of {origin} do not name the rows", expected="one id a row", found=found)


def _splits(origin: str, splits: NDArray[np.str_]) -> NDArray[np.str_]:
    words = [word.strip().lower() for word in splits.tolist()]
    strange = next((row for row, word in enumerate(words) if word not in SPLIT_WORDS), None)
    if strange is not None:
        raise DataError(
            f"{origin}, row {strange}: {words[strange]!r} is not a split",
            expected="train, val, test or nothing",
        )
    return string_array([SPLIT_WORDS[word] for word in words])


def _is_hash(text: str) -> bool:
    return not text or (len(text) == 64 and set(text) <= set("0123456789abcdef"))


def default_ids(count: int) -> NDArray[np.str_]:
    """``row/000000`` and so on: the rows of a file that does not name them."""
    return string_array([f"row/{row:06d}" for row in range(count)])


def no_splits(count: int) -> NDArray[np.str_]:
    return np.full(count, NO_SPLIT, dtype="<U5")
