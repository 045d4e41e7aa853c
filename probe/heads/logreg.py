"""Multinomial logistic regression with its regularisation path; C is chosen on validation.

The objective is scikit-learn's: C·Σ loss + ½‖W‖², the penalty on the weights of *standardised* features (mean
and spread of the training rows only), the intercept unpenalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from probe.errors import FitError, FitOptionError, UsageError
from probe.heads import crossval
from probe.heads.crossval import TOGETHER, CrossValidation, CrossValidator, FoldPath
from probe.heads.draws import stratified_folds
from probe.heads.head import FitOutcome, FitSize, Floats, Samples, averaged, beyond_base, stack
from probe.heads.linear import LinearHead, scores
from probe.heads.rotation import Rotation
from probe.heads.softmax_certificate import certified
from probe.heads.softmax_exact import ExactLoss, Solved
from probe.heads.softmax_loss import LOGITS, TIMES, MemoryLoss, SoftmaxLoss, StreamedLoss, working_bytes
from probe.heads.softmax_path import TOLERANCE, SoftmaxPath
from probe.heads.softmax_products import is_bfloat16_faster
from probe.heads.softmax_rough import RoughLoss, streamed_loss
from probe.heads.standardise import constant_columns
from probe.heads.weighting import balanced_weights
from probe.progress import expect, step

GRID = tuple(float(c) for c in np.logspace(-6, 2, 45))
CERTIFICATE = ("c", "objective", "excess", "gap", "converged")
"""What a fit states of how near the minimum it is: `gap` is the bound `excess` relative to the objective."""
CLOSER = 0.8
"""The path over streamed rows ends within this share of the tolerance: its rounding has the rest."""


@dataclass(frozen=True)
class Search:
    """How a search goes through the grid: every `stride`-th value, then around the best down to `finest`.

    Of the values looked at first, which rise, it ends after `patience` in a row that are worse than the best.
    """

    stride: int
    finest: int
    patience: int

    @property
    def most(self) -> int:
        """Values it looks at, at most."""
        return len(GRID[:: self.stride]) + 2 * round(math.log2(self.stride / self.finest))


USUAL = Search(stride=4, finest=1, patience=2)
SHORT = Search(stride=8, finest=2, patience=1)
"""Where there are more logits than are kept in memory (`LOGITS`), every value costs minutes."""
MAKING_AXES = 40
"""Bytes an element of the square matrix that the axes come from, with its copies and what LAPACK works in."""
PATH_TIMES, STREAMED_TIMES, ROUGH_TIMES = 32, 40, 60
"""Arrays of coefficients that a path keeps: its curvature pairs, some solutions, and those in float64; where
rows are streamed their sums in float64 as well; and what looks in bfloat16 are corrected by."""
ROUGH_BYTES = 250_000_000
"""What looks in bfloat16 hold beside: OpenVINO, and blocks of rows in its own form."""
HELD_OUT_TIMES = 3
"""Arrays of the logits of all rows held out, where folds are streamed: by blocks, in one, and once more of a
fold or two while they are scored."""
FOLD_BYTES = 17
"""Bytes a row and fold: its weight, once more while it is normalised, and whether it is held out."""


@dataclass(frozen=True)
class LogregOptions:
    """How to fit logistic regression.

    Attributes
    ----------
    c : values of C to try, every one of them; by default a bracketed search over 45 values from 1e-6 to 1e2.
    full_path : try every one of the 45 values instead of searching.
    class_weight : balanced weights each row by N / (C · rows of its class); by default all alike.
    cv : choose C by cross-validation with this many folds over train and validation rows together,
        instead of on the validation rows; 0 for not.
    seed : of the folds.
    jobs : folds worked on at the same time, -1 for one per processor.
    tolerance : a fit counts as converged when its objective is proven to lie above the minimum by no more
        than this share; the fits of folds, which only rank values of C, by no more than 2e-4.
    """

    c: tuple[float, ...] = ()
    full_path: bool = False
    class_weight: Literal["balanced"] | None = None
    cv: int = 0
    seed: int = 0
    jobs: int = -1
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        wrong = [c for c in self.c if not 0 < c < float("inf")]
        if wrong:
            raise FitOptionError("C has to be a positive number", expected="C > 0", found=f"C = {wrong[0]:g}")
        if self.cv < 0 or self.cv == 1:
            raise FitOptionError(
                "cross-validation cannot be split this way",
                expected="at least 2 folds, or 0 for none",
                found=f"cv = {self.cv}",
            )
        if self.seed < 0 or self.jobs == 0 or not 0 < self.tolerance < 1:
            raise FitOptionError(
                "logistic regression cannot be fitted with these settings",
                expected="seed of at least 0, jobs of at least 1 or -1, 0 < tolerance < 1",
                found=f"seed = {self.seed}, jobs = {self.jobs}, tolerance = {self.tolerance:g}",
            )
        if self.class_weight not in (None, "balanced"):
            raise UsageError(
                "there is no such class weight", expected="balanced or none", found=str(self.class_weight)
            )


@dataclass(frozen=True)
class LogregHead(LinearHead):
    name: ClassVar[str] = "logreg"


@dataclass(frozen=True)
class Candidate:
    """One value of C and what it scored on validation."""

    c: float
    accuracy: float
    log_loss: float
    row: dict[str, Any]

    @property
    def rank(self) -> tuple[float, float]:
        """Most accurate first; among equals the lower log-loss."""
        return self.accuracy, -self.log_loss


def fit(
    train: Samples, val: Samples | None, classes: int, options: LogregOptions, *, refit: bool = True
) -> FitOutcome:
    """Fit the path on `train`, choose C on `val`, refit on both.

    The rule: highest validation accuracy, among equals lowest validation log-loss, among equals the C tried
    first (the smaller). Without `val`, C is given as one value or chosen by cross-validation (`options.cv`).
    """
    if options.cv:
        return _fit_cross_validated(train, val, classes, options, refit)
    if val is None:
        return _fit_single(train, classes, options, _only(options.c))
    (chosen, head, probabilities), rows, notes = _choose(train, val, classes, options)
    fitted = {fact: chosen.row[fact] for fact in CERTIFICATE}
    if refit:
        again = _refit(stack(train, val), classes, options, chosen.c, head, len(train))
        notes += _unfinished(again.path, "the fit of the choice on train + validation")
        head, fitted = again.head, again.fitted  # type: ignore[assignment]
    used_for = "choose C" if len(rows) > 1 else ""
    return FitOutcome(head, {"c": chosen.c}, rows, probabilities, notes, fitted=fitted, val_used_for=used_for)


Start = tuple[float, Floats]
"""A value of C, and coefficients (R + 1, 1, C) that ought to be near the minimum there."""
Best = tuple[Candidate, LogregHead, Floats]
"""A value of C, the fit at it, and its probabilities on validation."""


def _choose(
    train: Samples, val: Samples, classes: int, options: LogregOptions
) -> tuple[Best, list[dict[str, Any]], tuple[str, ...]]:
    """The best value, what was tried, and notes. What the fits needed in memory is let go before a refit."""
    solver = Solver(train, classes, options)
    best: Best | None = None

    def score(c: float) -> Candidate:
        nonlocal best
        solved, facts = solver.solve(c)
        head = solver.head(solved)
        probabilities = averaged(head, val)
        accuracy, loss = scores(probabilities, val.labels)
        found = Candidate(
            c, accuracy, loss, {"c": c, "val_accuracy": accuracy, "val_log_loss": loss, **facts}
        )
        # One is kept: with thousands of classes the probabilities of every value would fill the memory.
        if best is None or (found.rank, -c) > (best[0].rank, -best[0].c):
            best = found, head, probabilities
        return found

    search = _search(train, classes)
    rows = [candidate.row for candidate in _try(score, options, search)]
    assert best is not None
    notes = constant_columns(solver.rotation.scale) + _notes(best[0].c, rows, options.c or GRID)
    return best, rows, notes + _shortened(train, classes, options, search)


def held_bytes(size: FitSize, options: LogregOptions, *, in_memory: bool) -> int:
    """The axes, the coefficients along them, and what folds hold; in memory the features along the axes and
    the logits a few times over, unless there are too many of these."""
    rows, folds = size.fitted, options.cv
    logits = rows * size.classes
    if not _streams(size, in_memory=in_memory):
        inputs = 4 * rows * (min(rows, size.width) + 1)
        beside = crossval.held_bytes(rows, size.classes, folds, options.jobs, inputs) if folds else 0
        along = _path_bytes(size, max(1, min(folds, TOGETHER // size.classes)), PATH_TIMES)
        return inputs + max(4 * TIMES * logits, beside) + beyond_base(_axes_bytes(size) + along)
    streamed_folds = rows * (FOLD_BYTES * folds + 4 * HELD_OUT_TIMES * size.classes) if folds else 0
    along = _path_bytes(size, max(1, folds), STREAMED_TIMES)
    blocks = working_bytes(rows, size.width, max(1, folds) * size.classes)
    return beyond_base(_axes_bytes(size) + along + blocks + streamed_folds)


def spare_bytes(size: FitSize, options: LogregOptions, *, in_memory: bool) -> int:
    """What looks in bfloat16 take, where rows are streamed and there are such looks."""
    problems = max(1, options.cv)
    if not _streams(size, in_memory=in_memory) or not is_bfloat16_faster(size.width, problems * size.classes):
        return 0
    return ROUGH_BYTES + _path_bytes(size, problems, ROUGH_TIMES - STREAMED_TIMES)


def _streams(size: FitSize, *, in_memory: bool) -> bool:
    """Whether rows are looked at block by block: those on disk, and those of which logits are not kept."""
    return not in_memory or size.fitted * size.classes > LOGITS


def _axes_bytes(size: FitSize) -> int:
    """The axes while they are worked out."""
    rows, width = size.fitted, size.width
    rank = min(rows, width)
    whole = 8 * rows * width if rows < width else 0
    return whole + MAKING_AXES * rank**2 + 12 * rank * width


def _path_bytes(size: FitSize, problems: int, times: int) -> int:
    """So many arrays of the coefficients of so many problems."""
    return 4 * times * min(size.fitted, size.width) * size.classes * problems


def _search(samples: Samples, classes: int) -> Search:
    return USUAL if len(samples) * classes <= LOGITS else SHORT


def _shortened(samples: Samples, classes: int, options: LogregOptions, search: Search) -> tuple[str, ...]:
    """What the search left out, and why."""
    if search is USUAL or options.c or options.full_path:
        return ()
    why = f"{len(samples):,} rows × {classes:,} classes make every value expensive"
    steps = f"every {search.stride}th of {len(GRID)} values, then every {search.finest}nd around the best"
    return (f"C was searched in larger steps ({steps}): {why}; --full-path tries all",)


def bracketed(
    score: Callable[[float], Candidate], grid: tuple[float, ...] = GRID, search: Search = USUAL
) -> list[Candidate]:
    """Score about a quarter of the grid: every fourth value upwards until two in a row are worse, then the
    neighbours of the best at half the distance, and again.

    Accuracy over log C is flat and single-peaked near its top, which is what makes this enough.
    """
    tried: dict[int, Candidate] = {}
    best, worse = 0, 0
    for position in range(0, len(grid), search.stride):
        tried[position] = score(grid[position])
        if tried[position].rank > tried[best].rank:
            best, worse = position, 0
        elif position:
            worse += 1
        if worse == search.patience:
            break
    distance = search.stride
    while distance > search.finest:
        distance //= 2
        centre = best
        for position in (centre - distance, centre + distance):
            if 0 <= position < len(grid) and position not in tried:
                tried[position] = score(grid[position])
                if tried[position].rank > tried[best].rank:
                    best = position
    return list(tried.values())


def _fit_cross_validated(
    train: Samples, val: Samples | None, classes: int, options: LogregOptions, refit: bool
) -> FitOutcome:
    """The same rule over rows held out of folds; with `refit` the folds are of train and validation rows."""
    pool = stack(train, val) if refit else train
    folds = stratified_folds(pool.labels, options.cv, options.seed, pool.units)
    validator = CrossValidator(
        pool,
        classes,
        folds,
        class_weight=options.class_weight,
        jobs=options.jobs,
    )
    search = _search(pool, classes)
    if options.c or options.full_path:
        tried = _rows(validator.run(options.c or GRID))
    else:
        tried = _searched_in_folds(validator, search)
    best = max((row for row in tried if "cv_accuracy" in row), key=_cv_rank)
    rotation, start = validator.rotation, validator.near(best["c"])
    # Its features along the axes are made once more.
    del validator
    final = kept = _fit_single(pool, classes, options, best["c"], rotation, start)
    if refit and val is not None:
        kept = _fit_single(train, classes, options, best["c"])
    probabilities = None if val is None else averaged(kept.head, val)
    notes = constant_columns(rotation.scale) + _notes(best["c"], tried, options.c or GRID)
    notes += _unfinished(final.path, "the fit of the choice on all of these rows") + _never_right(pool, folds)
    notes += _shortened(pool, classes, options, search)
    if val is not None and val.views:
        notes += ("C was chosen in folds of plain features, not of averages",)
    # Without the refit no fold had them in it.
    used_for = "choose C, in folds with the training rows" if refit and len(tried) > 1 else ""
    chosen = {"c": best["c"], "cv": options.cv}
    return FitOutcome(
        final.head, chosen, tried, probabilities, notes, fitted=final.fitted, val_used_for=used_for
    )


def _searched_in_folds(validator: CrossValidator, search: Search) -> list[dict[str, Any]]:
    """One fold says where to look, all folds say what is best there: only values that all have seen count.

    The window of five values moves on while its best lies at its edge, so that one fold's chance decides
    nothing but where the search begins.
    """
    glances = _first_glances(validator, search)
    seen: dict[int, dict[str, Any]] = {}
    top = GRID.index(max(glances, key=lambda found: found.rank).c)
    reach, edge = search.stride // 2, True
    while edge:
        window = range(max(0, top - reach), min(len(GRID), top + reach + 1), search.finest)
        new = [position for position in window if position not in seen]
        rows = _rows(validator.run(tuple(GRID[position] for position in new)))
        seen.update(zip(new, rows, strict=True))
        top = max(sorted(seen), key=lambda position: _cv_rank(seen[position]))
        edge = top in (min(seen), max(seen)) and 0 < top < len(GRID) - 1
    judged = [seen[position] for position in sorted(seen)]
    values = {row["c"] for row in judged}
    return [found.row for found in glances if found.c not in values] + judged


def _first_glances(validator: CrossValidator, search: Search) -> list[Candidate]:
    """What the first fold says of every `stride`-th value; its solutions are kept, and nothing else of it."""
    first = FoldPath(validator, range(1))

    def glance(c: float) -> Candidate:
        accuracy, log_loss, converged, gap = first.score(c)[:, 0].tolist()
        figures = {"first_fold_accuracy": accuracy, "first_fold_log_loss": log_loss}
        step()
        row = {"c": c, **figures, "converged": converged > 0, "gap": gap}
        return Candidate(c, accuracy, log_loss, row)

    expect(len(GRID[:: search.stride]))
    glances = bracketed(glance, GRID, replace(search, finest=search.stride))
    validator.keep(first.group, first.solutions)
    return glances


def _never_right(pool: Samples, folds: NDArray[np.intp]) -> tuple[str, ...]:
    """Classes that the folds cannot say anything about: held out, they are in no row that is fitted on."""
    classes, counts = np.unique(np.unique(np.stack([pool.labels, folds]), axis=1)[0], return_counts=True)
    lonely = classes[counts == 1]
    if not len(lonely):
        return ()
    shown = ", ".join(map(str, lonely[:10])) + (" …" if len(lonely) > 10 else "")
    where = f"all rows of class number {shown} lie in one fold (too few rows, or one group)"
    return (f"{where}: cross-validation counts them as wrong",)


def _rows(result: CrossValidation) -> list[dict[str, Any]]:
    accuracy, log_loss = result.mean_accuracy(), result.mean_log_loss()
    return [
        {
            "c": c,
            "cv_accuracy": float(accuracy[row]),
            "cv_log_loss": float(log_loss[row]),
            "fold_accuracy": [float(value) for value in result.accuracy[row]],
            "converged": bool(result.converged[row].all()),
            "gap": float(result.gap[row].max()),
        }
        for row, c in enumerate(result.values)
    ]


def _cv_rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["cv_accuracy"], -row["cv_log_loss"]


def _try(score: Callable[[float], Candidate], options: LogregOptions, search: Search) -> list[Candidate]:
    every = options.c or options.full_path
    expect(len(options.c or GRID) if every else search.most)

    def counted(c: float) -> Candidate:
        found = score(c)
        step()
        return found

    return [counted(c) for c in sorted(options.c or GRID)] if every else bracketed(counted, GRID, search)


def _refit(
    pool: Samples, classes: int, options: LogregOptions, c: float, head: LogregHead, rows: int
) -> FitOutcome:
    """The fit at C of more rows than the `rows` of `head`, from which it starts."""
    rotation = Rotation.of(pool.features)
    start = rotation.along(head.weights, head.bias, head.mean, head.scale)
    return _fit_single(pool, classes, options, c, rotation, (c * rows / len(pool), start[:, None]))


def _fit_single(
    samples: Samples,
    classes: int,
    options: LogregOptions,
    c: float,
    rotation: Rotation | None = None,
    start: Start | None = None,
) -> FitOutcome:
    solver = Solver(samples, classes, options, rotation, start)
    solved, facts = solver.solve(c)
    row = {"c": c, **facts}
    notes = constant_columns(solver.rotation.scale) + _unfinished([row])
    fitted = {fact: row[fact] for fact in CERTIFICATE}
    return FitOutcome(solver.head(solved), {"c": c}, [row], notes=notes, fitted=fitted)


def _only(values: tuple[float, ...]) -> float:
    """The one value of C that was given."""
    if len(values) != 1:
        raise FitError(
            "C cannot be chosen without a validation part",
            expected="a validation part, or one value of C",
            found=f"{len(values) or 'no'} values of C",
            hint="give one value (--c 0.01), use --cv 5, or extract with --split 0.6,0.2,0.2",
        )
    return values[0]


class Solver:
    """One path on the samples, every solution of which is looked at again in float64.

    It begins at `start`, coefficients along the axes of the rotation, where these are near the minimum.
    """

    def __init__(
        self,
        samples: Samples,
        classes: int,
        options: LogregOptions,
        rotation: Rotation | None = None,
        start: Start | None = None,
    ) -> None:
        weights = balanced_weights(samples.labels, classes) if options.class_weight else None
        self.rotation = rotation or Rotation.of(samples.features)
        columns = None if weights is None else weights[:, None]
        loss = softmax_loss(self.rotation, samples, classes, columns)
        close = loss.close if isinstance(loss, RoughLoss) else loss
        self._streamed = close if isinstance(close, StreamedLoss) else None
        closer = 1 if self._streamed is None else CLOSER
        self._path = SoftmaxPath(loss, closer * options.tolerance)
        if start is not None:
            self._path.start(*start)
        self._exact = ExactLoss(samples.features, self.rotation, samples.labels, classes, weights)
        self._tolerance = options.tolerance

    def solve(self, c: float) -> tuple[Solved, dict[str, Any]]:
        """The minimum at C, and what the path says of it."""
        near = self._path.solve(c)
        coefficients = near.coefficients[:, 0]
        solved = None
        if self._streamed is not None and near.look.sums is not None:
            sums = near.look.sums
            solved = certified(self._exact, self._streamed, sums, coefficients, c, self._tolerance)
        if solved is None:
            solved = self._exact.solve(coefficients, c, self._tolerance)
        facts = {
            "train_loss": solved.loss,
            "objective": solved.objective,
            "iterations": near.iterations,
            "converged": solved.converged,
            "excess": solved.excess,
            "gap": solved.gap,
        }
        return solved, facts

    def head(self, solved: Solved) -> LogregHead:
        return LogregHead(self.rotation.mean, self.rotation.scale, solved.weights, solved.bias)


def softmax_loss(rotation: Rotation, samples: Samples, classes: int, weights: Floats | None) -> SoftmaxLoss:
    """In memory for an array and not too many logits, streamed otherwise."""
    if isinstance(samples.features, np.ndarray) and len(samples) * classes <= LOGITS:
        return MemoryLoss(rotation.inputs(samples.features), samples.labels, classes, weights)
    return streamed_loss(rotation, samples, classes, weights)


def _notes(c: float, tried: list[dict[str, Any]], values: tuple[float, ...]) -> tuple[str, ...]:
    notes = _unfinished(tried)
    if len(values) > 2 and c in (min(values), max(values)):
        end = "lower" if c == min(values) else "upper"
        notes += (f"the chosen C = {c:g} lies at the {end} end of the values tried",)
    return notes


def _unfinished(rows: list[dict[str, Any]], which: str = "the fit") -> tuple[str, ...]:
    return tuple(
        f"{which} at C = {row['c']:g} stopped before it had converged" for row in rows if not row["converged"]
    )
