"""What lies in several splits or classes: exact copies of a picture, by content hash, and parted groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, UNLABELLED, VAL

PAIRS = ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST))


def shared_between(names: NDArray[np.str_], splits: NDArray[np.str_]) -> dict[tuple[str, str], int]:
    """How many different names lie in both splits of each pair; pairs without any are left out.

    Of content hashes these are pictures, of groups groups; rows without one ("") do not count.
    """
    content = {split: np.unique(names[(splits == split) & (names != "")]) for split in (TRAIN, VAL, TEST)}
    counts = {
        (first, second): len(np.intersect1d(content[first], content[second], assume_unique=True))
        for first, second in PAIRS
    }
    return {pair: count for pair, count in counts.items() if count}


def under_several_labels(hashes: NDArray[np.str_], labels: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """The rows of each picture that has more than one label, in row order; rows without one do not count."""
    rows = np.flatnonzero((hashes != "") & (labels != UNLABELLED))
    pictures, picture = np.unique(hashes[rows], return_inverse=True)
    pairs = np.unique(np.stack([picture, labels[rows]]), axis=1)
    several = np.bincount(pairs[0], minlength=len(pictures)) > 1
    together: dict[int, list[int]] = {}
    for place in np.flatnonzero(several[picture]):
        together.setdefault(int(picture[place]), []).append(int(rows[place]))
    return [np.array(found, dtype=np.intp) for found in together.values()]


def drop_from_train(hashes: NDArray[np.str_], splits: NDArray[np.str_]) -> NDArray[np.str_]:
    """`splits` with no split for the rows of train whose picture is also in validation or test.

    The rows stay in the data set, so that its features need not be computed again.
    """
    evaluated = np.unique(hashes[((splits == VAL) | (splits == TEST)) & (hashes != "")])
    dropped = splits.copy()
    dropped[(splits == TRAIN) & np.isin(hashes, evaluated)] = NO_SPLIT
    return dropped
