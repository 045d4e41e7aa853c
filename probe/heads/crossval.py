"""Cross-validation of logistic regression over a grid of C: one rotation, one path per fold.

The rotation and the standardisation are those of all rows given, which are training rows; no label enters
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats, Samples, blocks
from probe.heads.linear import LinearHead, scores, softmax
from probe.heads.rotation import Rotation
from probe.heads.softmax_exact import ExactLoss, Solved
from probe.heads.softmax_loss import LOGITS, MemoryLoss, SoftmaxLoss, StreamedLoss
from probe.heads.softmax_path import SoftmaxPath
from probe.heads.standardise import standardised
from probe.heads.weighting import balanced_weights
from probe.progress import expect, step

TOLERANCE = 2e-4
"""Bound on the relative distance to the minimum, which is most often far smaller: enough to rank values of C
by rows held out. The fit that is kept is solved more closely."""
TOGETHER = 64
"""Folds are solved in one go up to about this many columns (folds × classes): more fill a product alone."""


@dataclass(frozen=True)
class CrossValidation:
    """For V values of C and F folds: figures (V, F) on the rows held out, and the rows (F,) of each fold."""

    values: tuple[float, ...]
    accuracy: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    converged: NDArray[np.bool_]
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

    def run(self, values: tuple[float, ...]) -> CrossValidation:
        """Every value of C, in rising order, on every fold."""
        import joblib
        from threadpoolctl import threadpool_limits

        values = tuple(sorted(values))
        count = int(self.folds.max()) + 1
        expect(len(values) * count)
        size = max(1, TOGETHER // self.classes) if self.in_memory else count
        groups = [range(first, min(first + size, count)) for first in range(0, count, size)]
        workers = joblib.effective_n_jobs(self.jobs)
        parts = []
        # By rounds, so that a last round with fewer groups than workers leaves no processor idle.
        for first in range(0, len(groups), workers):
            together = groups[first : first + workers]
            with threadpool_limits(limits=max(1, workers // len(together)), user_api="blas"):
                tasks = (joblib.delayed(self._group)(group, values) for group in together)
                parts += joblib.Parallel(n_jobs=self.jobs, prefer="threads")(tasks)
        accuracy, log_loss, converged = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        return CrossValidation(values, accuracy, log_loss, converged, np.bincount(self.folds))

    def _group(
        self, group: range, values: tuple[float, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Accuracy, log-loss and convergence (V, folds of the group)."""
        path = SoftmaxPath(self._loss(group), self.tolerance)
        accuracy = np.empty((len(values), len(group)))
        log_loss = np.empty_like(accuracy)
        converged = np.empty(accuracy.shape, dtype=bool)
        for row, c in enumerate(values):
            solution = path.solve(c)
            held_out = self._held_out(group, path.loss, solution.coefficients)
            converged[row] = solution.converged
            for column in np.flatnonzero(~solution.converged).tolist():
                solved = self._exact(group[column]).solve(solution.coefficients[:, column], c, self.tolerance)
                converged[row, column] = solved.converged
                held_out[column] = self._held_out_of(group[column], solved)
            for column, logits in enumerate(held_out):
                labels = self.samples.labels[self.folds == group[column]]
                accuracy[row, column], log_loss[row, column] = scores(softmax(logits), labels)
            step(len(group))
        return accuracy, log_loss, converged

    def _exact(self, fold: int) -> ExactLoss:
        weights = self._weights(range(fold, fold + 1))[:, 0]
        return ExactLoss(self.samples.features, self.rotation, self.samples.labels, self.classes, weights)

    def _held_out_of(self, fold: int, solved: Solved) -> Floats:
        head = LinearHead(self.rotation.mean, self.rotation.scale, solved.weights, solved.bias)
        return head.decision(self.samples.features[np.flatnonzero(self.folds == fold)])

    def _loss(self, group: range) -> SoftmaxLoss:
        labels = self.samples.labels
        if self.inputs is None:
            return StreamedLoss(
                self.samples.features, self.rotation, labels, self.classes, self._weights(group)
            )
        if len(group) > 1:
            return MemoryLoss(self.inputs, labels, self.classes, self._weights(group))
        kept = self.folds != group[0]
        return MemoryLoss(self.inputs[kept], labels[kept], self.classes, self._weights(group)[kept])

    def _weights(self, group: range) -> Floats:
        """(N, folds of the group): 0 for the rows held out."""
        weights = np.zeros((len(self.samples), len(group)), dtype=np.float32)
        for column, fold in enumerate(group):
            kept = self.folds != fold
            weights[kept, column] = (
                balanced_weights(self.samples.labels[kept], self.classes) if self.class_weight else 1
            )
        return weights

    def _held_out(self, group: range, loss: SoftmaxLoss, coefficients: Floats) -> list[Floats]:
        """Logits of the rows held out, for each fold of the group."""
        held = [self.folds == fold for fold in group]
        if self.inputs is None:
            return self._streamed(held, coefficients)
        if isinstance(loss, MemoryLoss) and len(group) > 1:
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
