"""A store's rows as the arrays a head is fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import SPLITS, TEST, TRAIN, UNLABELLED, VAL
from probe.errors import FitError, FitOptionError
from probe.fit.needs import Need, Room
from probe.heads.head import Features, FitSize, Samples, beyond_base, block_slices
from probe.store import FeatureArray, MappedRows, Serves, Store
from probe.text import count_of

DEFAULT_MEMORY = 2 << 30
ROW_BYTES = 250
"""Of a row, beside its id and a copy of it: labels, orders, and the units while they are numbered."""


@dataclass(frozen=True)
class Choice:
    """Which features of a store are used.

    Attributes
    ----------
    outputs : stored outputs, side by side; empty for the store's first.
    views : how many stored augmented views of each training image are trained on beside the plain one.
    memory : bytes; parts that are larger together stay on disk and are streamed.
    """

    outputs: tuple[str, ...] = ()
    views: int = 0
    memory: int = DEFAULT_MEMORY


def serves_fit(choice: Choice) -> Serves:
    """Whether a store has labelled training images and what was chosen."""

    def serves(store: Store) -> bool:
        index = store.index
        labelled = bool(((index.labels != UNLABELLED) & (index.splits == TRAIN)).any())
        return labelled and set(choice.outputs) <= set(store.outputs) and choice.views <= store.view_count

    return serves


@dataclass(frozen=True)
class Part:
    """The usable rows of one split: read, labelled, in store order.

    Attributes
    ----------
    rows : (n,) row numbers in the store.
    ids : (n,) strings.
    samples : features (m, D) float32 and labels (m,); m is n, or n · (1 + views) for the training part.
    groups : (n,) strings, "" for a row in none; None where the store has no groups.
    """

    rows: NDArray[np.intp]
    ids: NDArray[np.str_]
    samples: Samples
    groups: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class StoredRows:
    """Rows of a store as one (m, D) matrix on disk (`probe.heads.head.RowSource`).

    A slice is read through zarr, which checks it; rows by their numbers, in any order, are copied from the
    mapped chunk files, which costs the bytes of these rows and no others.

    Attributes
    ----------
    segments : one after the other; each has its outputs side by side and its rows, ascending.
    """

    segments: tuple[tuple[tuple[FeatureArray, ...], NDArray[np.intp]], ...]

    @property
    def shape(self) -> tuple[int, int]:
        width = sum(int(np.prod(array.shape[1:])) for array in self.segments[0][0])
        return sum(len(rows) for _, rows in self.segments), width

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        rows, width = self.shape
        return 4 * rows * width

    @property
    def map_shape(self) -> tuple[int, int, int] | None:
        """(H, W, channels) where the rows are the maps of one output."""
        arrays = self.segments[0][0]
        if len(arrays) != 1 or len(arrays[0].shape) != 4:
            return None
        _, height, width, channels = arrays[0].shape
        return height, width, channels

    def __getitem__(self, wanted: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        ends = np.cumsum([0, *(len(rows) for _, rows in self.segments)])
        if not isinstance(wanted, slice):
            return self._gather(wanted, ends)
        start, stop, _ = wanted.indices(self.shape[0])
        blocks = [
            _side_by_side(arrays, rows[max(start - first, 0) : max(stop - first, 0)])
            for (arrays, rows), (first, last) in zip(self.segments, pairwise(ends.tolist()), strict=True)
            if first < stop and start < last
        ]
        if not blocks:
            return np.empty((0, self.shape[1]), np.float32)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _gather(self, places: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.float32]:
        found = np.empty((len(places), self.shape[1]), np.float32)
        segment = np.searchsorted(ends, places, side="right") - 1
        for number in np.unique(segment).tolist():
            mine = segment == number
            inside = places[mine] - ends[number]
            columns = [array[inside].reshape(len(inside), -1) for array in self._mapped[number]]
            found[mine] = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself.
        return {"segments": self.segments}

    @cached_property
    def _mapped(self) -> list[list[MappedRows]]:
        return [[array.mapped(rows) for array in arrays] for arrays, rows in self.segments]


def _side_by_side(arrays: tuple[FeatureArray, ...], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    blocks = [array.flat(rows) for array in arrays]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def load_parts(
    store: Store,
    choice: Choice,
    classes: NDArray[np.intp] | None = None,
    need: Need | None = None,
    *,
    averaged: bool = False,
) -> Mapping[str, Part]:
    """Train, val and test; unreadable and unlabelled rows are dropped.

    Of `classes`, label numbers of the store, only their rows, numbered anew in that order; None for all. The
    features are read into memory where they, and what is needed beside them, are no more than
    `choice.memory`. With `averaged`, val and test have all stored views of their rows, to average over.

    FitOptionError when what is needed in any case is more than that, or there are no views. FitError when
    nothing is labelled, nothing is left to train on, or the views asked for are not stored.
    """
    labels = store.index.labels
    if (labels == UNLABELLED).all():
        raise FitError(
            f"{store.name} has no labels",
            hint="extract again with --labels labels.csv: the features are kept, only labels are added",
        )
    if averaged and not store.view_count:
        raise FitOptionError(
            f"{store.name} has no augmented views to average over",
            hint="extract with --views K --views-of all",
        )
    if classes is not None:
        labels = _renumbered(labels, classes, len(store.index.classes))
    sources, more, rows_of, labels_of, units_of = {}, {}, {}, {}, {}
    units, groups = store.index.units(), store.index.groups
    for split in SPLITS:
        rows = store.rows(split)
        rows_of[split] = rows = rows[labels[rows] != UNLABELLED]
        views = choice.views if split == TRAIN else 0
        sources[split] = source_of(store, choice.outputs, rows, range(views + 1))
        numbers = range(1, store.view_count + 1) if averaged and split != TRAIN else ()
        more[split] = [source_of(store, choice.outputs, rows, range(view, view + 1)) for view in numbers]
        labels_of[split] = np.tile(labels[rows], views + 1)
        units_of[split] = np.tile(units[rows], views + 1)
    if not len(rows_of[TRAIN]):
        raise FitError(f"{store.name} has no training images", hint="extract again with --split 0.7,0.1,0.2")
    total = sum(source.nbytes for source in (*sources.values(), *chain(*more.values())))
    train, val, test = (sources[split].shape[0] for split in (TRAIN, VAL, TEST))
    size = FitSize(train, val, test, sources[TRAIN].shape[1], int(labels.max()) + 1)
    room = Room(in_memory=total <= choice.memory, spare=True)
    if need is not None:
        room = need.room(size, total, choice.memory, index_bytes(store))
    features: Mapping[str, Features] = _in_memory(sources) if room.in_memory else sources
    parts = {}
    for split, source in sources.items():
        viewed = tuple(one[:] if room.in_memory else one for one in more[split])
        samples = Samples(
            features[split],
            labels_of[split],
            source.map_shape,
            viewed,
            units_of[split],
            room.spare,
            store.path.parent,
        )
        rows = rows_of[split]
        parts[split] = Part(rows, store.index.ids[rows], samples, None if groups is None else groups[rows])
    return parts


def index_bytes(store: Store) -> int:
    """What is held of the rows of a store beside their features, where that is more than any fit takes."""
    ids = store.index.ids
    return beyond_base(len(ids) * (2 * ids.itemsize + ROW_BYTES))


def _in_memory(sources: Mapping[str, StoredRows]) -> dict[str, Features]:
    """All parts as arrays; train and validation lie one below the other, so that `stack` copies nothing."""
    train, rows = sources[TRAIN].shape[0], sources[TRAIN].shape[0] + sources[VAL].shape[0]
    both = np.empty((rows, sources[TRAIN].shape[1]), np.float32)
    found: dict[str, Features] = {}
    for split, out in (
        (TRAIN, both[:train]),
        (VAL, both[train:]),
        (TEST, np.empty(sources[TEST].shape, np.float32)),
    ):
        for some in block_slices(sources[split]):
            out[some] = sources[split][some]
        found[split] = out
    return found


def _renumbered(labels: NDArray[np.int32], classes: NDArray[np.intp], count: int) -> NDArray[np.int32]:
    """(N,) places in `classes`, -1 for every other of the `count` labels there are."""
    place = np.full(count + 1, UNLABELLED, np.int32)
    place[classes] = np.arange(len(classes))
    # -1 is the last entry, which stays -1.
    return place[labels]


def source_of(store: Store, outputs: tuple[str, ...], rows: NDArray[np.intp], views: range) -> StoredRows:
    """`rows` of some outputs as one matrix: all rows of the first view, then of the second, and so on.

    FitOptionError when the store does not have these views of all the rows.
    """
    if views.stop > 1 and not (views.stop - 1 <= store.view_count and store.viewed[rows].all()):
        raise FitOptionError(
            f"{store.name} does not have the augmented views of these images",
            expected=f"{count_of(views.stop - 1, 'view')} of each of {count_of(len(rows), 'image')}",
            found=f"{count_of(store.view_count, 'view')} of {int(store.viewed[rows].sum()):,} of them",
            hint=f"extract with --views {views.stop - 1} (and --views-of all to average over views at test)",
        )
    names: tuple[Any, ...] = outputs or (None,)
    return StoredRows(
        tuple((tuple(store.features(name, view) for name in names), rows) for view in views),
    )
