"""How often a race within a budget keeps what a survey of all images finds best, and what it costs.

    python -m bench survey [--quick]

Eight sets: seven of Fashion-MNIST's pictures, 1,600 of a class to learn from and 500 to test on (half of
them, three choices of their classes, a long tail of classes, 40 % of them with every tenth label drawn
anew, half of them turned by quarters: which way up?), and scikit-learn's digits. Seven backbones: XX fourth
stage and the last features, each with ridge regression and nearest neighbours: 22 candidates. Every race
sees another order of the images. What a race keeps is scored by what a survey of all images says of it on
the test part, which no race has seen. Goals: within a point of the best in 95 of 100 races, at 20 % of the
image passes. Pictures are of Debian's package dataset-fashion-mnist, or of the folder FASHION_MNIST names.
Features are kept in the home's cache. Results go to bench/results/survey.json.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.common import machine, print_table, write_results
from probe import backbones
from probe.config import Home, default_home
from probe.datasets import open_dataset
from probe.datasets.dataset import TEST
from probe.datasets.opening import DatasetOptions
from probe.heads import HEADS
from probe.heads.head import Samples
from probe.store import slug
from probe.survey.expect import Curve, learning_curve
from probe.survey.race import Candidate, Judged, Outcome, Terms, race_order, run_race

BUDGET, NEAR = 0.2, 0.01
RACES, QUICK_RACES = 5, 2
SIDE, BATCH = 64, 64
OF_A_CLASS, TEST_OF_A_CLASS = 1600, 500
NETWORKS = {
    "lite0": ("efficientnet-lite0", "imagenet"),
    "lite1": ("efficientnet-lite1", "imagenet"),
    "lite2": ("efficientnet-lite2", "imagenet"),
    "untrained": ("efficientnet-lite0", "random:0"),
}
OUTPUTS, PIXELS, RUN_HEADS = ("block4", "avg_pool"), (7, 14, 28), ("ridge", "knn")
VALIDATION = 5
"""One row in so many of those that a head is fitted on is for its choices, as in `probe.workspace.race`."""


@dataclass(frozen=True)
class Problem:
    """A set: features (N, D) by (backbone, output), labels (N,), and which rows are the test part."""

    name: str
    features: Mapping[tuple[str, str], NDArray[np.float32]]
    labels: NDArray[np.intp]
    test: NDArray[np.bool_]

    def take(self, name: str, rows: NDArray[np.intp], labels: NDArray[np.intp] | None = None) -> Problem:
        chosen = (self.labels if labels is None else labels)[rows]
        features = {key: values[rows] for key, values in self.features.items()}
        return Problem(name, features, np.unique(chosen, return_inverse=True)[1], self.test[rows])

    @property
    def candidates(self) -> list[Candidate]:
        return [Candidate(*key, head) for key in self.features for head in RUN_HEADS]

    def judge(
        self, candidate: Candidate, fitted: NDArray[np.intp], judged: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """(m,) whether each of the rows `judged` is right, by a head fitted on the rows `fitted` in order."""
        features, classes = self.features[candidate.backbone, candidate.output], int(self.labels.max()) + 1
        places = np.arange(len(fitted))
        choosing = (places >= classes) & (places % VALIDATION == 0)
        parts = [Samples(features[rows], self.labels[rows]) for rows in (fitted[~choosing], fitted[choosing])]
        head = HEADS[candidate.head].fit(*parts, classes).head
        return head.predict_proba(features[judged]).argmax(axis=1) == self.labels[judged]

    def curve(self, candidate: Candidate, seen: NDArray[np.intp]) -> Curve:
        """On the rows `seen`, in the order of the race, as `probe.workspace.race` asks for it."""
        features = self.features[candidate.backbone, candidate.output]
        samples = Samples(features[seen], self.labels[seen])
        return learning_curve(HEADS[candidate.head], samples, np.arange(len(seen)))


def extracted(
    name: str, pictures: NDArray[np.uint8], labels: NDArray[Any], test: NDArray[np.bool_]
) -> Problem:
    """The features of every backbone of grey pictures (N, h, w), computed once and kept in the cache."""
    kept = default_home().cache / "bench-survey" / f"{slug(name)}.npz"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        features = _pixels(pictures) | _networks(pictures)
        with kept.open("wb") as file:
            np.savez(file, **{"/".join(key): values for key, values in features.items()})
    with np.load(kept) as arrays:
        features = {tuple(key.split("/")): arrays[key] for key in arrays.files}
    assert all(len(values) == len(labels) for values in features.values()), f"{kept} is of other pictures"
    return Problem(name, features, labels.astype(np.intp), test)


def _pixels(pictures: NDArray[np.uint8]) -> dict[tuple[str, str], NDArray[np.float32]]:
    features = {}
    for side in PIXELS:
        small = np.stack([_resized(picture, side) for picture in pictures])
        features[f"pixels-{side}", "pixels"] = small.reshape(len(small), -1).astype(np.float32) / 255
    return features


def _networks(pictures: NDArray[np.uint8]) -> dict[tuple[str, str], NDArray[np.float32]]:
    features: dict[tuple[str, str], NDArray[np.float32]] = {}
    for network, (row, weights) in NETWORKS.items():
        spec = backbones.resolve(
            row, size=SIDE, weights=weights, outputs=OUTPUTS, precision="fp32", home=default_home()
        )
        extractor = backbones.load(spec, batch_size=BATCH)
        rows: dict[str, list[NDArray[np.float32]]] = {output: [] for output in OUTPUTS}
        for start in range(0, len(pictures), BATCH):
            batch = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8)
            some = pictures[start : start + BATCH]
            batch[: len(some)] = np.stack([_resized(picture, SIDE) for picture in some])[..., None]
            for output, values in extractor(batch).items():
                rows[output].append(values[: len(some)])
        features |= {(network, output): np.concatenate(values) for output, values in rows.items()}
    return features


def _resized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def problems() -> Iterator[Problem]:
    """The eight sets."""
    from sklearn.datasets import load_digits

    pictures, labels, test = _fashion()
    generator = np.random.default_rng(3)
    every = extracted("fashion", pictures, labels, test)
    chance = generator.random(len(labels))
    yield every.take("fashion", np.flatnonzero(chance < 0.5))
    choices = {"tops": [0, 2, 3, 4, 6], "shoes and bags": [5, 7, 8, 9], "shirts": [0, 6]}
    for name, classes in choices.items():
        yield every.take(name, np.flatnonzero(np.isin(labels, classes)))
    yield every.take("long tail", np.flatnonzero(chance < 0.75**every.labels))
    drawn = generator.random(len(labels)) < 0.1
    wrong = np.where(drawn, generator.integers(0, 10, len(labels)), every.labels)
    yield every.take("wrong labels", np.flatnonzero(chance > 0.6), wrong)
    generator = np.random.default_rng(5)
    quarters = generator.integers(0, 4, len(labels))
    half = np.flatnonzero(generator.random(len(labels)) < 0.5)
    turned = np.stack([np.rot90(pictures[row], quarters[row]) for row in half])
    yield extracted("which way up", turned, quarters[half], test[half])
    digits = load_digits()
    grey = (digits.images * 255 / 16).astype(np.uint8)
    yield extracted("digits", grey, digits.target, np.arange(len(grey)) % 10 >= 7)


def _fashion() -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.bool_]]:
    """Pictures (N, 28, 28), labels and test rows of the part of Fashion-MNIST that is used."""
    source = os.environ.get("FASHION_MNIST")
    with tempfile.TemporaryDirectory() as folder:
        options = DatasetOptions(source=Path(source) if source else None)
        data = open_dataset("fashion-mnist", Home(Path(folder)), options)
        held = data.splits == TEST
        rows = [
            np.flatnonzero((data.labels == label) & (held == part))[:count]
            for part, count in ((False, OF_A_CLASS), (True, TEST_OF_A_CLASS))
            for label in range(len(data.classes))
        ]
        chosen = np.concatenate(rows)
        chosen = chosen[np.lexsort((chosen, held[chosen]))]  # what is tested on comes last
        pictures = np.stack([np.asarray(data.source.read(int(row))) for row in chosen])
    assert pictures.shape[1:] == (28, 28)
    return pictures, data.labels[chosen].astype(np.intp), held[chosen]


def measure(problem: Problem, races: int) -> dict[str, Any]:
    """A survey of all images, and races beside it."""
    pool, test = np.flatnonzero(~problem.test), np.flatnonzero(problem.test)
    units = np.arange(len(pool))
    began = time.process_time()
    order = pool[race_order(problem.labels[pool], units, 10**6)]
    full = {one: float(problem.judge(one, order, test).mean()) for one in problem.candidates}
    best = max(full.values())
    outcomes = [_race(problem, pool[race_order(problem.labels[pool], units, seed)]) for seed in range(races)]
    lost = [best - full[outcome.kept] for outcome in outcomes if outcome.kept is not None]
    winner = max(full, key=full.__getitem__)
    return {
        "set": problem.name,
        "images": len(problem.labels),
        "classes": int(problem.labels.max()) + 1,
        "best": "/".join(winner),
        "accuracy": round(best, 4),
        "within_a_point_of_best": sum(value > best - NEAR for value in full.values()),
        "races": races,
        "kept_within_a_point": float(np.mean([value < NEAR for value in lost])),
        "largest_loss": round(max(lost), 4),
        "best_was_dropped": float(np.mean([winner in outcome.dropped for outcome in outcomes])),
        "share_of_passes": round(statistics.mean(outcome.share for outcome in outcomes), 4),
        "largest_share": round(max(outcome.share for outcome in outcomes), 4),
        "survivors": statistics.mean(len(outcome.survivors) for outcome in outcomes),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _race(problem: Problem, order: NDArray[np.intp]) -> Outcome:
    def judge(start: int, stop: int, candidates: Sequence[Candidate]) -> Judged:
        fitted, judged = order[:start], order[start:stop]
        correct = {one: problem.judge(one, fitted, judged) for one in candidates}
        return Judged(correct, curves={one: problem.curve(one, order[:stop]) for one in candidates})

    terms = Terms(len(problem.labels), len(order), int(problem.labels.max()) + 1, BUDGET)
    return run_race(problem.candidates, terms, judge)


def main(quick: bool = False) -> None:
    """Measure and, unless `quick`, write the results."""
    facts = machine()
    rows = []
    for problem in problems():
        rows.append(measure(problem, QUICK_RACES if quick else RACES))
        print(rows[-1], flush=True)
    shown = ("set", "images", "best", "accuracy", "kept_within_a_point", "largest_loss", "share_of_passes")
    print_table("races within 20 % of the image passes", [{key: row[key] for key in shown} for row in rows])
    kept = sum(row["kept_within_a_point"] * row["races"] for row in rows) / sum(row["races"] for row in rows)
    share = statistics.mean(row["share_of_passes"] for row in rows)
    print(
        f"\nwithin a point of the best: {100 * kept:.1f} % of all races, at {100 * share:.1f} % of the passes"
    )
    if not quick:
        write_results("survey", rows, {**facts, "budget": BUDGET, "kept_within_a_point": round(kept, 4)})


if __name__ == "__main__":
    main()
