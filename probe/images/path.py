"""Which way a picture takes from a file to pixels, and what stores and runs record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE, SCALED = "pillow-1", "pillow-2"
"""Versions of the pixel path: a new one where the same file would give other pixels.

``pillow-1`` decodes every picture in full. ``pillow-2`` decodes large JPEGs at a fraction, see
`SCALED_FROM`; every other picture is bit for bit the same.
"""

POLICY = SCALED
"""What is followed today. A set that has no large JPEG is recorded as ``pillow-1``, which it is."""

SCALED_LEAVES = 3
"""A large JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 that leaves this many times the wanted side, so
that the antialiased resize still does the rest. Where it left twice the side, sharp pictures differed from
those decoded in full by 0.9 grey levels on average (median of twelve) and 14 at most; three times leaves 0.4.
Photographs of 12 megapixels are decoded at 1/4 for 224 pixels either way."""

SCALED_FROM = 2 * SCALED_LEAVES
"""How many times the wanted side the shorter side of a JPEG has that is decoded at 1/2."""


@dataclass(frozen=True)
class PixelPath:
    """How files become pixels.

    Attributes
    ----------
    exif : apply the EXIF orientation.
    scaled : decode large JPEGs at a fraction.
    """

    exif: bool = False
    scaled: bool = False

    def key_part(self) -> dict[str, Any]:
        """What stores and runs record; part of a store's key."""
        return {"policy": SCALED if self.scaled else WHOLE, "resize": "stretch", "exif": self.exif}

    def text(self) -> str:
        """How JPEGs are decoded, for people who make the same pixels with other means."""
        if not self.scaled:
            return "every picture is decoded in full"
        return (
            f"a JPEG whose shorter side is at least {SCALED_FROM} times the input's is decoded at the "
            f"smallest of 1/2, 1/4 and 1/8 that leaves {SCALED_LEAVES} times the input (Pillow's draft); any "
            "other picture is decoded in full"
        )


IN_FULL = PixelPath()


def pixel_path(sides: NDArray[np.integer[Any]] | None, size: int, *, exif: bool = False) -> PixelPath:
    """The way of a set of pictures to `size` × `size`: in full unless one of them is decoded at a fraction.

    `sides` (N,) holds `probe.jpeg.jpeg_side` of each; None where they are not known, and no picture is
    decoded at a fraction then.
    """
    return PixelPath(exif, sides is not None and bool(is_large(sides, size).any()))


def is_large(sides: NDArray[np.integer[Any]], size: int) -> NDArray[np.bool_]:
    """(N,) which pictures are decoded at a fraction where the path allows it; `sides` as `pixel_path`."""
    return np.asarray(sides >= SCALED_FROM * size)


def same_pixels(
    recorded: Mapping[str, Any],
    path: PixelPath,
    sides: NDArray[np.integer[Any]] | None,
    size: int,
    count: int,
) -> NDArray[np.bool_]:
    """(count,) which pictures have the same pixels by a recorded way as by `path`; `sides` as above."""
    wanted = path.key_part()
    if recorded == wanted:
        return np.ones(count, bool)
    other_version = recorded == {**wanted, "policy": WHOLE if path.scaled else SCALED}
    if not other_version or sides is None:
        return np.zeros(count, bool)
    return ~is_large(sides, size)


def recorded_path(pixels: Mapping[str, Any] | None, policy: str | None) -> PixelPath:
    """The way that new pictures take to the network of a run.

    A run says which version its maker followed (`policy`), beside what its own pictures needed (`pixels`);
    one from before there were two followed the first.
    """
    needed = pixels or {}
    return PixelPath(bool(needed.get("exif", False)), (policy or needed.get("policy", WHOLE)) == SCALED)
