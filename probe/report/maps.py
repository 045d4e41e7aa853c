"""Embeddings (N, D) as points (N, 2): principal components, and openTSNE of them where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError, unknown_name
from probe.fit.rows import StoredRows
from probe.machine import usable_cpus

Points = NDArray[np.float32]
Float64s = NDArray[np.float64]

BLOCK_VALUES = 1 << 24
"""Features that are read at a time."""
HELD_BYTES = 1 << 30
"""Features up to which they are read once; larger ones are read again for every pass."""
SPARE, PASSES = 10, 7
"""Directions that are followed beside those wanted, and how often all rows are passed over for them."""
TSNE_COMPONENTS, PERPLEXITY = 50, 30
FEWEST = 5
"""Rows below which openTSNE has nothing to place by: their map is that of the components."""
SEVERAL_THREADS = 10_000
"""Points from which on openTSNE has several threads: of few points its steps are so short that threads wait
for one another, 60 times as long as one takes where the processors are shared."""


@dataclass(frozen=True)
class Map:
    """Points of N rows.

    Attributes
    ----------
    points : (N, 2) float32.
    axes : what the two coordinates are.
    note : what to know of the method.
    """

    points: Points
    axes: tuple[str, str]
    note: str


class Rows:
    """Rows of embeddings, some at a time; a stored map (H, W, channels) is averaged over its places."""

    def __init__(self, source: StoredRows) -> None:
        self._source, self._places = source, source.map_shape
        count, width = source.shape
        self.shape = (count, width if self._places is None else self._places[2])
        self._step = max(1, BLOCK_VALUES // width)
        small = 4 * count * self.shape[1] <= HELD_BYTES
        self._held = list(self._read()) if small else None

    def blocks(self) -> Iterator[tuple[slice, Points]]:
        """(rows, (n, D) float32) one after the other."""
        return iter(self._held) if self._held is not None else self._read()

    def _read(self) -> Iterator[tuple[slice, Points]]:
        for start in range(0, self.shape[0], self._step):
            rows = slice(start, min(start + self._step, self.shape[0]))
            block = self._source[rows]
            if self._places is not None:
                block = block.reshape(len(block), -1, self.shape[1]).mean(axis=1)
            yield rows, block


@dataclass(frozen=True)
class Components:
    """The first k principal components of N rows: `scores` (N, k) and their `shares` (k,) of the variance."""

    scores: Points
    shares: Float64s


def principal_components(rows: Rows, count: int) -> Components:
    """By subspace iteration: only (D, k) is held, whatever N and D are; the same rows give the same signs.

    With fewer rows or features than `count` there are as many components as there can be.
    """
    total, width = rows.shape
    mean = sum((block.sum(axis=0, dtype=np.float64) for _, block in rows.blocks()), np.zeros(width)) / total
    centre = mean.astype(np.float32)
    size = min(count + SPARE, total, width)
    basis = np.random.default_rng(0).standard_normal((width, size)).astype(np.float32)
    for _ in range(PASSES):
        basis = np.linalg.qr(basis)[0]
        onward = np.zeros((width, size))
        for _, block in rows.blocks():
            moved = block - centre
            onward += moved.T @ (moved @ basis)
        basis = onward.astype(np.float32)
    basis = np.linalg.qr(basis)[0]
    scores, variance = np.empty((total, size), np.float32), 0.0
    for where, block in rows.blocks():
        moved = block - centre
        scores[where] = moved @ basis
        variance += float(np.einsum("nd,nd->", moved, moved, dtype=np.float64))
    squares, turn = np.linalg.eigh(scores.T.astype(np.float64) @ scores)
    turn = turn[:, ::-1][:, :count].astype(np.float32)
    loadings = basis @ turn
    turn *= np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(loadings.shape[1])])
    return Components(scores @ turn, squares[::-1][:count] / max(variance, np.finfo(float).tiny))


def pca(rows: Rows) -> Map:
    """The first two principal components."""
    found = principal_components(rows, 2)
    scores, shares = _at_least_two(found.scores), [*found.shares, 0.0, 0.0]
    first, second = (f"component {n + 1} ({100 * shares[n]:.0f} % of the variance)" for n in (0, 1))
    both = 100 * (shares[0] + shares[1])
    note = f"The first two principal components; they hold {both:.0f} % of the variance."
    return Map(scores, (first, second), note)


def opentsne(rows: Rows) -> Map:
    """openTSNE of the first principal components, from a fixed seed. ProbeError where it is not installed."""
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise ProbeError(
            "openTSNE is not installed", found=str(error), hint="pip install 'probe[maps]'"
        ) from error
    if rows.shape[0] < FEWEST:
        return pca(rows)
    scores = principal_components(rows, TSNE_COMPONENTS).scores
    perplexity = max(1.0, min(PERPLEXITY, (len(scores) - 1) / 3))
    threads = usable_cpus() if len(scores) >= SEVERAL_THREADS else 1
    placed = TSNE(perplexity=perplexity, n_jobs=threads, random_state=0).fit(scores)
    note = (
        f"openTSNE (perplexity {perplexity:.0f}) of the first {scores.shape[1]} principal components: who is"
        " near whom is kept, distances between groups and their sizes are not."
    )
    return Map(np.asarray(placed, np.float32), ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)"), note)


def _at_least_two(scores: Points) -> Points:
    missing = 2 - scores.shape[1]
    return np.pad(scores, ((0, 0), (0, missing))) if missing > 0 else scores


MAPS = {"pca": pca, "opentsne": opentsne}


def check_method(method: str) -> None:
    """UnknownNameError unless there is such a map."""
    if method not in MAPS:
        raise unknown_name("map", method, MAPS)


def map_of(source: StoredRows, method: str) -> Map:
    """The points of some rows by a method of `MAPS`, as `check_method` knows it."""
    return MAPS[method](Rows(source))
