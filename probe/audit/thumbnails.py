"""Thumbnails of a store's pictures, and how alike two of them are where one may be a part of the other.

Embeddings propose pairs and thumbnails decide: a network may see a recompressed picture as further away than
another one of the same class, or see two of a class as one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.audit.neighbours import Neighbours
from probe.config import Home
from probe.datasets import reopen
from probe.errors import ProbeError
from probe.images.path import PixelPath
from probe.images.reader import read_batches
from probe.progress import Progress
from probe.store import Store

Rows = NDArray[np.intp]
Floats = NDArray[np.float32]
Pictures = NDArray[np.uint8]

SIDE, COMPARED = 48, 10
"""Pixels of a thumbnail's side, and of the side that two are compared at: few, so that what is lost by
resizing counts little. Of 50 copies of 28 pixels that had gone through 20, it finds 18 at 16, 41 at 10."""

SMALLEST, STEP = 0.76, 0.04
"""Share of a side that the smallest part has which is looked at, and how the sizes of parts go; their places
go by half as much."""

BATCH = 256
TOGETHER = 32
"""Pictures whose parts are held at a time, 6 MB."""


def read_thumbnails(
    store: Store, home: Home, rows: Rows, *, shown: bool
) -> tuple[Pictures, NDArray[np.bool_]]:
    """Grey thumbnails (n, SIDE, SIDE) of `rows`, and which of them (n,) could be read.

    ProbeError where the data set is not where it was, or not what it was.
    """
    if not store.origins:
        raise ProbeError("it is not known where its pictures are")
    dataset = reopen(store.origins[-1], home)
    place = {name: number for number, name in enumerate(dataset.ids.tolist())}
    wanted = np.array([place.get(name, -1) for name in store.index.ids[rows].tolist()], dtype=np.intp)
    there = wanted >= 0
    if not there.any():
        raise ProbeError("its pictures are no longer there")
    hashes = np.full(len(dataset), "", dtype=store.index.hashes.dtype)
    hashes[wanted[there]] = store.index.hashes[rows[there]]
    pictures, readable = np.zeros((len(rows), SIDE, SIDE), np.uint8), np.zeros(len(rows), bool)
    exif = bool(store.manifest.spec["pixels"].get("exif"))
    path = PixelPath(exif, scaled=dataset.jpeg_sides is not None)
    done = np.flatnonzero(there)
    batches = read_batches(dataset.source.read, wanted[done], SIDE, BATCH, hashes=hashes, path=path)
    with Progress("read pictures", len(done), "img", shown=shown) as bar:
        for number, batch in enumerate(batches):
            mine = done[number * BATCH : number * BATCH + batch.count]
            pictures[mine] = batch.pixels[: batch.count].mean(axis=3).round()
            readable[mine] = [row not in batch.problems for row in batch.rows.tolist()]
            bar.update(batch.count)
    return pictures, readable


def small(pictures: Pictures) -> Floats:
    """(N, SIDE, SIDE) -> (N, COMPARED²) whole pictures at the size that is compared."""
    found = np.empty((len(pictures), COMPARED**2), np.float32)
    whole = _sampler(0.0, 1.0)
    for start in range(0, len(pictures), BATCH):
        block = pictures[start : start + BATCH].astype(np.float32)
        found[start : start + BATCH] = (whole @ block @ whole.T).reshape(len(block), -1)
    return found


def aligned(
    pictures: Pictures, readable: NDArray[np.bool_], rows: Rows, *, shown: bool = False
) -> Neighbours:
    """Distances of pictures to those of `rows` (N, k), each at the best place of one inside the other.

    The distance is that of pixels brought to mean zero and length one: neither brightness nor contrast count.
    """
    usable = (rows >= 0) & readable[:, None] & readable[rows]
    row, slot = np.nonzero(usable)
    pairs, number = np.unique(
        np.sort(np.stack([row, rows[row, slot]], axis=1), axis=1), axis=0, return_inverse=True
    )
    likeness = _likeness(pictures, pairs, shown=shown)
    distances = np.full(rows.shape, np.inf, np.float32)
    distances[row, slot] = np.sqrt(np.maximum(2 - 2 * likeness[number.ravel()], 0))
    return Neighbours(distances, np.where(usable, rows, -1))


def _likeness(pictures: Pictures, pairs: Rows, *, shown: bool) -> Floats:
    """(P,) largest correlation of a part of one picture of a pair with the whole of the other."""
    whole = _standard(small(pictures))
    likeness = np.full(len(pairs), -1, np.float32)
    source, target = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(source, kind="stable")
    used, first = np.unique(source[order], return_index=True)
    ends = np.append(first[1:], len(order))
    samplers = _samplers()
    with Progress("compare pixels", len(used), "img", shown=shown) as bar:
        for start in range(0, len(used), TOGETHER):
            some = used[start : start + TOGETHER]
            parts = _parts(pictures[some].astype(np.float32), samplers)
            for place, mine in enumerate(parts):
                asked = order[first[start + place] : ends[start + place]]
                best = (mine @ whole[target[asked]].T).max(axis=0)
                pair = asked % len(pairs)
                likeness[pair] = np.maximum(likeness[pair], best)
            bar.update(len(some))
    return likeness


def _samplers() -> list[Floats]:
    """For every size of parts the places along one side, one below the other, (places · COMPARED, SIDE)."""
    sizes = round((1 - SMALLEST) / STEP) + 1
    return [
        np.concatenate([_sampler(place * STEP / 2, 1 - number * STEP) for place in range(2 * number + 1)])
        for number in range(sizes)
    ]


def _sampler(start: float, size: float) -> Floats:
    """(COMPARED, SIDE) means over stretches of a part of a side; `start` and `size` are shares of it."""
    edges = (start + size * np.arange(COMPARED + 1) / COMPARED) * SIDE
    pixels = np.arange(SIDE)
    upper = np.minimum(edges[1:, None], pixels + 1)
    overlap = np.maximum(upper - np.maximum(edges[:-1, None], pixels), 0)
    matrix: Floats = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def _parts(pictures: Floats, samplers: list[Floats]) -> Floats:
    """(B, SIDE, SIDE) -> (B, V, COMPARED²), every part that is looked at, standardised."""
    found = []
    for sampler in samplers:
        places = len(sampler) // COMPARED
        sampled = sampler @ pictures @ sampler.T
        folded = sampled.reshape(len(pictures), places, COMPARED, places, COMPARED)
        found.append(folded.transpose(0, 1, 3, 2, 4).reshape(len(pictures), places**2, -1))
    return _standard(np.concatenate(found, axis=1))


def _standard(rows: Floats) -> Floats:
    """Mean zero and length one along the last axis; what is all of one grey becomes zeros."""
    moved = rows - rows.mean(axis=-1, keepdims=True)
    lengths = np.sqrt(np.einsum("...d,...d->...", moved, moved))[..., None]
    standard: Floats = moved / np.where(lengths > 1e-3, lengths, np.inf)
    return standard
