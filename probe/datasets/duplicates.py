"""What lies in several splits or classes: exact copies of a picture, by content hash, and parted groups.

Counted, told in sentences, and taken out of train where that is asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, UNLABELLED, VAL
from probe.datasets.listing import Listing
from probe.text import count_of
from probe.units import Names

PAIRS = ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST))

CONFLICTS_NAMED, COPIES_NAMED = 5, 4
"""Pictures under two labels that a note names, and files of each; `probe stores show --json` lists all."""


def shared_between(names: Names, splits: NDArray[np.str_]) -> dict[tuple[str, str], int]:
    """How many different names lie in both splits of each pair; pairs without any are left out.

    Of content hashes these are pictures, of groups groups; rows without one (empty) do not count.
    """
    content = {
        split: np.unique(names[(splits == split) & (names != names.dtype.type())])
        for split in (TRAIN, VAL, TEST)
    }
    counts = {
        (first, second): len(np.intersect1d(content[first], content[second], assume_unique=True))
        for first, second in PAIRS
    }
    return {pair: count for pair, count in counts.items() if count}


def under_several_labels(hashes: Names, labels: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """The rows of each picture that has more than one label, in row order; rows without one do not count."""
    rows = np.flatnonzero((hashes != hashes.dtype.type()) & (labels != UNLABELLED))
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


def count_copies(
    hashes: NDArray[np.str_], splits: NDArray[np.str_], *, drop: bool
) -> tuple[NDArray[np.str_], list[str], dict[str, str]]:
    """The splits, without copies in train where `drop` says so; notes and facts on copies across splits."""
    shared = shared_between(hashes, splits)
    notes = [
        f"exact copies: {count_of(number, 'picture')} in both {first} and {second}"
        for (first, second), number in shared.items()
    ]
    facts = {f"copies_{first}_{second}": str(number) for (first, second), number in shared.items()}
    if not drop:
        return splits, notes, facts
    dropped = drop_from_train(hashes, splits)
    number = int((dropped != splits).sum())
    facts["dropped_from_train"] = str(number)
    return dropped, [*notes, f"dropped from train as copies: {count_of(number, 'image')}"], facts


def conflict_notes(listing: Listing, hashes: NDArray[np.str_]) -> list[str]:
    """Pictures that lie, byte for byte, in two classes; the first are named."""
    conflicts = under_several_labels(hashes, listing.labels)
    if not conflicts:
        return []
    named = "; ".join(_same_picture(listing, rows) for rows in conflicts[:CONFLICTS_NAMED])
    more = "; …" if len(conflicts) > CONFLICTS_NAMED else ""
    return [f"the same picture under two labels: {count_of(len(conflicts), 'picture')}: {named}{more}"]


def _same_picture(listing: Listing, rows: NDArray[np.intp]) -> str:
    """The files of one picture with their classes: the first of each class where there are many."""
    if len(rows) > COPIES_NAMED:
        first = np.unique(listing.labels[rows], return_index=True)[1]
        shown = rows[np.sort(first)][:COPIES_NAMED]
    else:
        shown = rows
    named = " = ".join(
        f"{listing.ids[row]} ({listing.classes[listing.labels[row]]})" for row in shown.tolist()
    )
    return named + (f" and {len(rows) - len(shown)} more" if len(shown) < len(rows) else "")


def group_notes(groups: NDArray[np.str_] | None, splits: NDArray[np.str_]) -> list[str]:
    """Groups that the published or the user's own split parts; a split made here parts none."""
    if groups is None:
        return []
    return [
        f"{count_of(number, 'group')} in both {first} and {second}: what is scored is known from {first}"
        for (first, second), number in shared_between(groups, splits).items()
    ]
