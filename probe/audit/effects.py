"""What suspects do to the number: the head fitted without them, scored with and without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from probe.audit.features import chosen
from probe.audit.material import Material
from probe.audit.record import ALL, CLASSES, LABELS, UNREADABLE, Accuracy, Change, Effect
from probe.datasets.dataset import TEST, TRAIN, UNLABELLED, VAL
from probe.heads import HEADS
from probe.heads.head import Floats, Samples
from probe.heads.logreg import LogregOptions
from probe.stats.clusters import share_interval
from probe.stats.paired import compare_predictions

Rows = NDArray[np.intp]
Marks = NDArray[np.bool_]

HEAD, FOLDS = "logreg", 5

BY_MAKING = (
    "test pictures called wrong are mostly such as the head has wrong: what is left is easier, an upper bound"
)
MERGED = "the classes that cannot be told apart, counted as one"
COUNTED_WRONG = "if every test picture that cannot be read counted as wrong"


@dataclass(frozen=True)
class Task:
    """A head that is fitted again and again, on `pool` (train and validation) and scored on `test`.

    Attributes
    ----------
    units : (n,) what folds must not part.
    train, val, test : rows of the material that are labelled, of classes that have a row in train.
    """

    material: Material
    units: Rows
    train: Rows
    val: Rows
    test: Rows

    @property
    def pool(self) -> Rows:
        return np.sort(np.concatenate([self.train, self.val]))

    @property
    def labels(self) -> NDArray[np.int32]:
        """(n,) of all rows."""
        return self.material.index.labels

    @property
    def right_labels(self) -> NDArray[np.int32]:
        """(n_test,) what is right on test."""
        return self.labels[self.test]

    @property
    def groups(self) -> NDArray[np.str_] | None:
        """(n_test,) groups of the test rows, None without any."""
        groups = self.material.index.groups
        return None if groups is None else groups[self.test]

    def samples(self, rows: Rows, present: NDArray[np.integer]) -> Samples:
        """Rows to fit on, their labels as places among the classes that are `present`."""
        labels = np.searchsorted(present, self.labels[rows])
        return Samples(chosen(self.material.features, rows), labels, units=self.units[rows])


def make_task(material: Material, units: Rows) -> Task:
    """The parts of the material that a head is fitted and scored on."""
    labels, splits = material.index.labels, material.index.splits
    train = np.flatnonzero((labels != UNLABELLED) & (splits == TRAIN))
    known = np.isin(labels, labels[train])
    val, test = (np.flatnonzero(known & (splits == split)) for split in (VAL, TEST))
    return Task(material, units, train, val, test)


def choose_c(task: Task) -> float | None:
    """C as ``probe fit logreg`` chooses it: on validation, else in folds of train.

    None with fewer than two classes, or too few rows to choose by.
    """
    row, present = HEADS[HEAD], np.unique(task.labels[task.train])
    if len(present) < 2:
        return None
    train = task.samples(task.train, present)
    if len(task.val):
        outcome = row.fit(train, task.samples(task.val, present), len(present), refit=False)
    else:
        folds = min(FOLDS, len(np.unique(task.units[task.train])))
        if folds < 2:
            return None
        outcome = row.fit(train, None, len(present), LogregOptions(cv=folds), refit=False)
    return float(outcome.chosen["c"])


def predict_test(task: Task, c: float, left_out: Rows) -> Floats | None:
    """(n_test, C) by a head fitted on all of the pool but some rows; None where two classes are not left.

    A class that loses all its rows is never predicted.
    """
    rows = np.setdiff1d(task.pool, left_out)
    present = np.unique(task.labels[rows])
    if len(present) < 2 or not len(task.test):
        return None
    options = LogregOptions(c=(c,))
    head = HEADS[HEAD].fit(task.samples(rows, present), None, len(present), options, refit=False).head
    found = np.zeros((len(task.test), len(task.material.index.classes)), np.float32)
    found[:, present] = head.predict_proba(chosen(task.material.features, task.test))
    return found


def find_effects(
    task: Task,
    c: float,
    marked: Mapping[str, Rows],
    confused: Sequence[tuple[int, int]],
    unreadable: tuple[int, int],
) -> tuple[Accuracy | None, list[Effect]]:
    """The accuracy as things are, and what every kind does to it.

    Parameters
    ----------
    marked : kind -> rows of the material that are left out.
    confused : pairs of classes that cannot be told apart.
    unreadable : pictures that cannot be read, and how many of them are in test.
    """
    before = predict_test(task, c, np.empty(0, np.intp))
    if before is None:
        return None, [_count(task, kind, rows) for kind, rows in marked.items()]
    right = before.argmax(axis=1) == task.right_labels
    every = np.unique(np.concatenate([np.empty(0, np.intp), *marked.values()]))
    effects = [_effect(task, c, kind, rows, right) for kind, rows in (*marked.items(), (ALL, every))]
    return _accuracy(task, right), [
        *effects,
        *_of_classes(task, before, confused),
        *_of_unread(right, unreadable),
    ]


def _count(task: Task, kind: str, rows: Rows) -> Effect:
    """How many there are, without any figure."""
    return Effect(kind, len(rows), int(np.isin(rows, task.pool).sum()), int(np.isin(rows, task.test).sum()))


def _effect(task: Task, c: float, kind: str, rows: Rows, right: Marks) -> Effect:
    counted = _count(task, kind, rows)
    kept = ~np.isin(task.test, rows)
    if not counted.from_train and not counted.from_test:
        return counted
    after, changed = right, None
    if counted.from_train:
        predicted = predict_test(task, c, rows)
        if predicted is None:
            return counted
        after = predicted.argmax(axis=1) == task.right_labels
        changed = _change(task, after, right)
    said = BY_MAKING if kind == LABELS and counted.from_test else ""
    return replace(counted, without=_accuracy(task, after, kept), change=changed, said=said)


def _of_classes(task: Task, before: Floats, pairs: Sequence[tuple[int, int]]) -> list[Effect]:
    """The same predictions with the classes of every pair counted as one."""
    if not pairs:
        return []
    one = np.arange(before.shape[1])
    for first, second in pairs:
        one[one == one[second]] = one[first]
    predicted = before.argmax(axis=1)
    after = one[predicted] == one[task.right_labels]
    concerned = int(np.isin(task.right_labels, np.array(pairs)).sum())
    change = _change(task, after, predicted == task.right_labels)
    return [Effect(CLASSES, concerned, 0, 0, _accuracy(task, after), change, MERGED)]


def _of_unread(right: Marks, unreadable: tuple[int, int]) -> list[Effect]:
    """Pictures without features are in no figure; with them each would be a miss."""
    total, in_test = unreadable
    if not total:
        return []
    counted = np.append(right, np.zeros(in_test, bool))
    low, high = share_interval(counted, None)
    whole = Accuracy(len(counted), float(counted.mean()), low, high)
    return [Effect(UNREADABLE, total, 0, in_test, whole if in_test else None, None, COUNTED_WRONG)]


def _accuracy(task: Task, right: Marks, kept: Marks | None = None) -> Accuracy | None:
    """Of the test rows (n_test,), all or those `kept`; None where there is none."""
    kept = np.ones(len(right), bool) if kept is None else kept
    if not kept.any():
        return None
    low, high = share_interval(right[kept], None if task.groups is None else task.groups[kept])
    return Accuracy(int(kept.sum()), float(right[kept].mean()), low, high)


def _change(task: Task, after: Marks, before: Marks) -> Change:
    found = compare_predictions(after, before, groups=task.groups)
    return Change(found.n, found.difference, found.low, found.high)
