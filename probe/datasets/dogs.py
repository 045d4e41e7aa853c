"""Dogs-vs-cats: Microsoft's PetImages or Kaggle's flat train folder, whole or the text-book's 4,000."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.config import Home
from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, VAL
from probe.datasets.files import find_images
from probe.datasets.folder import labelled_files
from probe.datasets.layout import layout_error
from probe.datasets.listing import (
    Listing,
)
from probe.datasets.opening import DatasetOptions
from probe.datasets.place import find_data
from probe.datasets.row import DatasetRow
from probe.datasets.sources import FileSource
from probe.text import count_of

CLASSES = ("cat", "dog")
SMALL = "2000"
SMALL_PARTS = ((TRAIN, 0, 1000), (VAL, 1000, 1500), (TEST, 1500, 2000))
"""Split, first and last-but-one place among the images of a class in the order of their numbers."""

_FORMS = (
    re.compile(r"(?:PetImages/)?(?P<kind>cat|dog)/(?P<number>\d+)\.jpg", re.IGNORECASE),
    re.compile(r"(?:train/)?(?P<kind>cat|dog)\.(?P<number>\d+)\.jpg", re.IGNORECASE),
)


def read_dogs(row: DatasetRow, home: Home, options: DatasetOptions) -> Listing:
    """PetImages/Cat/0.jpg or train/cat.0.jpg; other files are left out."""
    base = find_data(row, home, options.source)
    found = find_images(base)
    matches = [(name, match) for name in found.images if (match := _match(name))]
    if not matches:
        raise layout_error(row, base, "no cats and dogs in it", "PetImages/Cat/0.jpg … or train/cat.0.jpg …")
    names = [name for name, _ in matches]
    kinds = [match["kind"].lower() for _, match in matches]
    numbers = [int(match["number"]) for _, match in matches]
    beside = len(found.images) - len(names)
    listing = labelled_files(base, names, kinds, [NO_SPLIT] * len(names), CLASSES).noting(
        *found.notes(), f"left out: {count_of(beside, 'image')} beside the cats and dogs" if beside else ""
    )
    if row.variant != SMALL:
        return listing
    return _small(row, base, listing, dict(zip(names, numbers, strict=True)))


def _small(row: DatasetRow, base: Path, listing: Listing, numbers: dict[str, int]) -> Listing:
    """The first 1,000 / 500 / 500 of each class by number, empty files passed over."""
    source = FileSource(base, listing.ids.tolist())
    chosen: list[int] = []
    splits = listing.splits.astype("<U5")
    for label, kind in enumerate(CLASSES):
        rows = [int(place) for place in np.flatnonzero(listing.labels == label)]
        rows = [place for place in rows if source.path(place).stat().st_size]
        rows.sort(key=lambda place: numbers[str(listing.ids[place])])
        if len(rows) < SMALL_PARTS[-1][2]:
            raise layout_error(
                row, base, f"too few images of a {kind}", f"{SMALL_PARTS[-1][2]:,}; there are {len(rows):,}"
            )
        for split, first, last in SMALL_PARTS:
            splits[rows[first:last]] = split
        chosen += rows[: SMALL_PARTS[-1][2]]
    return replace(listing, splits=splits).take(np.sort(np.array(chosen, dtype=np.intp)))


def _match(name: str) -> re.Match[str] | None:
    return next((match for form in _FORMS if (match := form.fullmatch(name))), None)
