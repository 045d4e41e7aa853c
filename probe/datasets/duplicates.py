"""Exact copies of one picture in several splits, by content hash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, VAL

PAIRS = ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST))


def shared_pictures(hashes: NDArray[np.str_], splits: NDArray[np.str_]) -> dict[tuple[str, str], int]:
    """How many different pictures lie in both splits of each pair; pairs without any are left out."""
    content = {split: np.unique(hashes[(splits == split) & (hashes != "")]) for split in (TRAIN, VAL, TEST)}
    counts = {
        (first, second): len(np.intersect1d(content[first], content[second], assume_unique=True))
        for first, second in PAIRS
    }
    return {pair: count for pair, count in counts.items() if count}


def drop_from_train(hashes: NDArray[np.str_], splits: NDArray[np.str_]) -> NDArray[np.str_]:
    """`splits` with no split for the rows of train whose picture is also in validation or test.

    The rows stay in the data set, so that its features need not be computed again.
    """
    evaluated = np.unique(hashes[((splits == VAL) | (splits == TEST)) & (hashes != "")])
    dropped = splits.copy()
    dropped[(splits == TRAIN) & np.isin(hashes, evaluated)] = NO_SPLIT
    return dropped
