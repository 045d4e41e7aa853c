"""What a head is: a row of facts, options, a function that fits, and the fitted thing that predicts.

The test part of a data set is no argument of any function here: it cannot influence a choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError
from probe.registry import load_object

Floats = NDArray[np.float32]
MapShape = tuple[int, int, int]
Labels = NDArray[np.integer]

BLOCK, BLOCK_VALUES = 8192, 1 << 24
"""Rows, and numbers, that are worked on at a time where a copy of all features would be too large."""


BASE_BYTES = 1 << 27
"""What a fit may take in blocks, sums and copies of weights before it is counted."""


class RowSource(Protocol):
    """Features (N, D) that need not be in memory; rows are read by a slice or by their numbers."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice | NDArray[np.intp], /) -> Any: ...


Features = Floats | RowSource
"""An array is worked on in memory; any other `RowSource` is streamed by the heads that can."""


@dataclass(frozen=True)
class Samples:
    """Features (N, D) float32 and labels (N,) in 0 … C-1 of one part of a data set.

    `map_shape` is (H, W, channels) where a row is a feature map, flattened row by row, so that heads which
    know places can have them back; None where it is not, or is several outputs side by side. `views` are the
    same rows (N, D) as stored augmented views, over which probabilities are `averaged`.
    `units` (N,) numbers what must not be parted by folds and draws (`probe.units`); None where every row
    stands alone. `spare` says whether there is memory for what does no more than make a fit faster
    (`HeadRow.spare_bytes`), `folder` where there may be files for that while it goes on; None for nowhere.
    """

    features: Features
    labels: Labels
    map_shape: MapShape | None = None
    views: tuple[Features, ...] = ()
    units: NDArray[np.intp] | None = None
    spare: bool = True
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ChosenRows:
    """Some rows (n,) of other features, unread (`RowSource`)."""

    source: Features
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.source.shape[1]

    def __getitem__(self, rows: slice | NDArray[np.intp], /) -> Any:
        return self.source[self.rows[rows]]


class Head(Protocol):
    """A fitted head. Knows its name in the table, its `classes` C and its input width `width` D."""

    name: ClassVar[str]

    @property
    def classes(self) -> int: ...

    @property
    def width(self) -> int: ...

    def predict_proba(self, features: Features) -> Floats:
        """(N, D) float32 -> (N, C) float32, rows summing to one."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric that `from_arrays` needs; no object arrays."""
        ...

    def meta(self) -> dict[str, Any]:
        """The JSON-able rest: at least ``classes`` and ``width``."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """The inverse of `arrays` and `meta`; KeyError or ValueError when they do not fit together."""
        ...


@runtime_checkable
class LayeredHead(Protocol):
    """A head that is a few layers of a network, so that it can become part of one."""

    def keras_model(self) -> Any:
        """The head as a `keras.Model` of Keras's own layers, (B, D) float32 -> (B, C) probabilities."""
        ...


@dataclass(frozen=True)
class FitOutcome:
    """What fitting gives back.

    Attributes
    ----------
    head : the fitted head, refitted on train + validation where that was asked for.
    chosen : the hyperparameters settled on.
    path : one dict per candidate tried, in the order tried, with its validation figures.
    val_probabilities : (N_val, C) of the chosen candidate *before* the refit, so that the validation
        figure stays honest; None when there was no validation part.
    notes : sentences the user should see.
    history : per seed, one dict per epoch, for heads trained by gradient steps.
    seed_heads : the head of every seed, so that run-to-run spread can be told from sampling error.
    fitted : of the head that is kept, how near the minimum its fit is, where a fit states that.
    val_used_for : what was chosen on the validation rows, as a sentence goes on after "used to"; empty where
        nothing was, so that their figure is that of rows never seen.
    """

    head: Head
    chosen: dict[str, Any]
    path: list[dict[str, Any]] = field(default_factory=list)
    val_probabilities: Floats | None = None
    notes: tuple[str, ...] = ()
    history: tuple[list[dict[str, float]], ...] = ()
    seed_heads: tuple[Head, ...] = ()
    fitted: Mapping[str, Any] | None = None
    val_used_for: str = ""


def averaged(head: Head, samples: Samples) -> Floats:
    """Probabilities (N, C) float32 of samples; the mean over the plain features and `samples.views`."""
    total = head.predict_proba(samples.features)
    if not samples.views:
        return total
    for view in samples.views:
        total = total + head.predict_proba(view)
    mean: Floats = (total / (1 + len(samples.views))).astype(np.float32)
    return mean


class Fitter(Protocol):
    def __call__(
        self, train: Samples, val: Samples | None, classes: int, options: Any, *, refit: bool = True
    ) -> FitOutcome:
        """Fit on `train`, choose on `val`, and with `refit` fit the choice again on both.

        FitError when a part is empty or has rows that are not numbers, when `train` lacks a class, or when
        the options ask for what cannot be.
        """
        ...


@dataclass(frozen=True)
class FitSize:
    """How large a fit is: rows of each part, columns and classes."""

    train: int
    val: int
    test: int
    width: int
    classes: int

    @property
    def fitted(self) -> int:
        """Rows that the choice is fitted on again."""
        return self.train + self.val


PROBABILITIES = 4
"""Times the probabilities of validation and test rows are there while they are averaged and scored."""


class Holding(Protocol):
    def __call__(self, size: FitSize, options: Any, *, in_memory: bool) -> int:
        """Bytes that a fit with these options holds beside its features, which are in memory or streamed."""
        ...


def beyond_base(held: int) -> int:
    """`held` bytes where they are more than any fit takes, else 0."""
    return held if held > BASE_BYTES else 0


@dataclass(frozen=True)
class HeadRow:
    """One row of the table of heads.

    Attributes
    ----------
    fitter, options, head : ``module:name`` of the fit function, its options dataclass (whose defaults are
        the head's defaults) and the class of the fitted head.
    refits : whether the fitted head can be fitted again on train + validation.
    note : one sentence for ``probe heads``.
    steps : what a fit counts while it goes on (`probe.progress.step`); empty where it is over at once.
    needs_map : whether it is fitted on a stored feature map (``NAME:map``) and on nothing else.
    memory : ``module:name`` of a `Holding`, which says what a fit holds beside its features; empty where that
        is not much.
    spare : ``module:name`` of a `Holding`, which says what it takes more to be faster, where it may; empty
        for nothing.
    """

    name: str
    fitter: str
    options: str
    head: str
    refits: bool
    note: str = ""
    steps: str = ""
    needs_map: bool = False
    memory: str = ""
    spare: str = ""

    def held_bytes(self, size: FitSize, options: Any = None, *, in_memory: bool) -> int:
        """What a fit of this size holds in memory beside its features, which are there or streamed."""
        said = beyond_base(PROBABILITIES * 4 * size.classes * (size.val + size.test))
        if not self.memory:
            return said
        holding: Holding = load_object(self.memory)
        return said + int(holding(size, self._given(options), in_memory=in_memory))

    def spare_bytes(self, size: FitSize, options: Any = None, *, in_memory: bool) -> int:
        """What a fit of this size takes beyond that to be faster, where it may (`Samples.spare`)."""
        if not self.spare:
            return 0
        holding: Holding = load_object(self.spare)
        return int(holding(size, self._given(options), in_memory=in_memory))

    def _given(self, options: Any) -> Any:
        return load_object(self.options)() if options is None else options

    def fit(
        self,
        train: Samples,
        val: Samples | None,
        classes: int,
        options: Any = None,
        *,
        refit: bool = True,
    ) -> FitOutcome:
        """Check the data once for every head, then fit; `options` defaults to the row's defaults."""
        check_samples("train", train, classes, every_class=True)
        if val is not None:
            check_samples("validation", val, classes)
            if val.features.shape[1] != train.features.shape[1]:
                raise FitError(
                    "train and validation features differ in width",
                    expected=f"{train.features.shape[1]} columns",
                    found=f"{val.features.shape[1]} columns",
                )
        fitter: Fitter = load_object(self.fitter)
        return fitter(train, val, classes, self._given(options), refit=refit)


def check_samples(part: str, samples: Samples, classes: int, *, every_class: bool = False) -> None:
    """FitError unless the samples of `part` are usable: shapes, finite numbers, labels in range."""
    features, labels = samples.features, samples.labels
    if len(features.shape) != 2 or labels.shape != features.shape[:1]:
        raise FitError(
            f"the {part} features and labels do not belong together",
            expected="features (N, D) and labels (N,)",
            found=f"{features.shape} and {labels.shape}",
        )
    if samples.units is not None and samples.units.shape != labels.shape:
        raise FitError(
            f"the {part} rows are not all told what they belong to",
            expected=f"units ({len(labels)},)",
            found=f"{samples.units.shape}",
        )
    if samples.map_shape is not None and math.prod(samples.map_shape) != features.shape[1]:
        raise FitError(
            f"the {part} features are not the maps they are said to be",
            expected=f"{math.prod(samples.map_shape)} columns for maps {samples.map_shape}",
            found=f"{features.shape[1]} columns",
        )
    if len(labels) == 0:
        raise FitError(
            f"the {part} part is empty", expected="at least one row", hint="check the split of the data set"
        )
    bad = np.flatnonzero(~_finite_rows(features))
    if len(bad):
        raise FitError(
            f"{len(bad)} rows of the {part} features are not finite numbers",
            expected="finite values in every row",
            found=f"the first is row {bad[0]}",
            hint="drop unreadable rows by their status, or run `probe stores verify`",
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise FitError(
            f"a {part} label is out of range",
            expected=f"labels in 0 … {classes - 1}",
            found=f"labels in {labels.min()} … {labels.max()}",
            hint="rows without a label cannot be used for fitting",
        )
    if every_class:
        _check_classes(part, labels, classes)


def _finite_rows(features: Features) -> NDArray[np.bool_]:
    """(N,) whether a row is finite, without a mask as large as the features."""
    # A float64 sum of finite float32 values cannot overflow, so it is finite exactly when the row is.
    sums = [block.sum(axis=1, dtype=np.float64) for _, block in blocks(features)]
    return np.isfinite(np.concatenate(sums))


def blocks(features: Features) -> Iterator[tuple[slice, Floats]]:
    """The features in order, some rows at a time: which rows, and their values."""
    for rows in block_slices(features):
        yield rows, np.asarray(features[rows], dtype=np.float32)


def block_rows(width: int) -> int:
    """Rows (width,) of which a pass reads so many at a time."""
    return max(1, min(BLOCK, BLOCK_VALUES // max(width, 1)))


def block_slices(features: Features) -> list[slice]:
    """The rows that `blocks` reads at a time."""
    count, width = features.shape
    step = block_rows(width)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _check_classes(part: str, labels: Labels, classes: int) -> None:
    counts = np.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    if present < 2:
        raise FitError(
            f"the {part} part has only one class",
            expected="at least two classes",
            found=f"every row has label {labels[0]}",
            hint="check the labels, or choose rows of more classes",
        )
    if present < classes:
        missing = np.flatnonzero(counts == 0)
        shown = ", ".join(str(c) for c in missing[:10]) + (" …" if len(missing) > 10 else "")
        raise FitError(
            f"{len(missing)} classes have no row in the {part} part",
            expected=f"at least one row of each of the {classes} classes",
            found=f"none of class number {shown}",
            hint="use another split, or leave these classes out of the data set",
        )


def stack(train: Samples, val: Samples | None) -> Samples:
    """Train and validation rows in one, for the refit after the choice."""
    if val is None:
        return train
    labels = np.concatenate([train.labels, val.labels])
    units = None
    if train.units is not None and val.units is not None:
        units = np.concatenate([train.units, val.units])
    features: Features
    if isinstance(train.features, np.ndarray) and isinstance(val.features, np.ndarray):
        features = _joined(train.features, val.features)
    else:
        features = _Stacked(train.features, val.features)
    spare = train.spare and val.spare
    return Samples(features, labels, train.map_shape, units=units, spare=spare, folder=train.folder)


def _joined(first: Floats, second: Floats) -> Floats:
    """Both in one array; no copy where they lie in one already, the second right below the first."""
    whole = first.base
    if not isinstance(whole, np.ndarray) or second.base is not whole or whole.shape[1:] != first.shape[1:]:
        return np.concatenate([first, second])
    start = (first.ctypes.data - whole.ctypes.data) // max(whole.strides[0], 1)
    found: Floats = whole[start : start + len(first) + len(second)]
    begins = (found[: len(first)].ctypes.data, found[len(first) :].ctypes.data)
    same = begins == (first.ctypes.data, second.ctypes.data) and found.dtype == first.dtype
    alike = first.strides == second.strides == found.strides
    return found if same and alike else np.concatenate([first, second])


@dataclass(frozen=True)
class _Stacked:
    """Two row sources, one below the other."""

    first: Features
    second: Features

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.first.shape[0] + self.second.shape[0], *self.first.shape[1:])

    def __getitem__(self, rows: slice | NDArray[np.intp], /) -> Floats:
        border = self.first.shape[0]
        if not isinstance(rows, slice):
            found = np.empty((len(rows), self.shape[1]), np.float32)
            first = rows < border
            found[first], found[~first] = self.first[rows[first]], self.second[rows[~first] - border]
            return found
        start, stop, _ = rows.indices(self.shape[0])
        upper = np.asarray(self.first[min(start, border) : min(stop, border)])
        lower = np.asarray(self.second[max(start - border, 0) : max(stop - border, 0)])
        return np.concatenate([upper, lower])
