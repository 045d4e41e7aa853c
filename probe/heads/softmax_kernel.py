"""Softmax over blocks of logits that stay in a processor's cache, several blocks at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats, Labels

FEW = 16
"""With no more classes than this a pass along the rows is faster than one along the classes."""
CACHED = 1 << 17
"""Numbers of a block that several passes are made over: more leave the cache between two of them."""

Float64s = NDArray[np.float64]
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
FloatsOrDoubles = TypeVar("FloatsOrDoubles", Floats, Float64s)


def in_order(work: Callable[[_Item], _Found], items: Iterable[_Item], threads: int) -> Iterator[_Found]:
    """As `map`, with `threads` items worked on at once; no more than one beyond them is read ahead."""
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[_Found]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pieces(rows: int, width: int, size: int = CACHED) -> list[slice]:
    """Slices of `rows` rows of `width` numbers each, of about `size` numbers."""
    step = max(1, size // max(width, 1))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def softmax_residual(logits: Floats, labels: Labels, weights: Floats) -> Float64s:
    """Weighted loss (B,) of logits (n, B, C), which become its derivative by them.

    `weights` (n, B) of the rows in each problem.
    """
    loss = np.zeros(logits.shape[1])
    for rows in pieces(len(logits), logits.shape[1] * logits.shape[2]):
        part = logits[rows]
        turned = _turned(part)
        losses, _ = _residual(turned, labels[rows], weights[rows])
        if turned is not part:
            part[...] = turned
        loss += np.einsum("nb,nb->b", weights[rows], losses, dtype=np.float64)
    return loss


def residual_of_rows(logits: Float64s, labels: Labels) -> tuple[Float64s, Float64s]:
    """Losses (n,) and true classes' shares (n,) of logits (n, C), which become shares minus true class."""
    losses, shares = np.empty(len(logits)), np.empty(len(logits))
    for rows in pieces(*logits.shape):
        ones = np.ones((rows.stop - rows.start, 1))
        part = logits[rows, None]
        turned = _turned(part)
        found = _residual(turned, labels[rows], ones)
        if turned is not part:
            part[...] = turned
        losses[rows], shares[rows] = found[0][:, 0], found[1][:, 0]
    return losses, shares


def _turned(logits: FloatsOrDoubles) -> FloatsOrDoubles:
    """The same logits (n, B, C), in memory class by class where these are few; else what was given."""
    if logits.shape[2] > FEW:
        return logits
    return np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)


def _residual(
    logits: Floats | Float64s, labels: Labels, weights: Floats | Float64s
) -> tuple[Floats | Float64s, Floats | Float64s]:
    """Losses and true classes' shares (n, B), of any float type; logits become weighted residuals."""
    at_label = np.arange(len(logits))[:, None], np.arange(logits.shape[1])[None, :], labels[:, None]
    logits -= logits.max(axis=2, keepdims=True)
    own = logits[at_label]
    np.exp(logits, out=logits)
    # p − 1 and log p of the true class cancel where p is near one; the share of the others does not.
    true = logits[at_label]
    logits[at_label] = 0.0
    others = logits.sum(axis=2)
    losses = np.log1p(others + (true - 1)) - own
    factors = weights / (others + true)
    logits *= factors[:, :, None]
    logits[at_label] = -others * factors
    return losses, true / (others + true)


def class_spread(residual: Floats | Float64s, labels: Labels, weights: Floats | Float64s) -> Floats:
    """Weighted sum over rows of p(1 − p), (B, C), of weighted residuals (n, B, C).

    |residual| / weight is p, or 1 − p for the true class: p(1 − p) is the same either way.
    """
    rows, problems, classes = residual.shape
    inverse = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
    ones = np.ones(rows, dtype=residual.dtype)
    spread = np.zeros((problems, classes), dtype=residual.dtype)
    for block in pieces(rows, problems * classes):
        squares = np.square(residual[block])
        for problem in range(problems):
            spread[problem] += ones[block] @ residual[block, problem]
            spread[problem] -= inverse[block, problem] @ squares[:, problem]
    for problem in range(problems):
        # Only the residual of the true class is negative.
        own = residual[np.arange(rows), problem, labels].astype(np.float64)
        spread[problem] -= (2 * np.bincount(labels, weights=own, minlength=classes)).astype(spread.dtype)
    return spread
