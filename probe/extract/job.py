"""What an extraction is asked to do, and the identity that follows from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.backbone import NO_WEIGHTS, BackboneSpec
from probe.config import Home
from probe.datasets.dataset import TRAIN, Dataset
from probe.errors import DataError, UsageError
from probe.images.augment import Augment
from probe.images.path import PixelPath, pixel_path
from probe.store import INT8, Index, StoreSpec, images_digest, store_path


def expect_fits(dtype: str, backbone: str, *, is_network: bool) -> None:
    """UsageError where what a backbone gives is not to be stored in `dtype`."""
    if dtype == INT8 and not is_network:
        raise UsageError(
            f"{backbone} cannot be stored as int8",
            expected="features of a network",
            found="256 whole numbers, of which 127 steps of a scale would lose every second",
            hint="--store-dtype float16, which keeps them as they are",
        )


@dataclass(frozen=True)
class Views:
    """Augmented views stored beside the plain one.

    Attributes
    ----------
    count : K views of each image that has views.
    augment : what they are drawn from; a view depends on seed, image content and its number alone.
    everywhere : views of every image instead of the training part only.
    """

    count: int
    augment: Augment
    seed: int = 0
    everywhere: bool = False


@dataclass(frozen=True)
class ExtractJob:
    """One backbone over one data set.

    Attributes
    ----------
    batch_size : images the network computes at once; None takes the store's own, or a trial's choice.
    exif : apply the EXIF orientation (changes the pixels, so it is part of the key).
    dtype : of the stored features, ``float32``, ``float16`` or ``int8``.
    internal : a prefix cache, never "the newest store".
    """

    dataset: Dataset
    backbone: BackboneSpec
    batch_size: int | None = None
    exif: bool = False
    dtype: str = "float32"
    views: Views | None = None
    internal: bool = False

    def __post_init__(self) -> None:
        if not len(self.dataset):
            raise DataError(f"{self.dataset.name} has no images")
        expect_fits(self.dtype, self.backbone.name, is_network=self.backbone.weights != NO_WEIGHTS)
        if self.views is not None and not self.viewed_rows().any():
            raise DataError(
                f"{self.dataset.name} has no training part to take views of",
                hint="--views-of all, or labels and a split",
            )

    def viewed_rows(self) -> NDArray[np.bool_]:
        """(N,) which rows have augmented views."""
        if self.views is None:
            return np.zeros(len(self.dataset), dtype=bool)
        return np.asarray((self.dataset.splits == TRAIN) | self.views.everywhere)

    @property
    def pixels(self) -> PixelPath:
        """The way of its pictures; with one that is decoded at a fraction, the store is another."""
        return pixel_path(self.dataset.jpeg_sides, self.backbone.size, exif=self.exif)

    def spec(self) -> StoreSpec:
        """The identity of the store this job fills; needs no network."""
        return StoreSpec(
            backbone=self.backbone.key_part(),
            pixels=self.pixels.key_part(),
            views=self._views_key(),
            dtype=self.dtype,
            images=self._images,
        )

    @cached_property
    def _images(self) -> str:
        return images_digest(self.dataset.ids, self.dataset.hashes)

    def _views_key(self) -> dict[str, Any] | None:
        if self.views is None:
            return None
        return {
            "count": self.views.count,
            "augment": self.views.augment.key_part(),
            "seed": self.views.seed,
            "rows": hashlib.sha256(np.packbits(self.viewed_rows()).tobytes()).hexdigest(),
        }

    def path(self, home: Home) -> Path:
        """Where its store lies, or will."""
        return store_path(home, self.dataset.name, self.backbone.name, self.spec().key)

    def index(self) -> Index:
        """The data set's rows as a store keeps them."""
        data = self.dataset
        classes = np.array(data.classes, dtype=np.str_)
        return Index(data.ids, data.hashes, data.labels, data.splits, classes, data.groups)
