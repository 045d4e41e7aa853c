"""Groups where networks are trained: folds of pixels, intervals of baselines and sweeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import DatasetOptions, open_dataset
from probe.errors import DataError
from probe.stats.choice import choose_best
from probe.stats.clusters import accuracy_interval
from probe.stats.intervals import wilson
from probe.studies.experiment import Experiment, run_experiment, source_of
from probe.studies.recipe import Recipe
from probe.studies.sweep import CellResult, fold_data, judge_settings, summarise
from probe.studies.sweep_job import SweepJob, sweep
from probe.train.pixels import labels_identity, read_pixels

RECIPE = Recipe(
    name="test/tiny", summary="", data="none", network="F D4 R", size=4, epochs=1, batch_size=8, classes=2
)
PATIENTS, EACH = 12, 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of each of twelve patients, and a list of them with and without the patients."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(PATIENTS):
        for number in range(EACH):
            name = f"{patient:02}-{number}.png"
            Image.fromarray(generator.integers(0, 255, (6, 6), dtype=np.uint8)).save(folder / name)
            rows.append(f"{name},{patient % 2},p{patient}")
    (folder / "grouped.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    plain = [row.rsplit(",", 1)[0] for row in rows]
    (folder / "plain.csv").write_text("path,label\n" + "\n".join(plain) + "\n")
    return folder


def options(pictures: Path, labels: str = "grouped.csv") -> DatasetOptions:
    return DatasetOptions(labels=pictures / labels, split=(0.5, 0.25, 0.25))


def test_folds_of_pixels_part_no_group(pictures: Path, home: Home) -> None:
    dataset = open_dataset(str(pictures), home, options(pictures))
    pixels = read_pixels(dataset, 4, home.cache)
    patient_of = {
        picture.tobytes(): patient
        for part, ids in ((pixels.data.train, pixels.ids["train"]), (pixels.data.val, pixels.ids["val"]))
        if part is not None
        for picture, patient in zip(part.inputs, (name[:2] for name in ids.tolist()), strict=True)
    }
    seen = []
    for fold in range(3):
        data = fold_data(pixels.data, fold, 3)
        assert data.val is not None
        here = {patient_of[picture.tobytes()] for picture in data.val.inputs[:]}
        there = {patient_of[picture.tobytes()] for picture in data.train.inputs[:]}
        assert here
        assert not here & there
        seen += list(here)
    assert len(seen) == len(set(seen)) == len(set(patient_of.values()))
    with pytest.raises(DataError, match="folds need"):
        fold_data(pixels.data, 0, 6)


def test_copies_of_a_picture_share_a_fold_of_pixels(pictures: Path, home: Home) -> None:
    dataset = open_dataset(str(pictures), home, options(pictures, "plain.csv"))
    copied = replace(dataset, hashes=np.repeat(dataset.hashes[::EACH], EACH))
    pixels = read_pixels(replace(copied, splits=np.full(len(copied), "train")), 4, home.cache)
    for fold in range(3):
        held = fold_data(pixels.data, fold, 3).val
        assert held is not None
        assert len(held) % EACH == 0


def test_relabelling_with_groups_is_other_training_data(pictures: Path, home: Home) -> None:
    grouped = open_dataset(str(pictures), home, options(pictures))
    plain = replace(grouped, groups=None)
    assert labels_identity(grouped) != labels_identity(plain)


def test_a_baseline_says_over_how_many_groups_its_interval_is(pictures: Path, home: Home) -> None:
    source = source_of(RECIPE, home, str(pictures), options(pictures))
    run, _ = run_experiment(Experiment(RECIPE, source.pixels(RECIPE.size)), home)
    assert run.result["test"]["groups"] == 3
    assert run.result["val"]["groups"] == 3
    found = run.predictions
    assert found.groups is not None
    low, high = accuracy_interval(found.correct, found.groups)
    assert (run.result["test"]["accuracy_low"], run.result["test"]["accuracy_high"]) == (low, high)


def test_a_sweep_over_folds_of_groups_has_intervals_by_group(pictures: Path, home: Home) -> None:
    source = source_of(RECIPE, home, str(pictures), options(pictures))
    done = sweep(SweepJob(RECIPE, source, {"lr": ("0.01",)}, folds=3), home)
    row = done.rows[0]
    groups = [number for result in done.results for number in result.val_groups or []]
    correct = np.array([letter == "1" for result in done.results for letter in result.val_correct or ""])
    assert len(set(groups)) == 9
    assert (row.val_low, row.val_high) == accuracy_interval(correct, np.array(groups).astype(str))


def cell(setting: str, letters: str, groups: list[int] | None) -> CellResult:
    correct = letters.count("1") / len(letters)
    figures = (correct, correct, 1, 1, None, 1, 0.0, {})
    return CellResult(setting, 0, None, *figures, letters, len(letters), groups, letters, groups)


def test_a_winner_by_copies_of_one_group_is_none() -> None:
    one = [0] * 12 + list(range(1, 13))
    better, worse = "1" * 24, "0" * 12 + "1" * 12
    alone = judge_settings([cell("a", better, None), cell("b", worse, None)])
    grouped = judge_settings([cell("a", better, one), cell("b", worse, one)])
    assert alone is not None
    assert grouped is not None
    assert alone.winner
    assert not grouped.winner
    row = summarise([cell("b", worse, one)])[0]
    by_row = wilson(12, 24)
    assert row.test_low is not None
    assert row.test_low < by_row[0]


def test_a_winner_over_seeds_is_judged_by_group_too() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 20).astype(str)
    better = generator.random((3, 120)) < 0.9
    worse = better.copy()
    worse[:, :20] = False
    assert choose_best({"a": better, "b": worse}).winner
    assert not choose_best({"a": better, "b": worse}, groups).winner
