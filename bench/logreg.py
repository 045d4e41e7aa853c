"""Logistic regression: its search beside its path and scikit-learn, and ImageNet's size streamed.

    python -m bench logreg [--quick]
    python -m bench.logreg --before CHECKOUT    an older version beside it, in the same rounds

Every job is a process of its own (`bench.logreg_jobs`), interleaved in rounds. The problems are those of
`bench.heads`. Of ImageNet's size (1,281,167 × 2,048, 1,000 classes) a twentieth and a tenth of
the rows are fitted from a float16 store of which nothing is kept in memory; C is larger by as much as rows
are fewer, so that the penalty weighs as much. Time that grows with the rows is extrapolated to all of them.
An older version is only run on the fewest. Results go to bench/results/logreg.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, paired_ratio, print_table, write_results
from bench.heads import Problem, sample, synthetic
from probe.heads.logreg import GRID

HERE = Path(__file__).parents[1]
JOBS = ("fit", "search", "path")
ROUNDS = {"fit": 2, "search": 2, "path": 1}
"""Of the larger problems; three of everything for the sample."""
IMAGENET, WIDTH, CLASSES = 1_281_167, 2048, 1000
OPERATIONS = 4 * WIDTH * CLASSES
"""Floating-point operations a row of the two products of a look."""
PARTS = (20, 10)
VALUES = GRID[:5:2]
"""About ten looks at all rows, which is what time is measured of; a value costs more of them as C grows."""
PUBLIC = "public figures: Cyanure, one C to 1e-3, 20,000 s on a 32-core Xeon; CLIP's authors, two days a fit"


def main(quick: bool = False, before: Path | None = None, only: str | None = None) -> None:
    facts = machine() | {"quick": quick, "public": PUBLIC}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if only != "imagenet":
            rows += _in_memory(Path(folder), 10 if quick else 1, before, only)
            print_table("in memory, seconds (medians)", rows)
        if only in (None, "imagenet"):
            streamed = _streamed(Path(folder), [part * (10 if quick else 1) for part in PARTS], before)
            shown = [{name: value for name, value in row.items() if name != "path"} for row in streamed]
            print_table("ImageNet's size, streamed", shown)
            print(PUBLIC)
            rows += streamed
    write_results("logreg" if only is None else f"logreg_{only}", rows, facts)


def _in_memory(folder: Path, share: int, before: Path | None, only: str | None) -> list[dict[str, Any]]:
    problems = {
        "sample": sample,
        "wide": lambda: synthetic("wide", 5994 // share, 2048 // share, 200 // share, 0.5, 2000, 0.2),
        "tall": lambda: synthetic("tall", 90_000 // share, 1056 // share, 9, 0.25, 5000, 0.0),
    }
    rows = []
    for name in problems if only is None else (only,):
        file = _file(problems[name](), folder)
        rounds = dict.fromkeys(JOBS, 3) if name == "sample" else ROUNDS
        rows += [_pairs(name, job, file, rounds[job], before) for job in JOBS]
        # Hours for more columns, which is what `bench.heads` extrapolates.
        if name == "sample":
            rows.append(_against_scikit_learn(name, file, rounds["path"]))
        file.unlink()
    return rows


def _file(problem: Problem, folder: Path) -> Path:
    file = folder / f"{problem.name}.npz"
    arrays = {
        "train": problem.train.features,
        "train_labels": problem.train.labels,
        "val": problem.test.features,
        "val_labels": problem.test.labels,
    }
    np.savez(file, **arrays)
    return file


def _pairs(problem: str, job: str, file: Path, rounds: int, before: Path | None) -> dict[str, Any]:
    trees = {"now": HERE} | ({} if before is None else {"before": before})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for _ in range(rounds):
        for name, tree in trees.items():
            found[name].append(run(tree, job, str(file)))
    seconds = {name: [one["seconds"] for one in some] for name, some in found.items()}
    used = {name: [one["cpu_s"] for one in some] for name, some in found.items()}
    row = {
        "problem": problem,
        "job": job,
        "seconds": statistics.median(seconds["now"]),
        "cpu_s": statistics.median(used["now"]),
        "values": found["now"][0]["values"],
        "best_accuracy": found["now"][0]["best"],
        "rounds": rounds,
        "blas": found["now"][0]["blas"],
    }
    if before is not None:
        row |= {
            "before_s": statistics.median(seconds["before"]),
            "times_faster": paired_ratio(seconds["before"], seconds["now"]),
            "times_less_cpu": paired_ratio(used["before"], used["now"]),
            "best_before": found["before"][0]["best"],
        }
    return row


def _against_scikit_learn(problem: str, file: Path, rounds: int) -> dict[str, Any]:
    found = [[run(HERE, job, str(file)) for job in ("few", "scikit-learn")] for _ in range(rounds)]
    ours, theirs = ([pair[side]["seconds"] for pair in found] for side in (0, 1))
    return {
        "problem": problem,
        "job": "9 values × 3 folds",
        "seconds": statistics.median(ours),
        "values": found[0][0]["values"],
        "best_accuracy": found[0][0]["best"],
        "rounds": rounds,
        "blas": found[0][0]["blas"],
        "scikit_learn_s": statistics.median(theirs),
        "times_faster": paired_ratio(theirs, ours),
        "times_less_cpu": paired_ratio(*([pair[side]["cpu_s"] for pair in found] for side in (1, 0))),
        "best_scikit_learn": found[0][1]["best"],
        "blas_scikit_learn": found[0][1]["blas"],
    }


def _streamed(folder: Path, parts: list[int], before: Path | None) -> list[dict[str, Any]]:
    rows = []
    for part in parts:
        store = make_store(folder, IMAGENET // part)
        values = [str(c * part) for c in VALUES]
        trees = {"now": HERE} | ({"before": before} if before is not None and part == parts[0] else {})
        for name, tree in trees.items():
            rows.append(_summary(name, run(tree, "streamed", str(store), *values)))
    now = [row for row in rows if row["version"] == "now"]
    for row in rows:
        row["growth"] = row["look_s"] / row["rows"] / (now[0]["look_s"] / now[0]["rows"])
    return rows


def _summary(version: str, found: dict[str, Any]) -> dict[str, Any]:
    """`look_s` is one look at all rows in float32, `exact_s` all passes in float64, `rest_s` what else was
    done for the values, which does not grow with the rows; the hours are for as many values and looks on all
    of ImageNet. Of looks in bfloat16 `first_rough_s` is the one that copies the rows, before the first value,
    `rough_look_s` the mean of all others, `one_piece_s` and `two_pieces_s` the medians of those with weights
    in one piece and in two.
    """
    path: list[dict[str, Any]] = found["path"]
    seconds, looks = sum(row["seconds"] for row in path), sum(row["looks"] for row in path)
    looking, exact = sum(row["looking_s"] for row in path), sum(row["exact_s"] for row in path)
    rough_looks, rough = sum(row["rough_looks"] for row in path), sum(row["rough_s"] for row in path)
    look, more_rows = looking / looks, IMAGENET / found["rows"]
    growing = found["prepared_s"] + looking + rough + exact
    first, *later = found["rough_looks_s"] or [(0, None)]
    rough_look = statistics.fmean(seconds for _, seconds in later) if later else None
    return {
        "version": version,
        "rows": found["rows"],
        "prepared_s": found["prepared_s"],
        "values": len(path),
        "path_s": seconds,
        "looks": looks,
        "exact_passes": sum(row["exact_passes"] for row in path),
        "look_s": look,
        "look_gflops": OPERATIONS * found["rows"] / look / 1e9,
        "rough_looks": rough_looks,
        "first_rough_s": first[1],
        "rough_look_s": rough_look,
        "one_piece_s": _median(later, 1),
        "two_pieces_s": _median(later, 2),
        "finer_looks": sum(pieces == 2 for pieces, _ in found["rough_looks_s"]),
        "exact_s": exact,
        "rest_s": seconds - looking - rough - exact,
        "value_cpu_s": sum(row["cpu_s"] for row in path) / len(path),
        "imagenet_look_s": look * more_rows,
        "imagenet_rough_look_s": None if rough_look is None else rough_look * more_rows,
        "times_less_a_look": None if rough_look is None else look / rough_look,
        "imagenet_path_h": (growing * more_rows + seconds - looking - rough - exact) / 3600,
        "largest_gap": max(row["gap"] for row in path),
        "converged": all(row["converged"] for row in path),
        "peak_mb": found["peak_mb"],
        "blas": found["blas"],
        "path": path,
    }


def _median(looks: list[tuple[int, float]], pieces: int) -> float | None:
    """Of the seconds of looks with weights in so many pieces."""
    seconds = [spent for found, spent in looks if found == pieces]
    return statistics.median(seconds) if seconds else None


def make_store(folder: Path, rows: int) -> Path:
    """A float16 store of training rows: overlapping classes in 128 latent dimensions, behind a ReLU."""
    generator = np.random.default_rng(0)
    rank = 128
    spectrum = ((1 + np.arange(rank)) ** -0.5).astype(np.float32)
    centres = generator.standard_normal((CLASSES, rank), dtype=np.float32)
    mixing = generator.standard_normal((rank, WIDTH), dtype=np.float32) / np.linalg.norm(spectrum)
    labels = generator.permutation(np.arange(rows) % CLASSES)
    features = np.empty((rows, WIDTH), np.float16)
    for start in range(0, rows, 8192):
        some: NDArray[np.intp] = labels[start : start + 8192]
        latent = centres[some] + generator.standard_normal((len(some), rank), dtype=np.float32)
        noise = generator.standard_normal((len(some), WIDTH), dtype=np.float32)
        features[start : start + 8192] = np.maximum((latent * spectrum) @ mixing + noise, 0)
    wrong = generator.random(rows) < 0.1
    labels[wrong] = generator.integers(0, CLASSES, int(wrong.sum()))
    file, home = folder / "rows.npz", folder / f"home-{rows}"
    np.savez(file, features=features, labels=labels, splits=np.full(rows, "train"))
    program = [sys.executable, "-m", "probe", "--home", str(home), "stores", "import", str(file), "--quiet"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    file.unlink()
    (store,) = (home / "stores").iterdir()
    return store


def run(tree: Path, job: str, *arguments: str) -> dict[str, Any]:
    program = [sys.executable, "-P", str(HERE / "bench" / "logreg_jobs.py"), job, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--before", type=Path, help="a checkout of an older version")
    parser.add_argument("--only", choices=("sample", "wide", "tall", "imagenet"))
    return vars(parser.parse_args())


if __name__ == "__main__":
    main(**_arguments())
