"""Cross-validation of logistic regression over a grid of C: one rotation, one path per fold.

The rotation and the standardisation are those of all rows given, which are training rows; no label enters
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import ChosenRows, Floats, Samples, blocks
from probe.heads.linear import LinearHead, scores, softmax
from probe.heads.rotation import Rotation
from probe.heads.softmax_exact import ExactLoss, Solved
from probe.heads.softmax_loss import LOGITS, TIMES, MemoryLoss, SoftmaxLoss
from probe.heads.softmax_path import SoftmaxPath
from probe.heads.softmax_rough import streamed_loss
from probe.heads.softmax_rows import StreamedRows
from probe.heads.standardise import standardised
from probe.heads.weighting import balanced_weights
from probe.progress import expect, step

TOLERANCE = 2e-4
"""Bound on the relative distance to the minimum, which is most often far smaller: enough to rank values of C
by rows held out. The fit that is kept is solved more closely."""
WEIGHTS = 16
"""Bytes of the weight of a row in a fold, with its copies while it is normalised."""
TOGETHER = 64
"""Folds are solved in one go up to about this many columns (folds × classes): more fill a product alone."""


@dataclass(frozen=True)
class CrossValidation:
    """For V values of C and F folds: figures (V, F) on the rows held out, and the rows (F,) of each fold.

    `gap` bounds how far the objective lies above its minimum, relative to itself, as far as float32 goes.
    """

    values: tuple[float, ...]
    accuracy: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    converged: NDArray[np.bool_]
    gap: NDArray[np.float64]
    rows: NDArray[np.intp]

    def mean_accuracy(self) -> NDArray[np.float64]:
        """(V,) over all rows held out."""
        return self.accuracy @ self.rows / self.rows.sum()

    def mean_log_loss(self) -> NDArray[np.float64]:
        return self.log_loss @ self.rows / self.rows.sum()


class CrossValidator:
    """Prepared once (rotation), asked for as many values of C as needed.

    Parameters
    ----------
    folds : (N,) fold of each row, 0 … F-1.
    jobs : folds worked on at the same time through joblib, which decides where (threads, a cluster).
    """

    def __init__(
        self,
        samples: Samples,
        classes: int,
        folds: NDArray[np.intp],
        *,
        class_weight: str | None = None,
        tolerance: float = TOLERANCE,
        jobs: int = -1,
    ) -> None:
        self.samples = samples
        self.classes = classes
        self.folds = folds
        self.class_weight = class_weight
        self.tolerance = tolerance
        self.jobs = jobs
        self.rotation = Rotation.of(samples.features)
        self.in_memory = isinstance(samples.features, np.ndarray) and len(samples) * classes <= LOGITS
        self.inputs = self.rotation.inputs(samples.features) if self.in_memory else None
        # What all folds read, one after the other.
        self.rows = StreamedRows(samples.features, self.rotation.mean, self.rotation.scale, samples.folder)
        self._known: dict[int, dict[float, Floats]] = {}

    def run(self, values: tuple[float, ...]) -> CrossValidation:
        """Every value of C, in rising order, on every fold; solutions of earlier runs are gone on from."""
        import joblib
        from threadpoolctl import threadpool_limits

        values = tuple(sorted(values))
        count = int(self.folds.max()) + 1
        expect(len(values) * count)
        size = max(1, TOGETHER // self.classes) if self.in_memory else count
        groups = [range(first, min(first + size, count)) for first in range(0, count, size)]
        # Those that go on from solutions take less time: last, where they may be fewer than the workers.
        groups.sort(key=lambda group: group[0] in self._known)
        workers = joblib.effective_n_jobs(self.jobs)
        parts = []
        # By rounds, so that a last round with fewer groups than workers leaves no processor idle.
        for first in range(0, len(groups), workers):
            together = groups[first : first + workers]
            threads = max(1, workers // len(together))
            with threadpool_limits(limits=threads, user_api="blas"):
                tasks = (joblib.delayed(self._group)(group, values, threads) for group in together)
                parts += joblib.Parallel(n_jobs=self.jobs, prefer="threads")(tasks)
        figures = np.empty((4, len(values), count))
        for group, (found, solutions) in zip(groups, parts, strict=True):
            figures[:, :, group.start : group.stop] = found
            self.keep(group, solutions)
        accuracy, log_loss, converged, gap = figures
        return CrossValidation(values, accuracy, log_loss, converged > 0, gap, np.bincount(self.folds))

    def held_out(self, c: float) -> Floats:
        """(N, C) probabilities of every row by the fit at C of the fold that holds it out."""
        count = int(self.folds.max()) + 1
        size = max(1, TOGETHER // self.classes) if self.in_memory else count
        found = np.empty((len(self.samples), self.classes), np.float32)
        expect(count)
        for first in range(0, count, size):
            group = range(first, min(first + size, count))
            _, logits = FoldPath(self, group).solve(c)
            for fold, rows in zip(group, logits, strict=True):
                found[self.folds == fold] = softmax(rows)
            step(len(group))
        return found

    def keep(self, group: range, solutions: Mapping[float, Floats]) -> None:
        """Start later runs of these folds from their solutions: C -> (R, folds of the group, C)."""
        for column, fold in enumerate(group):
            self._known[fold] = {c: found[:, column] for c, found in solutions.items()}

    def known(self, group: range) -> dict[float, Floats]:
        """What is kept of all folds of a group, as `keep` takes it."""
        common = set.intersection(*(set(self._known.get(fold, {})) for fold in group))
        return {c: np.stack([self._known[fold][c] for fold in group], axis=1) for c in sorted(common)}

    def near(self, c: float) -> tuple[float, Floats]:
        """Another C and coefficients (R, 1, C) near the minimum on all rows there: the mean of the folds at
        the value next to `c` that is kept. The penalty is then as much beside all rows as beside a fold's."""
        count = int(self.folds.max()) + 1
        every = [self._known[fold] for fold in range(count)]
        common = set.intersection(*(set(known) for known in every))
        nearest = min(common, key=lambda known: abs(math.log(known / c)))
        mean: Floats = np.mean([known[nearest] for known in every], axis=0)
        return nearest * (count - 1) / count, mean[:, None]

    def _group(
        self, group: range, values: tuple[float, ...], threads: int
    ) -> tuple[NDArray[np.float64], Mapping[float, Floats]]:
        """Accuracy, log-loss, convergence and gap (4, V, folds of the group), and the solutions to keep."""
        path = FoldPath(self, group, threads)
        found = np.empty((4, len(values), len(group)))
        for row, c in enumerate(values):
            found[:, row] = path.score(c)
            step(len(group))
        return found, path.solutions


def held_bytes(rows: int, classes: int, folds: int, jobs: int, inputs: int) -> int:
    """What folds in memory hold beside `inputs`, the bytes of the features along the axes: each of those
    worked on at once its logits, and one that is solved alone, as the first is, the rows it is fitted on."""
    import joblib

    size = min(max(1, TOGETHER // classes), folds)
    together = min(int(joblib.effective_n_jobs(jobs)), -(-folds // size))
    a_fold = rows * (4 * TIMES * classes + WEIGHTS)
    alone = inputs + a_fold
    return together * alone if size == 1 else max(alone, together * size * a_fold)


class FoldPath:
    """One path of C for a group of folds, which are scored on the rows that each holds out.

    It starts from what these folds have solved before. Nothing is taken from another fold, whose solution
    has seen the rows that this one holds out.
    """

    def __init__(self, validator: CrossValidator, group: range, threads: int | None = None) -> None:
        self.samples, self.classes, self.folds = validator.samples, validator.classes, validator.folds
        self.rotation, self.inputs, self.rows = validator.rotation, validator.inputs, validator.rows
        self.class_weight, self.tolerance = validator.class_weight, validator.tolerance
        self.group, self.threads = group, threads
        self._path = SoftmaxPath(self._loss(), self.tolerance)
        for c, coefficients in validator.known(group).items():
            self._path.know(c, coefficients)

    @property
    def solutions(self) -> Mapping[float, Floats]:
        """C -> coefficients (R, folds of the group, C) of the values solved last."""
        return self._path.solved

    def score(self, c: float) -> NDArray[np.float64]:
        """Accuracy, log-loss, convergence and gap (4, folds of the group) at one C."""
        found = np.empty((4, len(self.group)))
        found[2:], held_out = self.solve(c)
        for column, logits in enumerate(held_out):
            labels = self.samples.labels[self.folds == self.group[column]]
            found[:2, column] = scores(softmax(logits), labels)
        return found

    def solve(self, c: float) -> tuple[NDArray[np.float64], list[Floats]]:
        """Convergence and gap (2, folds of the group) at one C, and the logits of the rows of each fold."""
        found = np.empty((2, len(self.group)))
        solution = self._path.solve(c)
        held_out = self._held_out(solution.coefficients)
        found[0], found[1] = solution.converged, solution.excess / solution.objective
        for column in np.flatnonzero(~solution.converged).tolist():
            solved = self._exact(self.group[column]).solve(
                solution.coefficients[:, column], c, self.tolerance
            )
            found[0, column], found[1, column] = solved.converged, solved.gap
            held_out[column] = self._held_out_of(self.group[column], solved)
        return found, held_out

    def _exact(self, fold: int) -> ExactLoss:
        weights = self._weights(range(fold, fold + 1))[:, 0]
        samples = self.samples
        return ExactLoss(
            samples.features, self.rotation, samples.labels, self.classes, weights, threads=self.threads
        )

    def _held_out_of(self, fold: int, solved: Solved) -> Floats:
        head = LinearHead(self.rotation.mean, self.rotation.scale, solved.weights, solved.bias)
        return head.decision(ChosenRows(self.samples.features, np.flatnonzero(self.folds == fold)))

    def _loss(self) -> SoftmaxLoss:
        labels, weights, threads = self.samples.labels, self._weights(self.group), self.threads
        if self.inputs is None:
            return streamed_loss(
                self.rotation, self.samples, self.classes, weights, threads=threads, rows=self.rows
            )
        if len(self.group) > 1:
            return MemoryLoss(self.inputs, labels, self.classes, weights, threads=threads)
        kept = self.folds != self.group[0]
        return MemoryLoss(self.inputs[kept], labels[kept], self.classes, weights[kept], threads=threads)

    def _weights(self, group: range) -> Floats:
        """(N, folds of the group): 0 for the rows held out."""
        weights = np.zeros((len(self.samples), len(group)), dtype=np.float32)
        for column, fold in enumerate(group):
            kept = self.folds != fold
            weights[kept, column] = (
                balanced_weights(self.samples.labels[kept], self.classes) if self.class_weight else 1
            )
        return weights

    def _held_out(self, coefficients: Floats) -> list[Floats]:
        """Logits of the rows held out, for each fold of the group."""
        loss, held = self._path.loss, [self.folds == fold for fold in self.group]
        if self.inputs is None:
            return self._streamed(held, coefficients)
        if isinstance(loss, MemoryLoss) and len(self.group) > 1:
            return [loss.logits[rows, column] for column, rows in enumerate(held)]
        return [self.inputs[held[0]] @ coefficients[:, 0]]

    def _streamed(self, held: list[NDArray[np.bool_]], coefficients: Floats) -> list[Floats]:
        weights = [self.rotation.back(coefficients[:, column]) for column in range(len(held))]
        found: list[list[Floats]] = [[] for _ in held]
        for rows, block in blocks(self.samples.features):
            standard = standardised(block, self.rotation.mean, self.rotation.scale)
            for column, fold in enumerate(held):
                here = fold[rows]
                matrix, bias = weights[column]
                found[column].append(np.asarray(standard[here] @ matrix + bias, dtype=np.float32))
        return [np.concatenate(part) for part in found]
