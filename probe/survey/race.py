"""A race of backbones, outputs and heads on ever more images, in which what is worse drops out.

The images of a race come in a seeded order in blocks. At every look heads are fitted on all blocks but the
newest, and judged on that, which they have not seen: this is what shows that one is worse. Which backbones
go on, and what is kept, is decided by what is expected of the candidates on all images
(`probe.survey.expect`). docs/survey.md says what is guaranteed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.stats.racing import disagreements, least_share
from probe.survey.expect import Curve, expected_accuracies
from probe.text import count_of

ALPHA = 0.05
"""How often, at most, a race may drop one that is as good as every other."""

STAY = 0.5
"""Of the backbones of a look this share is paid for at the next (successive halving)."""

LAST = 2
"""Backbones that are paid for to the end: the best of a few images is often the second of all."""


class Candidate(NamedTuple):
    """What may win: a head on an output of a backbone."""

    backbone: str
    output: str
    head: str


@dataclass(frozen=True)
class Judged:
    """What the candidates of a look said of its m images.

    Attributes
    ----------
    correct : candidate -> (m,) whether each image was right; those that failed are left out.
    failed : candidate -> why.
    curves : candidate -> its cross-validated learning curve on all images seen so far, where there is one.
    groups : (m,) names of what belongs together, "" for an image that stands alone; None without any.
    """

    correct: Mapping[Candidate, NDArray[np.bool_]]
    failed: Mapping[Candidate, str] = field(default_factory=dict)
    curves: Mapping[Candidate, Curve] = field(default_factory=dict)
    groups: NDArray[np.str_] | None = None


Judge = Callable[[int, int, Sequence[Candidate]], Judged]
"""(first image of the newest block, the image after it, candidates) -> how they did on that block, fitted on
the images before it."""


@dataclass(frozen=True)
class Look:
    """One look: heads fitted on `fitted_on` images of each backbone, judged on `judged` new ones.

    `dropped` were shown to be worse; `left` are of backbones that the budget pays for no longer.
    """

    fitted_on: int
    judged: int
    candidates: int
    dropped: tuple[Candidate, ...]
    left: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a race ended.

    Attributes
    ----------
    kept : the survivor of which most is expected; None where all have failed.
    survivors : those that saw the last look and are not shown to be worse than another, and the kept one, by
        what is expected of them.
    dropped : candidate -> number of the look that showed it to be worse, from 1.
    left : candidate -> number of the look after which the budget did not pay for its backbone.
    failed : candidate -> why.
    right, judged : candidate -> images right, and images it was judged on.
    expected : candidate -> accuracy on all images, as far as its last look told.
    looks : in order.
    passes, full : images that backbones have seen, and that all of them would see without a race.
    """

    kept: Candidate | None
    survivors: tuple[Candidate, ...]
    dropped: Mapping[Candidate, int]
    left: Mapping[Candidate, int]
    failed: dict[Candidate, str]
    right: Mapping[Candidate, int]
    judged: Mapping[Candidate, int]
    expected: Mapping[Candidate, float]
    looks: tuple[Look, ...]
    passes: int
    full: int

    @property
    def share(self) -> float:
        """Of the image passes of a whole survey."""
        return self.passes / self.full


@dataclass(frozen=True)
class Terms:
    """What a race may cost.

    Attributes
    ----------
    images : of the data set.
    raced : those of them that the race may use.
    classes : of them; the first heads have seen two images of each, where the budget pays for them.
    budget : share of the passes of all images through all backbones.
    """

    images: int
    raced: int
    classes: int
    budget: float

    def backbones_at(self, backbones: int) -> list[int]:
        """How many of them are paid for at each look."""
        counts = [backbones]
        while counts[-1] > LAST:
            counts.append(max(LAST, int(STAY * counts[-1] + 0.5)))
        return counts


def race_order(labels: NDArray[np.integer], units: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """(N,) the rows in a seeded order of which every beginning has the classes in their shares.

    A row of each class comes before all others. Rows of one unit follow one another (`probe.units`).
    """
    rng = np.random.default_rng(seed)
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        keys[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
        keys[rows[0]] -= 1
    first = np.full(int(units.max()) + 1, np.inf)
    np.minimum.at(first, units, keys)
    return np.lexsort((np.arange(len(labels)), units, first[units]))


def run_race(candidates: Sequence[Candidate], terms: Terms, judge: Judge) -> Outcome:
    """Judge on growing blocks, and drop what is worse, until the budget is spent or one is left.

    UsageError for less than two candidates, or a budget that does not pay for a look.
    """
    if len(candidates) < 2:
        raise UsageError("there is nothing to race against", expected="two candidates or more")
    state = _Race(candidates, terms)
    if not state.next_size():
        raise UsageError(
            f"a budget of {100 * terms.budget:.4g} % does not pay for a look",
            expected="two images or more for every backbone",
            found=f"{int(terms.budget * terms.images)} of {count_of(terms.images, 'image')}",
            hint="a larger --budget, or none",
        )
    while len(state.alive) > 1 and (size := state.next_size()):
        state.look(size, judge)
    state.finish()
    return state.outcome()


class _Race:
    def __init__(self, candidates: Sequence[Candidate], terms: Terms) -> None:
        self.alive = list(candidates)
        self._terms = terms
        backbones = len(_backbones(candidates))
        self._full = backbones * terms.images
        self._counts = terms.backbones_at(backbones)
        # One that is as good as every other loses to none of them at any look, with this probability.
        self._alpha = ALPHA / (len(self._counts) * max(len(candidates) - 1, 1))
        self._seen, self._passes = 0, 0
        self._wins = dict.fromkeys(itertools.permutations(candidates, 2), 0.0)
        self._right = dict.fromkeys(candidates, 0)
        self._judged = dict.fromkeys(candidates, 0)
        self._expected: dict[Candidate, float] = {}
        self._dropped: dict[Candidate, int] = {}
        self._left: dict[Candidate, int] = {}
        self._failed: dict[Candidate, str] = {}
        self._looks: list[Look] = []

    def next_size(self) -> int:
        """Images seen after the next look, 0 where there is none; each has the same share of what is left."""
        looks = len(self._counts) - len(self._looks)
        if not looks:
            return 0
        unspent = int(self._terms.budget * self._full) - self._passes
        size = min(self._seen + unspent // looks // len(_backbones(self.alive)), self._terms.raced)
        return size if size > max(self._seen, 1) else 0

    def look(self, size: int, judge: Judge) -> None:
        start = self._seen or min(max(size // 2, 2 * self._terms.classes), size - 1)
        judged = judge(start, size, self.alive)
        self._passes += len(_backbones(self.alive)) * (size - self._seen)
        self._failed |= judged.failed
        self.alive = [candidate for candidate in self.alive if candidate in judged.correct]
        for a, b in itertools.combinations(self.alive, 2):
            only_a, only_b = disagreements(judged.correct[a], judged.correct[b], judged.groups)
            self._wins[a, b] += only_a
            self._wins[b, a] += only_b
        for candidate in self.alive:
            self._right[candidate] += int(judged.correct[candidate].sum())
            self._judged[candidate] += size - start
            self._expected[candidate] = self._right[candidate] / self._judged[candidate]
        self._expected |= expected_accuracies(judged.curves, self._terms.raced)
        number = len(self._looks) + 1
        out = [one for one in self.alive if self._is_worse(one, self._with_its_head(one))]
        self._dropped |= dict.fromkeys(out, number)
        judged_now = len(self.alive)
        self.alive = [candidate for candidate in self.alive if candidate not in out]
        left = self._unpaid()
        self._left |= dict.fromkeys(left, number)
        self.alive = [candidate for candidate in self.alive if candidate not in left]
        self._looks.append(Look(start, size - start, judged_now, tuple(out), tuple(left)))
        self._seen = size

    def finish(self) -> None:
        """Drop those that are worse than one with another head, but never the kept one."""
        out = [one for one in self._ranked()[1:] if self._is_worse(one, self.alive)]
        self._dropped |= dict.fromkeys(out, len(self._looks))
        self.alive = [candidate for candidate in self.alive if candidate not in out]
        self._looks[-1] = replace(self._looks[-1], dropped=(*self._looks[-1].dropped, *out))

    def _with_its_head(self, candidate: Candidate) -> list[Candidate]:
        """Whom it may lose to before the end: of two heads the worse on few images may be best on all."""
        return [other for other in self.alive if other.head == candidate.head]

    def _unpaid(self) -> list[Candidate]:
        """The candidates of backbones that the next look does not pay for: less is expected of their best."""
        following = self._counts[len(self._looks) + 1 :]
        if not following:
            return []
        best = dict.fromkeys(_backbones(self.alive), 0.0)
        for candidate in self.alive:
            best[candidate.backbone] = max(best[candidate.backbone], self._expected[candidate])
        paid = sorted(best, key=best.__getitem__, reverse=True)[: following[0]]
        return [candidate for candidate in self.alive if candidate.backbone not in paid]

    def _is_worse(self, candidate: Candidate, others: Sequence[Candidate]) -> bool:
        """Whether one of the others wins more than half of what the two disagree about."""
        return any(
            least_share(self._wins[other, candidate], self._wins[candidate, other], self._alpha) > 0.5
            for other in others
            if other != candidate
        )

    def outcome(self) -> Outcome:
        order = self._ranked()
        return Outcome(
            kept=order[0] if order else None,
            survivors=tuple(order),
            dropped=self._dropped,
            left=self._left,
            failed=self._failed,
            right=self._right,
            judged=self._judged,
            expected=self._expected,
            looks=tuple(self._looks),
            passes=self._passes,
            full=self._full,
        )

    def _ranked(self) -> list[Candidate]:
        return sorted(self.alive, key=self._expected.__getitem__, reverse=True)


def _backbones(candidates: Sequence[Candidate]) -> list[str]:
    return list(dict.fromkeys(candidate.backbone for candidate in candidates))
