"""Sweeps: the grid, the folds, the table, and that a finished cell is never repeated."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from probe.errors import DataError, UsageError
from probe.studies.baselines import BASELINES
from probe.studies.recipe import Recipe
from probe.studies.sweep import (
    CellResult,
    fold_data,
    judge_settings,
    mean_histories,
    parse_grid,
    plan,
    run_sweep,
    summarise,
)
from probe.studies.trainer import train
from probe.train.inputs import Part, TrainingData

RECIPE = Recipe(
    name="test/tiny", summary="", data="none", network="F D4 R", size=4, epochs=1, batch_size=8, classes=2
)


class Killed(Exception):
    pass


def load(size):
    rng = np.random.default_rng(0)

    def part(count):
        images = rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)
        return Part(images, np.arange(count, dtype=np.int32) % 2)

    return TrainingData(part(16), part(8), part(8), 2)


def test_the_grid_is_every_combination_for_every_seed_and_fold():
    grid = parse_grid(["batch_size=8,16", "activation=relu,tanh,linear"])
    cells = plan(RECIPE, grid, seeds=(0, 1), folds=2, epochs=7)
    assert len(cells) == 2 * 3 * 2 * 2
    assert cells[0].setting == "batch_size=8 activation=relu"
    assert {cell.recipe.epochs for cell in cells} == {7}
    assert len({cell.key("data", "fp32") for cell in cells}) == len(cells)


def test_augmentations_of_several_parts_are_joined_by_plus():
    grid = parse_grid(["augment=flip,flip+zoom=0.2"])
    assert grid == {"augment": ("flip", "flip+zoom=0.2")}
    assert len(plan(RECIPE, grid)) == 2


@pytest.mark.parametrize("assignments", [["lr"], ["lr="], ["lr=,"], ["lr=1", "lr=2"]])
def test_an_assignment_that_cannot_be_read(assignments):
    with pytest.raises(UsageError, match="cannot read --set"):
        parse_grid(assignments)


def test_a_wrong_value_is_said_before_anything_is_trained():
    with pytest.raises(UsageError, match="batch_size cannot be 'x'"):
        plan(RECIPE, {"batch_size": ("8", "x")})
    with pytest.raises(UsageError, match="folds"):
        plan(RECIPE, {}, folds=1)


def test_the_published_optimiser_choice_is_one_plan():
    row = BASELINES["cifar100-b/optimiser"]
    cells = plan(row, dict(row.sweep), folds=row.folds)
    assert len(cells) == 30
    assert {cell.setting for cell in cells} == {published.label for published in row.published}


def test_an_interrupted_sweep_does_not_repeat_a_finished_cell(tmp_path):
    cells = plan(RECIPE, {"lr": ("0.1", "0.01", "0.001")})

    def kill(result, reused):
        if result.setting == "lr=0.01":
            raise Killed

    with pytest.raises(Killed):
        run_sweep(cells, load, tmp_path, data_identity=lambda size: "d", on_cell=kill)
    seen = []
    results = run_sweep(
        cells,
        load,
        tmp_path,
        data_identity=lambda size: "d",
        on_cell=lambda result, reused: seen.append((result.setting, reused)),
    )
    assert sorted(seen) == [("lr=0.001", False), ("lr=0.01", True), ("lr=0.1", True)]
    assert [result.setting for result in results] == ["lr=0.1", "lr=0.01", "lr=0.001"]


def test_a_cell_is_repeated_when_anything_that_decides_it_changes(tmp_path):
    reused = []

    def run(recipe, identity="d", precision="fp32"):
        reused.clear()
        run_sweep(
            plan(recipe, {}),
            load,
            tmp_path,
            data_identity=lambda size, identity=identity: identity,
            precision=precision,
            on_cell=lambda _, was_there: reused.append(was_there),
        )
        return reused[0]

    assert not run(RECIPE)
    assert run(RECIPE)
    assert run(replace(RECIPE, summary="said differently"))
    assert not run(replace(RECIPE, kernel_l2=0.1))
    assert not run(RECIPE, identity="other")
    assert not run(RECIPE, precision="bf16")


def test_a_torn_cell_file_is_trained_again(tmp_path):
    cells = plan(RECIPE, {})
    first = run_sweep(cells, load, tmp_path, data_identity=lambda size: "d")
    (path,) = (tmp_path / "cells").glob("*.json")
    path.write_text(path.read_text()[:50])
    again = run_sweep(cells, load, tmp_path, data_identity=lambda size: "d")
    assert again[0].test_accuracy == first[0].test_accuracy
    assert path.read_text().endswith("}")


def test_data_is_loaded_once_for_cells_of_one_size(tmp_path):
    sizes = []

    def counting(size):
        sizes.append(size)
        return load(size)

    run_sweep(
        plan(RECIPE, {"size": ("4", "6"), "lr": ("0.1", "0.2")}),
        counting,
        tmp_path,
        data_identity=lambda size: "d",
    )
    assert sizes == [4, 6]


def test_two_processes_give_what_one_gives(tmp_path):
    cells = plan(RECIPE, {"lr": ("0.1", "0.01")})
    alone = run_sweep(cells, load, tmp_path / "one", data_identity=lambda size: "d")
    together = run_sweep(cells, load, tmp_path / "two", data_identity=lambda size: "d", jobs=2)
    assert [result.history for result in alone] == [result.history for result in together]


def test_folds_are_stratified_and_cover_every_image_once():
    data = load(4)
    held_out = [fold_data(data, fold, 3) for fold in range(3)]
    assert all(len(fold.train) + len(fold.val) == 24 and fold.test is None for fold in held_out)
    assert all(np.bincount(fold.val.labels).tolist() == [4, 4] for fold in held_out)
    images = np.concatenate([fold.val.inputs for fold in held_out]).reshape(24, -1)
    everything = np.concatenate([data.train.inputs, data.val.inputs]).reshape(24, -1)
    np.testing.assert_array_equal(np.unique(images, axis=0), np.unique(everything, axis=0))


class InPieces:
    """An array that refuses to be read as a whole."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        found = self.array[rows]
        assert len(found) < len(self)
        return found

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("copied as a whole")


def test_a_fold_reads_the_images_where_they_are_and_trains_as_a_copy_does():
    rng = np.random.default_rng(0)

    def part(count):
        images = rng.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
        labels = (images.mean(axis=(1, 2, 3)) > 127).astype(np.int32)
        return Part(images, labels)

    whole = TrainingData(part(4000), part(1500), None, 2)
    pieces = replace(
        whole,
        train=Part(InPieces(whole.train.inputs), whole.train.labels),
        val=Part(InPieces(whole.val.inputs), whole.val.labels),
    )
    recipe = replace(RECIPE, normalise="norm", augment="flip", batch_size=500)
    viewed = train(recipe, fold_data(pieces, 1, 3))
    fold = fold_data(whole, 1, 3)
    copied = replace(
        fold,
        train=Part(np.array(fold.train.inputs), fold.train.labels),
        val=Part(np.array(fold.val.inputs), fold.val.labels),
    )
    for view in (copied.train, copied.val):
        np.testing.assert_array_equal(view.inputs.mean(axis=(1, 2, 3)) > 127, view.labels)
    again = train(recipe, copied)
    assert viewed.normaliser == again.normaliser
    assert viewed.history == again.history
    np.testing.assert_array_equal(viewed.probabilities["val"], again.probabilities["val"])


def test_more_folds_than_images_of_a_class_is_said():
    with pytest.raises(DataError, match="13 folds"):
        fold_data(load(4), 0, 13)


def test_folds_have_validation_figures_only(tmp_path):
    results = run_sweep(plan(RECIPE, {}, folds=2), load, tmp_path, data_identity=lambda size: "d")
    assert [result.fold for result in results] == [0, 1]
    assert all(result.test_accuracy is None and result.val_accuracy is not None for result in results)


def result(setting, accuracy, history, seed=0):
    return CellResult(setting, seed, None, accuracy, None, 1, len(history), None, 10, 2.0, {"loss": history})


def test_the_table_has_mean_and_spread():
    rows = summarise([result("a", 0.5, [1.0]), result("b", 0.9, [1.0]), result("a", 0.7, [1.0, 0.5], seed=1)])
    assert [row.setting for row in rows] == ["a", "b"]
    assert rows[0].val_accuracy == pytest.approx(0.6)
    assert rows[0].val_spread == pytest.approx(math.sqrt(0.02))
    assert (rows[0].cells, rows[0].epochs, rows[0].test_accuracy) == (2, 1.5, None)
    assert (rows[1].val_spread, rows[1].test_spread) == (None, None)


def test_mean_curves_run_as_far_as_the_longest_cell():
    curves = mean_histories([result("a", 0.5, [1.0, None]), result("a", 0.7, [3.0, None, 5.0], seed=1)])
    np.testing.assert_array_equal(curves["a"]["loss"], [2.0, np.nan, 5.0])


def answers(setting, correct, seed=0, fold=None):
    """A cell that has some of its validation images right: "1101"."""
    accuracy = correct.count("1") / len(correct)
    return CellResult(setting, seed, fold, accuracy, None, 1, 1, None, 10, 2.0, {}, correct, None)


def test_equal_settings_are_a_tie_and_none_is_called_the_best():
    choice = judge_settings([answers("a", "1100" * 50), answers("b", "0011" * 50), answers("c", "0" * 200)])
    assert (choice.winner, choice.rivals) == (False, ("b",))
    assert choice.sentence == "no winner: a and b are equal on validation, 0.5000"


def test_a_difference_that_is_not_shown_on_the_same_images_is_no_victory():
    """Ten of 200 images gained and none lost is shown; 55 gained and 50 lost is not."""
    base = "1" * 100 + "0" * 100
    clear = "1" * 110 + "0" * 90
    noisy = "0" * 50 + "1" * 50 + "1" * 55 + "0" * 45
    shown = judge_settings([answers("a", base), answers("b", clear)])
    assert (shown.best, shown.winner) == ("b", True)
    assert shown.sentence == "best on validation: b, shown against every other"
    unclear = judge_settings([answers("a", base), answers("b", noisy)])
    assert (unclear.best, unclear.winner) == ("b", False)
    assert unclear.sentence == ("no winner: b is highest on validation, but not shown to be better than a")


def test_folds_are_judged_on_every_image_once_and_seeds_by_their_spread():
    folds = [
        answers(s, row, fold=f) for f in (1, 0) for s, row in (("a", "1" * 60), ("b", "1" * 50 + "0" * 10))
    ]
    assert judge_settings(folds).winner
    # Three trainings each; the mean gains 10 points, but by one seed alone.
    unsteady = [answers("a", "1" * 50 + "0" * 50, seed) for seed in range(3)]
    unsteady += [
        answers("b", row, seed) for seed, row in enumerate(("1" * 80 + "0" * 20, *["1" * 50 + "0" * 50] * 2))
    ]
    assert not judge_settings(unsteady).winner
    steady = [answers("a", "1" * (50 + seed) + "0" * (50 - seed), seed) for seed in range(3)]
    steady += [answers("b", "1" * (70 + seed % 2) + "0" * (30 - seed % 2), seed) for seed in range(3)]
    assert judge_settings(steady).winner


def test_the_table_has_the_interval_of_its_images():
    (row,) = summarise([answers("a", "1" * 90 + "0" * 10)])
    assert (row.val_low, row.val_high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert row.test_low is None


def test_a_cell_of_before_is_read_and_nothing_is_concluded_from_it(tmp_path):
    cells = plan(RECIPE, {"lr": ("0.1", "0.01")})
    first = run_sweep(cells, load, tmp_path, data_identity=lambda size: "d")
    assert judge_settings(first) is not None
    for path in (tmp_path / "cells").glob("*.json"):
        found = json.loads(path.read_text())
        assert len(found.pop("val_correct")) == 8
        assert found.pop("tested") == 8
        del found["sha256"]
        path.write_text(json.dumps(found))
    reused = []
    again = run_sweep(
        cells, load, tmp_path, data_identity=lambda size: "d", on_cell=lambda _, was: reused.append(was)
    )
    assert reused == [True, True]
    assert [cell.val_accuracy for cell in again] == [cell.val_accuracy for cell in first]
    assert judge_settings(again) is None
