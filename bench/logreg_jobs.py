"""One job of logistic regression in a process of its own; its last line is JSON.

    python bench/logreg_jobs.py JOB FILE [C …]

Only `probe` is imported, and only what has been there for long, so that `bench.logreg` can start it on an
older checkout (``PYTHONPATH``) and measure both in the same rounds. Jobs on a ``.npz`` with ``train``,
``train_labels``, ``val``, ``val_labels``:

* ``fit``      C searched on validation, then the fit on both;
* ``search``   C searched in five folds, then the fit of the choice;
* ``path``     all 45 values of C in five folds;
* ``few``      nine values in three folds, and ``scikit-learn`` the same with `LogisticRegressionCV`.

``streamed`` is on a store, of which nothing is kept in memory: the values of C one after the other.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from probe.heads import HEADS
from probe.heads.crossval import CrossValidator
from probe.heads.draws import stratified_folds
from probe.heads.head import Samples
from probe.heads.logreg import GRID, LogregOptions
from probe.heads.softmax_exact import ExactLoss
from probe.heads.softmax_loss import StreamedLoss

FEW = GRID[::5]


def fit(train: Samples, val: Samples, classes: int) -> dict[str, Any]:
    outcome = HEADS["logreg"].fit(train, val, classes)
    return {"values": len(outcome.path), "best": max(row["val_accuracy"] for row in outcome.path)}


def search(train: Samples, val: Samples, classes: int) -> dict[str, Any]:
    path = HEADS["logreg"].fit(train, None, classes, LogregOptions(cv=5)).path
    judged = [row["cv_accuracy"] for row in path if "cv_accuracy" in row]
    return {"values": len(path), "best": max(judged)}


def path(train: Samples, val: Samples, classes: int) -> dict[str, Any]:
    found = CrossValidator(train, classes, stratified_folds(train.labels, 5)).run(GRID)
    return {"values": len(GRID), "best": float(found.mean_accuracy().max())}


def few(train: Samples, val: Samples, classes: int) -> dict[str, Any]:
    found = CrossValidator(train, classes, stratified_folds(train.labels, 3)).run(FEW)
    return {"values": len(FEW), "best": float(found.mean_accuracy().max())}


def scikit_learn(train: Samples, val: Samples, classes: int) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegressionCV

    features = np.asarray(train.features)
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-12)
    folds = stratified_folds(train.labels, 3)
    splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(3)]
    model = LogisticRegressionCV(
        Cs=FEW, cv=splits, refit=False, n_jobs=-1, use_legacy_attributes=False, l1_ratios=(0,)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = np.asarray(model.fit(standard, train.labels).scores_).reshape(3, -1)
    return {"values": len(FEW), "best": float(scores.mean(axis=0).max())}


def streamed(store: Path, values: list[float]) -> dict[str, Any]:
    """Seconds before the first value and of each; how often it looked at all rows, in float32 and float64.

    `rough_looks_s` has every look in bfloat16: the pieces of its weights, and seconds.
    """
    from probe.fit.rows import Choice, load_parts
    from probe.heads.logreg import Solver
    from probe.store import open_store

    spent: dict[str, list[tuple[int, float]]] = {"look": [], "rough": [], "exact": []}
    # Older versions have no looks in bfloat16, and nothing beneath `look`.
    looking = "sums_at" if hasattr(StreamedLoss, "sums_at") else "look"
    _time(StreamedLoss, looking, spent["look"], spent["rough"])
    for name in ("_at", "_curvature"):
        _time(ExactLoss, name, spent["exact"], spent["exact"])
    train = load_parts(open_store(store), Choice(memory=0))["train"].samples
    began = time.perf_counter()
    solver = Solver(train, int(train.labels.max()) + 1, LogregOptions())
    prepared, rows = time.perf_counter() - began, []
    rough_looks = list(spent["rough"])
    for c in values:
        for found in spent.values():
            found.clear()
        began, used = time.perf_counter(), time.process_time()
        _, facts = solver.solve(c)
        seconds = {name: sum(look for _, look in found) for name, found in spent.items()}
        rough_looks += spent["rough"]
        rows.append(
            {
                "c": c,
                "seconds": time.perf_counter() - began,
                "cpu_s": time.process_time() - used,
                "looks": len(spent["look"]),
                "looking_s": seconds["look"],
                "rough_looks": len(spent["rough"]),
                "rough_s": seconds["rough"],
                "exact_passes": len(spent["exact"]),
                "exact_s": seconds["exact"],
                "gap": facts["excess"] / facts["objective"],
                "converged": facts["converged"],
            }
        )
    return {"rows": len(train), "prepared_s": prepared, "rough_looks_s": rough_looks, "path": rows}


def _time(owner: type, name: str, seconds: list[tuple[int, float]], rough: list[tuple[int, float]]) -> None:
    """Have a method add to `seconds` what each call of it takes, to `rough` where it is one in bfloat16."""
    method = getattr(owner, name)

    def timed(self: Any, *arguments: Any, **more: Any) -> Any:
        products = getattr(self, "products", None)
        began = time.perf_counter()
        try:
            return method(self, *arguments, **more)
        finally:
            spent = rough if type(products).__name__.startswith("Bfloat16") else seconds
            # Older versions do not say how many.
            spent.append((getattr(products, "pieces", 1), time.perf_counter() - began))

    setattr(owner, name, timed)


def peak_mb() -> int | None:
    """Of this program alone: `resource` counts the memory of the process that started it as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None)


JOBS = {"fit": fit, "search": search, "path": path, "few": few, "scikit-learn": scikit_learn}


def main(job: str, file: Path, values: list[float]) -> None:
    if job == "streamed":
        began, used = time.perf_counter(), time.process_time()
        found = streamed(file, values)
    else:
        with np.load(file) as arrays:
            train = Samples(arrays["train"], arrays["train_labels"])
            val = Samples(arrays["val"], arrays["val_labels"])
        began, used = time.perf_counter(), time.process_time()
        found = JOBS[job](train, val, int(train.labels.max()) + 1)
    found["seconds"], found["cpu_s"] = time.perf_counter() - began, time.process_time() - used
    found["peak_mb"] = peak_mb()
    found["blas"] = sorted(
        {
            f"{pool['internal_api']} {pool.get('architecture', '')} {pool['num_threads']}"
            for pool in threadpool_info()
        }
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [float(value) for value in sys.argv[3:]])
