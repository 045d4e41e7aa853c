"""Small pictures for a page: single ones, and sheets of many."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.datasets import Dataset
from probe.images.decode import ImageError, thumbnail
from probe.machine import usable_cpus

Pixels = NDArray[np.uint8]

TILE, SHEET_TILES = 64, 20
"""Pixels of a side of a tile, and tiles of a side of a sheet."""
SINGLE = 112
"""Pixels of the longer side of a picture that is shown by itself."""
QUALITY = 76


@dataclass(frozen=True)
class Sheets:
    """Tiles side by side, row by row, sheet after sheet.

    Attributes
    ----------
    rows : (T,) the row of the store that each tile shows.
    uris : the sheets as data URIs.
    """

    rows: NDArray[np.intp]
    uris: tuple[str, ...]


class Pictures:
    """The pictures of a data set whose rows are those of a store; what cannot be read has none."""

    def __init__(self, dataset: Dataset, *, exif: bool) -> None:
        self._dataset, self._exif = dataset, exif

    def small(self, row: int, side: int) -> Pixels | None:
        """(H, W, 3) uint8 of a row, its longer side `side` where the picture has as much."""
        try:
            return _enlarged(thumbnail(self._dataset.source.read(row), side, exif=self._exif), side)
        except (ImageError, OSError):
            return None

    def uri(self, row: int) -> str | None:
        """A row's picture by itself, as a data URI."""
        found = self.small(row, SINGLE)
        return None if found is None else data_uri(found)

    def sheets(self, rows: NDArray[np.intp]) -> Sheets:
        """Tiles of `rows`, those that cannot be read left out."""
        with ThreadPoolExecutor(usable_cpus()) as pool:
            pictures = list(pool.map(lambda row: self.small(row, TILE), rows.tolist()))
        read = zip(rows.tolist(), pictures, strict=True)
        tiles = [(row, picture) for row, picture in read if picture is not None]
        whole = SHEET_TILES**2
        parts = [tiles[start : start + whole] for start in range(0, len(tiles), whole)]
        uris = tuple(data_uri(sheet([picture for _, picture in part], TILE, SHEET_TILES)) for part in parts)
        return Sheets(np.array([row for row, _ in tiles], np.intp), uris)


def _enlarged(pixels: Pixels, side: int) -> Pixels:
    """Pictures of a few pixels several times as large, every pixel a square."""
    times = side // max(pixels.shape[:2])
    return pixels.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else pixels


def sheet(tiles: Sequence[Pixels | None], side: int, columns: int) -> Pixels:
    """(H, W, 4): `columns` squares of `side` pixels a line, a tile in the middle of each."""
    lines = -(-len(tiles) // columns)
    whole = np.zeros((lines * side, min(len(tiles), columns) * side, 4), np.uint8)
    for number, tile in enumerate(tiles):
        if tile is None:
            continue
        line, column = divmod(number, columns)
        height, width = tile.shape[:2]
        top, left = line * side + (side - height) // 2, column * side + (side - width) // 2
        place = whole[top : top + height, left : left + width]
        place[..., :3], place[..., 3] = tile, 255
    return whole


def data_uri(pixels: Pixels) -> str:
    """``data:image/webp;base64,…`` of a picture (H, W, 3) uint8, or (H, W, 4) with its opacity."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()


def evenly(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """At most `count` of `rows`, evenly spread."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.intp)]


def by_class(labels: NDArray[np.integer], rows: NDArray[np.intp], each: int) -> Iterable[NDArray[np.intp]]:
    """Of every class that `rows` have, in label order, at most `each` rows, evenly spread."""
    for label in np.unique(labels[rows]):
        yield evenly(rows[labels[rows] == label], each)
