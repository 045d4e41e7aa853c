"""What `probe audit` finds of what was planted, beside cleanlab on the same probabilities.

    python -m bench audit [--quick]
    python -m bench.audit --from /usr/share/datasets/fashion-mnist

Labels: 1, 5, 10 and 20 % of the labels are flipped to another class at random; folds of logistic regression
give one set of probabilities, and the suspects of both sides are counted against what was flipped. The sets
are the bundled sample (EfficientNet-Lite0 and `pixels`) and 7,000 pictures of Fashion-MNIST (`pixels`), where
its files are: the Debian package dataset-fashion-mnist has them. Labels that were wrong before count as
false alarms on both sides, so that precision is too low on both.

Copies: of a twentieth of the sample's test part a crop (26 of 28 pixels), a JPEG (quality 60) and one that
has gone through 20 pixels are put into train. Found is a copy that is in one set with the picture it was made
of, by thumbnails and by embeddings alone; other sets have no planted picture among them. Results go to
bench/results/audit.json.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from PIL import Image

from bench.common import machine, print_table, write_results
from probe.audit.labels import hold_out, suspect_labels
from probe.audit.material import AuditJob, gather
from probe.audit.similar import find_similar
from probe.config import Home
from probe.heads import HEADS
from probe.heads.head import Samples
from probe.store import Store
from probe.workspace.workspace import Workspace

SAMPLE = Path(__file__).parents[1] / "probe" / "datasets" / "samples" / "fashion-sample.npz"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
RATES, SEEDS, QUICK_SEEDS = (0.01, 0.05, 0.1, 0.2), 2, 1
LARGER = 7000
CLEANLAB = ("prune_by_noise_rate", "low_self_confidence", "confident_learning", "both")
"""Its rules; the first is its default."""


def main(quick: bool = False, fashion: Path = DEBIAN) -> None:
    facts = machine()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        space = Workspace(Path(scratch) / "home", quiet=True)
        for name, store in _stores(space, quick, fashion):
            found = [{"set": name, **row} for row in _labels(store, QUICK_SEEDS if quick else SEEDS)]
            print_table("flipped labels (means over seeds)", found)
            rows += found
            write_results("audit", rows, facts | {"quick": quick})
        planted = Path(scratch) / "planted.npz"
        made = plant(planted)
        for backbone, options in _backbones(quick).items():
            store = space.extract(planted, backbone=backbone, **options)
            found = [{"set": f"sample, {backbone}", **row} for row in _copies(store, made, Home(space.home))]
            print_table("planted copies", found)
            rows += found
            write_results("audit", rows, facts | {"quick": quick})


def _backbones(quick: bool) -> dict[str, dict[str, Any]]:
    return {"pixels": {"size": 14}} | ({} if quick else {"efficientnet-lite0": {}})


def _stores(space: Workspace, quick: bool, fashion: Path) -> Iterator[tuple[str, Store]]:
    if not quick and fashion.is_dir():
        store = space.extract("fashion-mnist", backbone="pixels", size=8, limit=LARGER, source=fashion)
        yield f"fashion-mnist {LARGER:,}, pixels", store
    for backbone, options in _backbones(quick).items():
        yield f"sample, {backbone}", space.extract("fashion-sample", backbone=backbone, **options)


def _labels(store: Store, seeds: int) -> list[dict[str, Any]]:
    """Precision and recall of every rule at every rate."""
    features, clean = store.arrays()
    clean, rows = clean.astype(np.intp), []
    classes = len(store.index.classes)
    c = _choose(store, features, clean, classes)
    for rate in RATES:
        figures: dict[str, list[tuple[float, float, int]]] = {}
        for seed in range(seeds):
            labels, flipped = flip(clean, rate, classes, seed)
            units = store.index.units()
            said = hold_out(features, labels, classes, units, c, seed).probabilities
            found = {"probe": suspect_labels(said, labels)}
            for rule in CLEANLAB:
                found[f"cleanlab {rule}"] = np.flatnonzero(
                    find_label_issues(labels, said, filter_by=rule, n_jobs=1)
                )
            for rule, suspects in found.items():
                hits = len(np.intersect1d(suspects, flipped))
                figures.setdefault(rule, []).append(
                    (hits / len(suspects), hits / len(flipped), len(suspects))
                )
        for rule, values in figures.items():
            precision, recall, suspects = np.mean(values, axis=0).tolist()
            rows.append(
                {
                    "what": "labels",
                    "flipped": rate,
                    "rule": rule,
                    "suspects": round(suspects),
                    "precision": round(precision, 3),
                    "recall": round(recall, 3),
                }
            )
    return rows


def flip(
    labels: NDArray[np.intp], rate: float, classes: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Labels of which a share is another class, and which rows these are."""
    generator, wrong = np.random.default_rng(seed), labels.copy()
    rows = generator.choice(len(labels), round(rate * len(labels)), replace=False)
    wrong[rows] = (wrong[rows] + generator.integers(1, classes, len(rows))) % classes
    return wrong, rows


def _choose(store: Store, features: NDArray[np.float32], labels: NDArray[np.intp], classes: int) -> float:
    """C on validation, as `probe fit logreg` has it."""
    train, val = (
        Samples(features[rows], labels[rows])
        for rows in (store.index.splits == part for part in ("train", "val"))
    )
    return float(HEADS["logreg"].fit(train, val, classes, refit=False).chosen["c"])


def plant(path: Path) -> dict[str, tuple[str, str]]:
    """The sample with copies of a twentieth of test in train; id of a copy -> how made, id of what."""
    with np.load(SAMPLE) as sample:
        arrays = {name: sample[name] for name in sample.files}
    images, labels = arrays["test_images"], arrays["test_labels"].ravel()
    rows = np.random.default_rng(0).choice(len(images), len(images) // 20, replace=False)
    made: dict[str, tuple[str, str]] = {}
    copies, first = [], len(arrays["train_images"])
    for row in rows.tolist():
        for kind, pixels in _copies_of(Image.fromarray(images[row])).items():
            made[f"train/{first + len(copies):06}"] = kind, f"test/{row:06}"
            copies.append(pixels)
    arrays["train_images"] = np.concatenate([arrays["train_images"], np.stack(copies)])
    arrays["train_labels"] = np.concatenate([arrays["train_labels"].ravel(), np.repeat(labels[rows], 3)])
    np.savez(path, **arrays)
    return made


def _copies_of(picture: Image.Image) -> dict[str, NDArray[np.uint8]]:
    size, stream = picture.size, io.BytesIO()
    picture.save(stream, "JPEG", quality=60)
    crop = picture.crop((1, 1, 27, 27)).resize(size, Image.Resampling.BILINEAR)
    small = picture.resize((20, 20), Image.Resampling.BILINEAR).resize(size, Image.Resampling.BILINEAR)
    return {
        "crop": np.asarray(crop),
        "jpeg": np.asarray(Image.open(stream)),
        "resize": np.asarray(small),
    }


def _copies(store: Store, made: dict[str, tuple[str, str]], home: Home) -> list[dict[str, Any]]:
    """How many of the planted copies are found, and what else is."""
    rows = []
    material = gather(AuditJob(store), home)
    for by, pixels in (("thumbnails", True), ("embeddings alone", False)):
        similar = find_similar(material, pixels=pixels)
        sets = [set(material.index.ids[near].tolist()) for near in similar.near]
        hits = dict.fromkeys(("crop", "jpeg", "resize"), 0)
        for copy, (kind, source) in made.items():
            hits[kind] += any({copy, source} <= some for some in sets)
        planted = {*made, *(source for _, source in made.values())}
        rows.append(
            {
                "what": "copies",
                "by": by,
                **{f"{kind} found": count for kind, count in hits.items()},
                "of each": len(made) // 3,
                "other sets": sum(not some & planted for some in sets),
                "pictures of other classes": similar.rule.looked_at,
                "alarms among them": similar.rule.alarms,
                "limit": round(similar.rule.limit, 3),
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.audit", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--from", dest="fashion", type=Path, default=DEBIAN)
    asked = parser.parse_args()
    main(asked.quick, asked.fashion)
