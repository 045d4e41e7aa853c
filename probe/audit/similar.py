"""Copies, near copies and outliers: what follows from which pictures are near to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.audit.copies import EMBEDDINGS, PIXELS, Rule, clusters, make_rule, near_pairs
from probe.audit.features import chosen
from probe.audit.material import Material
from probe.audit.neighbours import Neighbours, find_neighbours
from probe.audit.outliers import outliers
from probe.audit.thumbnails import COMPARED, SIDE, aligned, read_thumbnails, small
from probe.datasets.dataset import UNLABELLED
from probe.errors import ProbeError
from probe.units import kept_together, members_of

Rows = NDArray[np.intp]

THUMBNAIL = SIDE**2 + 2 * 4 * COMPARED**2
"""Bytes of a thumbnail, and of what is compared of it first."""


@dataclass(frozen=True)
class Similar:
    """What was found, in rows of the material.

    Attributes
    ----------
    exact : sets of rows with the same bytes.
    near : sets of rows that are near copies, at least one of them not byte for byte; `closeness` of the
        closest two of each.
    rule : when two pictures are called near copies.
    far, times : outliers, the farthest first, and how many times as far they are as most.
    """

    exact: list[Rows]
    near: list[Rows]
    closeness: list[float]
    rule: Rule
    far: list[int]
    times: list[float]

    def several(self, labels: NDArray[np.int32]) -> list[Rows]:
        """The sets of copies, exact ones included in near ones, that have more than one label (n,)."""
        inside = set(np.concatenate([np.empty(0, np.intp), *self.near]).tolist())
        sets = [*self.near, *(rows for rows in self.exact if int(rows[0]) not in inside)]
        return [rows for rows in sets if len(set(labels[rows].tolist()) - {UNLABELLED}) > 1]

    def units(self, material: Material) -> Rows:
        """(n,) what must not be parted by folds: copies of either kind, and groups."""
        index, near = material.index, np.full(len(material.rows), "", dtype="U20")
        for number, rows in enumerate(self.near):
            near[rows] = str(number)
        return kept_together(index.units().astype(str), near)


def find_similar(material: Material, *, pixels: bool = True) -> Similar:
    """Look at every pair of pictures, in blocks; one of each set of exact copies stands for all.

    Without `pixels` embeddings alone decide, as where the pictures are not at hand.
    """
    same = members_of(kept_together(material.index.hashes))
    one = np.array([rows[0] for rows in same], np.intp)
    labels = material.index.labels[one]
    memory, shown = material.job.memory, material.job.progress
    near, other = find_neighbours(chosen(material.features, one), labels, memory, shown=shown)
    far, times = outliers(near)
    compared = EMBEDDINGS
    if pixels:
        compared, near, other = _by_pixels(material, one, near, other)
    rule = make_rule(compared, near, other, labels)
    pairs, shares = near_pairs(near, rule.limit)
    found = clusters(len(one), pairs)
    closest = np.full(len(one), np.inf)
    np.minimum.at(closest, pairs.ravel(), np.repeat(shares, 2))
    order = sorted(range(len(found)), key=lambda number: float(closest[found[number]].min()))
    return Similar(
        exact=[rows for rows in same if len(rows) > 1],
        near=[np.sort(np.concatenate([same[place] for place in found[number].tolist()])) for number in order],
        closeness=[float(closest[found[number]].min()) for number in order],
        rule=rule,
        far=one[far].tolist(),
        times=times.tolist(),
    )


def _by_pixels(
    material: Material, one: Rows, near: Neighbours, other: Neighbours
) -> tuple[str, Neighbours, Neighbours]:
    """What is compared, and neighbours by embeddings and by thumbnails, measured in pixels."""
    job = material.job
    there = material.features.nbytes if isinstance(material.features, np.ndarray) else 0
    if there + len(one) * THUMBNAIL > job.memory:
        material.notes.append("near copies by embeddings alone: thumbnails take more than --memory")
        return EMBEDDINGS, near, other
    try:
        pictures, readable = read_thumbnails(job.store, material.home, material.rows[one], shown=job.progress)
    except ProbeError as error:
        material.notes.append(f"near copies by embeddings alone: {error.problem}")
        return EMBEDDINGS, near, other
    labels = material.index.labels[one]
    both = find_neighbours(small(pictures), labels, job.memory, shown=job.progress)
    rows = np.hstack([found.rows for found in (near, both[0], other, both[1])])
    found = aligned(pictures, readable, rows, shown=job.progress)
    half = rows.shape[1] // 2
    return PIXELS, found.columns(slice(half)), found.columns(slice(half, None))
