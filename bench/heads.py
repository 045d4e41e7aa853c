"""How fast the heads are beside scikit-learn, on the same numbers at the same time.

    python -m bench.heads [--quick] [--only sample|wide|tall] [--features FILE.npz]

Three problems: EfficientNet-Lite0's features of the bundled Fashion-MNIST sample ("sample"), and structured
synthetic features whose best C lies inside the grid, 5,994 × 2,048 with 200 classes ("wide") and 90,000 ×
1,056 with 9 ("tall"); or `features` (N, D) and `labels` (N,) from a file. Rounds of the
two sides are interleaved and medians quoted, because a shared machine changes speed by a factor of two.
Results go to bench/results/heads.json with the facts of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, write_results
from probe.backbones import resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.extract import ExtractJob, extract
from probe.heads import HEADS
from probe.heads.crossval import CrossValidator
from probe.heads.draws import stratified_folds
from probe.heads.head import Samples
from probe.heads.logreg import GRID, LogregOptions
from probe.heads.neighbours import NeighbourSearch
from probe.heads.ridge import RidgeOptions
from probe.heads.rotation import Rotation
from probe.heads.softmax_kernel import softmax_residual
from probe.heads.softmax_loss import MemoryLoss
from probe.heads.softmax_path import SoftmaxPath
from probe.store import open_store

JOBS = ("knn", "ridge", "search", "solver", "cv")
CLOSE: Mapping[str, Any] = {"tol": 1e-5, "max_iter": 1000}
ALPHAS = tuple(float(a) for a in np.logspace(0, 6, 45))


@dataclass(frozen=True)
class Problem:
    """`shape` (rows, columns, classes) of the training part, `test` rows beside it."""

    name: str
    train: Samples
    test: Samples
    classes: int


def synthetic(
    name: str, rows: int, width: int, classes: int, separation: float, test: int, mislabelled: float
) -> Problem:
    """Overlapping classes in 128 latent dimensions of falling variance, mixed, with noise, through a ReLU.

    A share of the labels is random, which puts the best C inside the grid when a class has few rows.
    """
    generator = np.random.default_rng(0)
    n, rank = rows + test, 128
    labels = generator.permutation(np.arange(n) % classes)
    spectrum = ((1 + np.arange(rank)) ** -0.5).astype(np.float32)
    centres = separation * generator.standard_normal((classes, rank), dtype=np.float32)
    latent = (centres[labels] + generator.standard_normal((n, rank), dtype=np.float32)) * spectrum
    mixing = generator.standard_normal((rank, width), dtype=np.float32) / np.linalg.norm(spectrum)
    features = np.maximum(latent @ mixing + generator.standard_normal((n, width), dtype=np.float32), 0)
    labels = np.where(generator.random(n) < mislabelled, generator.integers(0, classes, n), labels)
    return Problem(
        name,
        Samples(features[:rows], labels[:rows]),
        Samples(features[rows:], labels[rows:]),
        classes,
    )


def from_file(path: Path) -> Problem:
    """A fifth of the rows, chosen by a fixed seed, is held out."""
    with np.load(path, allow_pickle=False) as archive:
        features, labels = archive["features"].astype(np.float32), archive["labels"].astype(int)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.split(order, [len(labels) // 5])
    return Problem(
        path.stem,
        Samples(features[train], labels[train]),
        Samples(features[test], labels[test]),
        int(labels.max()) + 1,
    )


def sample() -> Problem:
    """Real features: the sample's training part, and validation and test beside it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        data = open_dataset("fashion-sample", home)
        result = extract(ExtractJob(data, resolve("efficientnet-lite0", home=home)), home)
        features = open_store(Path(result.path)).features().read()
    parts = (data.splits == "train", data.splits != "train")
    train, test = (Samples(features[part], data.labels[part]) for part in parts)
    return Problem("sample", train, test, len(data.classes))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def standardised(problem: Problem) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, scale = problem.train.features.mean(axis=0), problem.train.features.std(axis=0) + 1e-12
    return (problem.train.features - mean) / scale, (problem.test.features - mean) / scale


def accuracy(model: Any, features: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    return float((model.predict(features) == labels).mean())


def bench_cross_validation(problem: Problem, rounds: int) -> list[dict[str, Any]]:
    """C over the grid by cross-validation, against LogisticRegressionCV on the same values and folds.

    Both sides do 9 values × 3 folds. The probe side also searches all 45 in 5 folds (which includes the final
    fit); `bench.logreg` has all of them. LogisticRegressionCV's 45 × 5 is extrapolated by the number of fits
    alone, 225 / 27, although each then has more rows. At its default tolerance some of its fits end far from
    the minimum, so it also runs with one that brings both sides to the same accuracies (`CLOSE`).
    """
    from sklearn.linear_model import LogisticRegressionCV

    train, _ = standardised(problem)
    labels = problem.train.labels
    few, folds3 = GRID[::5], stratified_folds(labels, 3)
    splits = [(np.flatnonzero(folds3 != f), np.flatnonzero(folds3 == f)) for f in range(3)]

    def theirs(**closer: Any) -> NDArray[np.float64]:
        model = LogisticRegressionCV(
            Cs=few, cv=splits, refit=False, n_jobs=-1, use_legacy_attributes=False, l1_ratios=(0,), **closer
        )
        scores: NDArray[np.float64] = np.asarray(model.fit(train, labels).scores_)
        return scores.reshape(3, -1).mean(axis=0)

    def small() -> Any:
        return CrossValidator(problem.train, problem.classes, folds3).run(few)

    def search() -> Any:
        return HEADS["logreg"].fit(problem.train, None, problem.classes, LogregOptions(cv=5))

    jobs: dict[str, Callable[[], Any]] = {
        "small": small,
        "theirs": theirs,
        "close": lambda: theirs(**CLOSE),
        "search": search,
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in jobs.items():
            seconds, results[name] = timed(work)
            times[name].append(seconds)
    ours = results["small"].mean_accuracy()
    path = results["search"].path
    judged = [entry["cv_accuracy"] for entry in path if "cv_accuracy" in entry]
    best = f"best C {few[int(ours.argmax())]:.1e} acc {ours.max():.3f} ({ours[0]:.3f} … {ours[-1]:.3f}); "
    found = f"{len(path)} values tried, best {max(judged):.4f}"
    rows = []
    for side, against in (("theirs", "LogisticRegressionCV"), ("close", "the same with tol=1e-5")):
        whole = [225 / 27 * seconds for seconds in times[side]]
        note = best + _gaps(ours, results[side])
        rows += [
            row(problem, "cv 9 × 3", times["small"], times[side], against, note),
            row(problem, "cv search", times["search"], whole, f"{against}, × 225/27", found),
        ]
    return rows


def _gaps(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    best, most = ours.max() - theirs.max(), np.abs(ours - theirs).max()
    return f"best differs {100 * best:+.2f}, any C at most {100 * most:.2f} points"


def bench_search(problem: Problem, rounds: int) -> list[dict[str, Any]]:
    """One `fit logreg` with its search over C, against one LogisticRegression at the C it chose."""
    from sklearn.linear_model import LogisticRegression

    train, test = standardised(problem)
    ours, theirs = [], []
    for _ in range(rounds):
        seconds, outcome = timed(
            lambda: HEADS["logreg"].fit(problem.train, problem.test, problem.classes, refit=False)
        )
        ours.append(seconds)
        chosen = outcome.chosen["c"]
        seconds, model = timed(lambda c=chosen: LogisticRegression(C=c).fit(train, problem.train.labels))
        theirs.append(seconds)
    found = max(entry["val_accuracy"] for entry in outcome.path)
    reference = accuracy(model, test, problem.test.labels)
    note = f"{len(outcome.path)} values tried, accuracy {found:.3f} against {reference:.3f}"
    return [row(problem, "search for C", ours, theirs, "one LogisticRegression", note)]


def bench_solver(problem: Problem, rounds: int) -> list[dict[str, Any]]:
    """The solver alone on a warm-started path of 9, against scipy's L-BFGS-B on the same objective."""
    from scipy.optimize import minimize

    inputs = Rotation.of(problem.train.features).inputs(problem.train.features)
    labels, classes = problem.train.labels.astype(np.intp), problem.classes
    weights = np.full((len(labels), 1), 1 / len(labels), dtype=np.float32)
    shape = (inputs.shape[1], 1, classes)

    def objective(flat: NDArray[np.float64], penalty: float) -> tuple[float, NDArray[np.float64]]:
        w = flat.astype(np.float32).reshape(shape[0], classes)
        residual = inputs @ w
        loss = softmax_residual(residual[:, None], labels, weights)
        w[-1] = 0
        gradient = inputs.T @ residual + penalty * w
        return float(loss[0] + 0.5 * penalty * (w**2).sum()), gradient.astype(np.float64).ravel()

    def scipys() -> list[float]:
        found, w = [], np.zeros(shape[0] * classes)
        for c in GRID[::5]:
            result = minimize(
                objective,
                w,
                args=(1 / (c * len(labels)),),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 500, "ftol": 1e-7, "gtol": 1e-9},
            )
            w = result.x
            found.append(float(result.fun))
        return found

    def own() -> list[float]:
        path = SoftmaxPath(MemoryLoss(inputs, labels, classes))
        return [float(path.solve(c).objective[0]) for c in GRID[::5]]

    ours, theirs = [], []
    for _ in range(rounds):
        seconds, found = timed(own)
        ours.append(seconds)
        seconds, reference = timed(scipys)
        theirs.append(seconds)
    worst = max((a - b) / b for a, b in zip(found, reference, strict=True))
    return [
        row(problem, "path of 9", ours, theirs, "scipy L-BFGS-B", f"objective at most {worst:+.1e} above")
    ]


def bench_ridge(problem: Problem, rounds: int, fits: int) -> list[dict[str, Any]]:
    """45 values with leave-one-out and validation scores, against `fits` RidgeClassifier fits × 45 / fits."""
    from sklearn.linear_model import RidgeClassifier

    train, test = standardised(problem)
    some = ALPHAS[:: len(ALPHAS) // fits][:fits]
    ours, theirs, gap = [], [], 0.0
    for _ in range(rounds):
        seconds, outcome = timed(
            lambda: HEADS["ridge"].fit(
                problem.train, problem.test, problem.classes, RidgeOptions(alpha=ALPHAS), refit=False
            )
        )
        ours.append(seconds)
        seconds, models = timed(
            lambda: [RidgeClassifier(alpha=alpha).fit(train, problem.train.labels) for alpha in some]
        )
        theirs.append(seconds * len(ALPHAS) / fits)
    scored = {entry["alpha"]: entry["val_accuracy"] for entry in outcome.path}
    for alpha, model in zip(some, models, strict=True):
        gap = max(gap, abs(scored[alpha] - accuracy(model, test, problem.test.labels)))
    note = f"accuracy differs by at most {100 * gap:.2f} points"
    return [row(problem, "ridge 45", ours, theirs, f"RidgeClassifier {fits} × {45 / fits:g}", note)]


def bench_knn(problem: Problem, rounds: int, queries: int) -> list[dict[str, Any]]:
    """20 neighbours of `queries` rows, against scikit-learn's brute force on all processors."""
    from sklearn.neighbors import NearestNeighbors

    train, query = problem.train.features, problem.test.features[:queries]
    rows = []
    for metric in ("cosine", "euclidean"):
        ours, theirs = [], []
        for _ in range(rounds):
            seconds, found = timed(lambda m=metric: NeighbourSearch(train, m).find(query, 20))
            ours.append(seconds)
            seconds, reference = timed(
                lambda m=metric: (
                    NearestNeighbors(n_neighbors=20, algorithm="brute", metric=m, n_jobs=-1)
                    .fit(train)
                    .kneighbors(query, return_distance=False)
                )
            )
            theirs.append(seconds)
        note = f"{100 * (found == reference).mean():.2f} % of the neighbours the same"
        rows.append(row(problem, f"knn {metric}", ours, theirs, "scikit-learn brute", note))
    return rows


def row(
    problem: Problem, job: str, ours: list[float], theirs: list[float], against: str, note: str
) -> dict[str, Any]:
    """Medians, and the median of the rounds' own ratios."""
    return {
        "problem": problem.name,
        "job": job,
        "probe_s": statistics.median(ours),
        "other_s": statistics.median(theirs),
        "times_faster": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
        "rounds": len(ours),
        "against": against,
        "note": note,
    }


def main(
    quick: bool = False,
    only: str | None = None,
    jobs: Sequence[str] = JOBS,
    features: Path | None = None,
) -> None:
    facts = machine()
    warnings.filterwarnings("ignore", message=".*converge.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
    share = 10 if quick else 1
    rounds = 1 if quick else 3
    builders: dict[str, Callable[[], Problem]] = {
        "sample": sample,
        "wide": lambda: synthetic(
            "wide", 5994 // share, 2048 // share, 200 // share, 0.5, 2000 // share, 0.2
        ),
        "tall": lambda: synthetic("tall", 90_000 // share, 1056 // share, 9, 0.25, 5000 // share, 0.0),
    }
    if features is not None:
        builders = {"file": lambda: from_file(features)}
    elif only:
        builders = {only: builders[only]}
    rows: list[dict[str, Any]] = []
    for build in builders.values():
        problem = build()
        benches: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "knn": lambda p=problem: bench_knn(p, rounds, 2000),
            "ridge": lambda p=problem: bench_ridge(p, rounds, 3 if quick else 9),
            "search": lambda p=problem: bench_search(p, rounds),
            "solver": lambda p=problem: bench_solver(p, 1),
            "cv": lambda p=problem: bench_cross_validation(p, 1),
        }
        for job in jobs:
            for entry in benches[job]():
                seconds = f"{entry['probe_s']:9.2f} s {entry['other_s']:9.2f} s {entry['times_faster']:7.1f}×"
                print(
                    f"{entry['problem']:6} {entry['job']:14} {seconds}  {entry['against']}; {entry['note']}"
                )
                rows.append(entry)
    write_results("heads", rows, facts | {"quick": quick})


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    parser.add_argument("--only", choices=("sample", "wide", "tall"))
    parser.add_argument("--jobs", nargs="*", choices=JOBS, default=JOBS, help="which comparisons")
    parser.add_argument("--features", type=Path, help=".npz with features (N, D) and labels (N,)")
    return vars(parser.parse_args())


if __name__ == "__main__":
    main(**_arguments())
