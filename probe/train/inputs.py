"""Arrays to batches: what the training loop reads, shuffled, augmented and normalised."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.images.augment import Augment, draw, row_seeds, transform_pixels

NORMALISER_BATCH = 1024
"""Images looked at together: they may be mapped from a file that is larger than memory."""


AHEAD = 2
"""Batches, or chunks of small ones, that are made at the same time and ahead of the network."""

CHUNK_ROWS = 1024
CHUNK_BYTES = 32 << 20
"""The most that is gathered, augmented and normalised in one go, counted as float32."""


@dataclass(frozen=True)
class Part:
    """One part of the data.

    Attributes
    ----------
    inputs : (N, …) array, or a tuple of them for a network with several inputs; anything that gives
        rows for an integer array, ``inputs[rows]``, will do (a memory map, for instance, or `Rows`).
    labels : (N,) int32.
    units : (N,) which rows no fold may part (`probe.units`); None where every row stands alone.
    groups : (N,) numbers of the groups that intervals go by; None without groups.
    """

    inputs: Any
    labels: NDArray[np.int32]
    units: NDArray[np.intp] | None = None
    groups: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)


@dataclass(frozen=True)
class Rows:
    """Some rows of arrays laid end to end, read when they are asked for and never copied as a whole.

    Attributes
    ----------
    arrays : (N, …) each, alike but for N.
    rows : (n,) which rows, counted through all arrays, in the order they are shown.
    """

    arrays: tuple[Any, ...]
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self.arrays[0].dtype
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted: slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The rows `wanted` of these rows, in that order, as an array of their own."""
        rows = self.rows[wanted]
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        start = 0
        for array in self.arrays:
            mine = (rows >= start) & (rows < start + len(array))
            found[mine] = array[rows[mine] - start]
            start += len(array)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class TrainingData:
    """Decoded images: ``inputs`` of every part is (N, H, W, channels) uint8. `classes` is their number C.

    `known_as` identifies the images where that is known without reading every pixel again.
    """

    train: Part
    val: Part | None
    test: Part | None
    classes: int
    known_as: str = ""

    def digest(self) -> str:
        """What a run was computed on: `known_as`, or else the sha256 over every part."""
        if self.known_as:
            return self.known_as
        digest = hashlib.sha256()
        for part in (self.train, self.val, self.test):
            for array in (*part.arrays, part.labels) if part else ():
                digest.update(f"{array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
            digest.update(b"|")
        return digest.hexdigest()


@dataclass(frozen=True)
class Normaliser:
    """Pixels 0 … 255 to network inputs: (pixel − mean) / scale.

    One number per channel, or one for every place of the picture, row by row and channels last.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, pixels: Any) -> Any:
        """(B, H, W, channels) tensor of any type, H and W known -> float32."""
        from probe.tensorflow_setup import tf

        values = tf.cast(pixels, tf.float32)
        if len({*self.mean}) == len({*self.scale}) == 1:
            return (values - self.mean[0]) / self.scale[0]
        if len(self.mean) != values.shape[-1]:
            mean, scale = (tf.reshape(tf.constant(one), values.shape[1:]) for one in (self.mean, self.scale))
            return (values - mean) / scale
        # A line of pixels at a time: broadcasting three numbers costs several times what the arithmetic does.
        height, width = values.shape[1:3]
        lines = tf.reshape(values, (-1, height, width * len(self.mean)))
        lines = (lines - tf.constant(self.mean * width)) / tf.constant(self.scale * width)
        return tf.reshape(lines, (-1, height, width, len(self.mean)))


def fit_normaliser(kind: str, images: NDArray[np.uint8]) -> Normaliser:
    """The normaliser `kind`, one of `probe.studies.recipe.NORMALISATIONS`, for images (N, H, W, channels)."""
    channels = images.shape[-1]
    if kind == "pixelwise":
        return _pixelwise(images)
    if kind != "norm":
        return Normaliser((0.0,) * channels, (255.0 if kind == "unit" else 1.0,) * channels)
    # uint8 has 256 values: their histogram gives exact moments without a floating-point copy of the images.
    values = np.arange(256.0)
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), NORMALISER_BATCH):
        some = images[start : start + NORMALISER_BATCH]
        for c in range(channels):
            counts[c] += np.bincount(some[..., c].reshape(-1), minlength=256)
    mean = [float(np.average(values, weights=count)) for count in counts]
    spread = [
        float(np.sqrt(np.average((values - centre) ** 2, weights=count)))
        for centre, count in zip(mean, counts, strict=True)
    ]
    return Normaliser(tuple(mean), tuple(deviation or 1.0 for deviation in spread))


def _pixelwise(images: NDArray[np.uint8]) -> Normaliser:
    """Mean and deviation of every place and channel; a place that never changes keeps its scale."""
    total, squares = np.zeros((2, *images.shape[1:]), np.int64)
    for start in range(0, len(images), NORMALISER_BATCH):
        some = images[start : start + NORMALISER_BATCH].astype(np.int64)
        total += some.sum(axis=0)
        squares += (some**2).sum(axis=0)
    count = len(images)
    # Sums of whole numbers: the difference is exact, and zero where every picture has the same value.
    variance = (count * squares - total**2) / count**2
    scale = np.where(variance > 0, np.sqrt(variance), 1.0)
    return Normaliser(tuple((total / count).ravel().tolist()), tuple(scale.ravel().tolist()))


class Inputs(Protocol):
    """What `probe.train.loop.fit_loop` reads: ``tf.data.Dataset`` objects of ``(inputs, labels)`` batches."""

    @property
    def steps(self) -> int:
        """Batches an epoch of training."""
        ...

    @property
    def least(self) -> int:
        """The fewest rows of a batch: as many as there are devices that divide it."""
        ...

    def training(self, epoch: int) -> Any:
        """The batches of an epoch, which may depend on its number and on nothing that happened before."""
        ...

    def validation(self) -> Any | None:
        """The batches of the validation part, None without one."""
        ...


class ArrayInputs:
    """`Inputs` over arrays in memory: shuffled by seed and epoch, augmented in the training part only.

    `prepare` is applied to every batch of inputs after augmentation. By default they are handed over
    as they are stored: the network makes float32 of float16, of half as many bytes. `least` as in `Batches`.
    """

    def __init__(
        self,
        train: Part,
        val: Part | None,
        *,
        batch_size: int,
        seed: int,
        prepare: Callable[[Any], Any] | None = None,
        augment: Augment | None = None,
        least: int = 1,
    ) -> None:
        if not len(train):
            raise DataError("there is nothing to train on", expected="at least one training image")
        self.train, self.val = train, val
        self.batch_size, self.seed = batch_size, seed
        self.prepare = prepare or _as_stored
        self.augment = augment or Augment()
        self.least = least

    @property
    def steps(self) -> int:
        return len(batch_ends(len(self.train), self.batch_size, self.least))

    def training(self, epoch: int) -> Any:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        if not self.augment.changes_pixels:
            return self._train(order)
        return self._train(order, draw(self.augment, row_seeds(self.seed, epoch, order)))

    def validation(self) -> Any | None:
        return self._validation

    @functools.cached_property
    def _train(self) -> Batches:
        return Batches(self.train, self.batch_size, self.prepare, self.augment.fill, self.least)

    @functools.cached_property
    def _validation(self) -> Any | None:
        if self.val is None:
            return None
        return batches(self.val, self.batch_size, self.prepare, least=self.least)


class Batches:
    """Makes a ``tf.data.Dataset`` of ``(inputs, labels)`` batches of a part, for every epoch another.

    What reads a batch is traced once, however many epochs there are: of small pictures that costs more than
    an epoch. A last batch of fewer than `least` rows is none of its own, but joins the one before: a device
    that gets no row of a batch has no mean of it either, and makes it NaN for all.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        prepare: Callable[[Any], Any] | None = None,
        fill: str = "nearest",
        least: int = 1,
    ) -> None:
        from probe.tensorflow_setup import tf

        self.part, self.batch_size, self.least = part, batch_size, least
        self.together = _batches_together(part.arrays, batch_size)
        load = _loader(part, prepare or _as_stored, fill)

        def load_several(*rows: Any) -> Any:
            return _divided(load(*rows), self.together)

        self._load = tf.function(load, autograph=False)
        self._load_several = tf.function(load_several, autograph=False)

    def __call__(self, order: NDArray[np.intp], views: NDArray[np.float32] | None = None) -> Any:
        """Batches read ahead of the network.

        `order` (N,) are the rows in the order wanted; `views` (N, 7) are their parameters for
        `transform_pixels`.
        """
        from probe.tensorflow_setup import tf

        labels = self.part.labels[order]
        columns = (order, labels) if views is None else (order, labels, views)
        chunk = self.together * self.batch_size
        ends = batch_ends(len(order), self.batch_size, self.least)
        # The last batch alone may have another size; chunks are made of those before it.
        full = ends[-1] if len(ends) * self.batch_size == ends[-1] else (len(ends) - 1) * self.batch_size
        whole = full // chunk * chunk
        if len(order) - full < self.batch_size:
            full = len(order)  # a smaller one is what is left over of the others
        found = []
        if whole:
            chunks = [column[:whole].reshape(-1, chunk, *column.shape[1:]) for column in columns]
            several = tf.data.Dataset.from_tensor_slices(tuple(chunks))
            found.append(several.map(self._load_several, AHEAD).unbatch())
        for start, stop, size in ((whole, full, self.batch_size), (full, len(order), len(order) - full)):
            if start < stop:
                rest = tf.data.Dataset.from_tensor_slices(tuple(column[start:stop] for column in columns))
                found.append(rest.batch(size).map(self._load, AHEAD))
        dataset = functools.reduce(lambda first, second: first.concatenate(second), found)
        settings = tf.data.Options()
        # An iterator that TensorFlow tunes as it goes is only let go when the tuning wakes up, which it does
        # after 10 ms, 20 ms, 40 ms and so on: an epoch of 6 seconds can take 10.
        settings.autotune.enabled = False
        # Nor is there anything to gain from rewriting it, which takes as long as an epoch of small pictures.
        settings.experimental_optimization.apply_default_optimizations = False
        return dataset.prefetch(max(AHEAD, self.together)).with_options(settings)


def batch_ends(count: int, batch_size: int, least: int = 1) -> list[int]:
    """Where the batches of `count` rows end: the last has no fewer than `least`, or is the only one."""
    ends = [*range(batch_size, count, batch_size), count]
    if len(ends) > 1 and count - ends[-2] < least:
        del ends[-2]
    return ends


def batches(
    part: Part, batch_size: int, prepare: Callable[[Any], Any] | None = None, *, least: int = 1
) -> Any:
    """A ``tf.data.Dataset`` of ``(inputs, labels)`` batches of a part, in the order of its rows.

    `least` as in `Batches`.
    """
    return Batches(part, batch_size, prepare, least=least)(np.arange(len(part)))


def _loader(part: Part, prepare: Callable[[Any], Any], fill: str) -> Callable[..., Any]:
    """Rows (B,), labels (B,) and, of augmented pictures, views (B, 7) -> inputs and labels of a batch."""
    from probe.tensorflow_setup import tf

    arrays = part.arrays
    kinds = [tf.as_dtype(array.dtype) for array in arrays]

    def gather(rows: NDArray[np.int64]) -> list[Any]:
        return [np.ascontiguousarray(array[rows]) for array in arrays]

    def load(rows: Any, labels: Any, *view: Any) -> Any:
        # Not a tensor of all images: that would copy the arrays, and could not read a memory map.
        inputs = tf.numpy_function(gather, [rows], kinds, stateful=False)
        for tensor, array in zip(inputs, arrays, strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        if view:
            inputs = [transform_pixels(tensor, view[0], fill) for tensor in inputs]
        prepared = tuple(prepare(tensor) for tensor in inputs)
        return (prepared if isinstance(part.inputs, tuple) else prepared[0]), labels

    return load


def _batches_together(arrays: Sequence[Any], batch_size: int) -> int:
    """How many batches are made in one go: small ones cost more to hand over than to compute."""
    row_bytes = sum(4 * math.prod(array.shape[1:]) for array in arrays)
    rows = min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes))
    return max(1, rows // batch_size)


def _divided(tensors: Any, count: int) -> Any:
    """Tensors (count · B, …) -> (count, B, …)."""
    from probe.tensorflow_setup import tf

    return tf.nest.map_structure(lambda tensor: tf.reshape(tensor, (count, -1, *tensor.shape[1:])), tensors)


def _as_stored(tensor: Any) -> Any:
    return tensor
