"""Tables of pictures: which column is the picture, which the label, and what its values are as classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, UNLABELLED
from probe.datasets.files import is_utf8
from probe.datasets.labels import DIGITS, class_order
from probe.datasets.listing import Listing, string_array
from probe.datasets.split_names import SPLIT_FOLDERS
from probe.errors import DataError, UsageError

LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls", "y")
"""What a label column is called where nothing else tells that it is one."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are used; without a label column the pictures have no labels."""

    image: str
    label: str | None

    def notes(self, others: Sequence[str]) -> tuple[str, ...]:
        """What to say where no label was recognised among `others`."""
        if self.label is not None:
            return ()
        left = [name for name in others if name != self.image]
        hint = f": --columns {self.image},{left[0]} takes a column as one" if left else ""
        return (f"no label column was recognised{hint}",)


def choose_columns(
    where: str, every: Sequence[str], images: Sequence[str], labels: Sequence[str], asked: Sequence[str]
) -> Columns:
    """The picture and the label among the columns `every` of a table.

    Parameters
    ----------
    images, labels : the columns that look like one.
    asked : (image,) or (image, label) as the user named them; empty to choose by what there is.

    Raises DataError when there is no picture, UsageError when there are several of either or a name is wrong.
    """
    if asked:
        unknown = [name for name in asked if name not in every]
        if unknown or asked[0] not in images or len(asked) > 2:
            raise UsageError(
                f"--columns does not fit {where}",
                expected=f"IMAGE or IMAGE,LABEL, the image one of {', '.join(images)}",
                found=",".join(asked),
            )
        return Columns(asked[0], asked[1] if len(asked) > 1 else None)
    if not images:
        raise DataError(
            f"{where} has no column of encoded pictures",
            expected="binary values, or {bytes, path} as Hugging Face writes them",
            found="columns " + ", ".join(every),
        )
    if len(images) > 1 or len(labels) > 1:
        raise UsageError(
            f"{where} can be read in several ways",
            found=f"pictures {', '.join(images)}; labels {', '.join(labels) or 'none'}",
            hint=f"--columns {images[0]}" + (f",{labels[0]}" if labels else ""),
        )
    return Columns(images[0], labels[0] if labels else None)


def split_of(name: str) -> str:
    """The split that a file or part is of by its name or the folder it lies in, ``""`` where none is told."""
    for part in (PurePath(name).stem, *reversed(PurePath(name).parts[:-1])):
        words = [word for word in re.split(r"[^a-z]+", part.lower()) if word in SPLIT_FOLDERS]
        if len({SPLIT_FOLDERS[word] for word in words}) == 1:
            return SPLIT_FOLDERS[words[0]]
    return NO_SPLIT


def number_classes(
    where: str, values: Sequence[Any], names: Sequence[str] = ()
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """(N,) labels and the classes they number; None, "" and numbers below 0 are unlabelled.

    Whole numbers are places in `names` where those are known, and otherwise classes of that name.
    Raises DataError where a value is neither a text nor a whole number.
    """
    texts = [_text(where, value) for value in values]
    if not is_utf8("".join(set(texts))):
        raise DataError(f"{where} has labels that are no text", expected="letters that UTF-8 can spell")
    if names:
        wrong = [text for text in texts if text and not _is_below(text, len(names))]
        if wrong:
            raise DataError(
                f"{where} has a label that is no class", expected=f"0 to {len(names) - 1}", found=wrong[0]
            )
        return np.array([int(text) if text else UNLABELLED for text in texts], np.int32), tuple(names)
    classes = class_order(set(texts) - {""})
    number = {name: label for label, name in enumerate(classes)} | {"": UNLABELLED}
    return np.array([number[text] for text in texts], np.int32), classes


def _is_below(text: str, count: int) -> bool:
    return text.isdecimal() and len(text) <= DIGITS and int(text) < count


def _text(where: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer()):
        return str(int(value)) if value >= 0 else ""
    raise DataError(
        f"{where} has labels that are not one class each",
        expected="texts or whole numbers",
        found=f"{type(value).__name__}: {str(value)[:80]}",
    )


def parted(listing: Listing, parts: Sequence[str]) -> Listing:
    """`listing` with (N,) names of the parts its rows came in as its splits.

    Parts of one split alone are none: sets that were never divided come as one called train. Rows of a part
    that is none of train, validation and test are left without a split, and said.
    """
    splits = string_array([split_of(part) for part in parts])
    if len(set(splits.tolist())) < 2:
        return listing
    others = sorted({part for part, split in zip(parts, splits.tolist(), strict=True) if split == NO_SPLIT})
    note = f"in no split: the rows of {', '.join(others)}" if others else ""
    return Listing(**{**vars(listing), "splits": splits.astype("<U5")}).noting(note)
