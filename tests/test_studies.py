"""The studies as a user runs them: baselines, sweeps and reproductions from the command line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import DataError, UsageError
from probe.report import reproduction
from probe.runs import Run, open_run
from probe.stats.intervals import wilson
from probe.studies.baselines import BASELINES
from probe.studies.experiment import count_params, source_of
from probe.studies.recipe import Published, Recipe
from probe.studies.reproduce import Plan, Verdict, judge, recipes_of, verdicts_of
from probe.train import pixels
from tests.shell import PROJECT, Shell

TINY = ("--data", "fashion-sample", "--limit", 140, "--precision", "fp32")
RUN = ("baseline", "run", "cifar10/exp0", *TINY)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


# ---- list and show ---------------------------------------------------------------------------------------


def test_the_list_names_every_experiment(shell: Shell) -> None:
    assert [row["baseline"] for row in shell.json("baseline", "list")] == list(BASELINES)
    listed = shell("baseline", "list", "cifar10")
    assert "cifar10/exp11" in listed
    assert "15,448,842" in listed
    assert "cub200" not in listed


@pytest.mark.parametrize(
    ("name", "params", "trainable"),
    [
        ("cifar10/exp3", 965_034, 963_370),
        ("cifar100-a/bn-fc", 84_897, 84_653),
        ("dogs-vs-cats/features", 16_812_353, 2_097_665),
        ("cub200/b-softmax", 23_997_512, 409_800),
        ("cub200/a-freeze10", None, None),
    ],
)
def test_show_has_the_promised_fields(
    shell: Shell, name: str, params: int | None, trainable: int | None
) -> None:
    shown = shell.json("baseline", "show", name)
    frozen = None if params is None or trainable is None else params - trainable
    assert (shown["params"], shown["trainable_params"], shown["frozen_params"]) == (params, trainable, frozen)
    assert shown["published"][0]["accuracy"] == BASELINES[name].published[0].accuracy
    assert shown["recipe"]["optimiser"]["name"]
    assert name in shell("baseline", "show", name)


def test_every_experiment_says_how_it_is_run(shell: Shell) -> None:
    assert "probe sweep cifar100-b/optimiser" in shell("baseline", "show", "cifar100-b/optimiser")
    assert "probe finetune" in shell("baseline", "show", "pathmnist/last50")
    assert count_params(BASELINES["scenes15/vgg16"]).frozen == 14_714_688


# ---- pixels ----------------------------------------------------------------------------------------------


def test_pixels_are_read_by_part_and_grey_pictures_have_one_channel(home: Home) -> None:
    dataset = open_dataset("fashion-sample", home)
    read = pixels.read_pixels(dataset, 32, home.cache)
    assert read.data.train.inputs.shape == (2000, 32, 32, 1)
    assert (len(read.data.val), len(read.data.test), read.data.classes) == (500, 1000, 10)
    assert read.ids["test"].tolist() == dataset.ids[dataset.splits == "test"].tolist()
    np.testing.assert_array_equal(read.data.test.labels, dataset.labels[dataset.splits == "test"])
    assert pixels.read_pixels(dataset, 28, home.cache, keep_colour=True).data.train.inputs.shape[-1] == 3
    for name, colour in (("fashion-mnist/mlp-10", False), ("cifar10/exp0", True)):
        assert source_of(BASELINES[name], home).keep_colour == colour
    plain = pixels.read_pixels(dataset, 28, home.cache).data.train.inputs[0, :, :, 0]
    row = int(np.flatnonzero(dataset.splits == "train")[0])
    np.testing.assert_array_equal(plain, np.asarray(dataset.source.read(row)).reshape(28, 28))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, 30 colour pictures each, one file that is none."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(30):
            picture = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            picture.save(tmp_path / "set" / name / f"{number:02d}.png")
    (tmp_path / "set" / "one" / "99.png").write_bytes(b"no picture")
    return tmp_path / "set"


def test_large_sets_are_mapped_from_a_file_that_is_kept(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(folder), home)
    assert "one/99.png" in dataset.ids
    in_memory = pixels.read_pixels(dataset, 8, home.cache)
    assert in_memory.unreadable == 1
    assert not (home.cache / "pixels").exists()
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 1000)
    mapped = pixels.read_pixels(dataset, 8, home.cache)
    assert isinstance(mapped.data.train.inputs, np.memmap)
    for name in ("train", "val", "test"):
        ours, theirs = getattr(mapped.data, name), getattr(in_memory.data, name)
        np.testing.assert_array_equal(ours.inputs, theirs.inputs)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert mapped.data.digest() == in_memory.data.digest()
    monkeypatch.setattr(pixels, "read_batches", None)  # not decoded again
    again = pixels.read_pixels(dataset, 8, home.cache)
    np.testing.assert_array_equal(again.data.test.inputs, in_memory.data.test.inputs)
    assert (again.unreadable, again.ids["test"].tolist()) == (1, in_memory.ids["test"].tolist())


def test_what_decides_the_data_decides_its_identity(home: Home) -> None:
    dataset = open_dataset("fashion-sample", home)
    some = dataset.take(np.arange(0, 3500, 10))
    first = pixels.read_pixels(some, 8, home.cache).data.digest()
    assert pixels.read_pixels(some, 8, home.cache).data.digest() == first
    assert pixels.read_pixels(some, 9, home.cache).data.digest() != first
    assert pixels.read_pixels(dataset.take(np.arange(0, 3490, 10)), 8, home.cache).data.digest() != first
    some.labels[0] = (some.labels[0] + 1) % 10
    assert pixels.read_pixels(some, 8, home.cache).data.digest() != first


def test_data_without_anything_to_train_on_is_said(home: Home) -> None:
    dataset = open_dataset("fashion-sample", home)
    with pytest.raises(DataError, match="no labelled image to train on"):
        pixels.read_pixels(dataset.take(np.flatnonzero(dataset.splits == "test")), 8, home.cache)


# ---- baseline run ----------------------------------------------------------------------------------------


def test_a_run_keeps_everything_and_is_not_repeated(shell: Shell) -> None:
    found = shell.json(*RUN, "--epochs", 2)
    promised = "accuracy accuracy_low accuracy_high top5 balanced_accuracy macro_f1 log_loss ece"
    assert set(promised.split()) <= set(found["test"])
    assert {"run", "store", "head", "chosen", "seconds"} <= set(found)
    assert found["val"]["accuracy"] == pytest.approx(max(found["history"]["val_accuracy"]))
    assert (found["kind"], found["head"], found["params"]) == ("baseline", "cifar10/exp0", 262_826)
    assert found["published"][0]["accuracy"] == 0.6058
    assert not found["published_on_this_data"]
    assert found["epochs"]["rule"] == "the best epoch by val_accuracy"
    assert found["epochs"]["scored"] in (1, 2)
    assert found["parts"] == {"train": 80, "val": 20, "test": 40}
    folder = shell.home / "runs" / found["run"]
    run = open_run(folder)
    assert run.predictions.correct.mean() == pytest.approx(found["test"]["accuracy"])
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "model.keras").stat().st_size > 0
    assert not list((shell.home / "cache" / "training").iterdir())
    said = shell("runs", "show", found["run"])
    assert "0.6058" in said
    assert "these images were used to choose the epoch" in said
    assert "\nworst " in said
    few = "the validation part has 20 images: a single one moves accuracy by 5 points"
    assert [few in note for note in found["notes"]].count(True) == 1
    assert few in " ".join(said.split())

    again = shell.json(*RUN, "--epochs", 2)
    assert again["run"] == found["run"]
    assert "not repeated" in shell.error
    both = shell.json(*RUN, "--epochs", 2, "--seeds", 2)["seeds"]
    assert both["runs"][0] == found["run"]
    assert len(both["runs"]) == 2
    assert both["low"] <= both["mean"] <= both["high"]


def test_a_killed_run_goes_on_after_its_last_epoch(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def killing(message: str, quiet: bool = False) -> None:
        if message.startswith("epoch 2/"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("probe.commands.baseline.note", killing)
        shell(*RUN, "--epochs", 3, code=130)
    found = shell.json(*RUN, "--epochs", 3)
    assert "epoch 3/3" in shell.error
    assert "epoch 2/3" not in shell.error
    assert len(found["history"]["loss"]) == 3


def test_other_data_brings_its_own_classes_and_channels(shell: Shell, folder: Path) -> None:
    found = shell.json(
        "baseline", "run", "cifar100-a/basenet", "--data", folder, "--epochs", 1, "--precision", "fp32"
    )
    assert found["classes"] == ["one", "two"]
    assert found["input"]["channels"] == 3
    assert found["unreadable"] == 1
    assert found["params"] == 24_197 - 23 * 51
    assert found["epochs"]["rule"] == "the last epoch"


# ---- sweep -----------------------------------------------------------------------------------------------


def test_a_sweep_killed_in_the_middle_does_not_repeat_a_finished_cell(shell: Shell) -> None:
    line = [
        *("sweep", "scenes15/activation", *TINY, "--epochs", 1),
        *("--set", "activation=linear,tanh,relu,sigmoid"),
    ]
    command = [sys.executable, "-m", "probe", "--home", str(shell.home), *map(str, line)]
    cells = shell.home / "sweeps" / "cells"
    with subprocess.Popen(
        command, cwd=PROJECT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while not list(cells.glob("*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert 1 <= len(before) < 4

    found = shell.json(*line)
    assert (found["cells"], found["reused"]) == (4, len(before))
    assert shell.error.count("had been trained") == len(before)
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert [row["setting"] for row in found["rows"]] == [
        f"activation={name}" for name in ("linear", "tanh", "relu", "sigmoid")
    ]
    folder = Path(found["folder"])
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(csv.DictReader((folder / "table.csv").read_text().splitlines()))) == 4
    assert len(json.loads((folder / "sweep.json").read_text())["cells"]) == 4
    # Twenty images to choose on cannot tell four activations apart.
    said = shell(*line)
    assert "no winner: " in said
    assert " – " in said
    assert found["choice"]["winner"] is False
    assert all(row["val_low"] < row["val_accuracy"] < row["val_high"] for row in found["rows"])


def test_the_optimiser_choice_is_one_command(shell: Shell) -> None:
    """Six optimisers by five folds: the plan is the experiment's own, the cells here are cut to one."""
    found = shell.json(
        *("sweep", "cifar100-b/optimiser", *TINY, "--epochs", 1, "--set", "optimiser=rmsprop", "--cv", 2)
    )
    assert found["cells"] == 2
    assert found["rows"][0]["val_spread"] is not None
    assert found["rows"][0]["test_accuracy"] is None


def test_a_dask_cluster_trains_the_cells(shell: Shell) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        found = shell.json(
            *("sweep", "cifar10/exp0", *TINY, "--epochs", 1, "--set", "lr=0.001,0.01"),
            *("--dask", cluster.scheduler_address),
        )
    assert (found["cells"], found["reused"]) == (2, 0)


# ---- reproduce -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rows_here")
def test_a_quick_reproduction_on_other_data_accounts_for_every_row(shell: Shell, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    line = (
        *("reproduce", "cifar10/exp0", "--quick", "--limit", 140, "--precision", "fp32"),
        *("--data-map", "cifar10=fashion-sample", "--output", page),
    )
    found = shell.json(*line)
    (row,) = found["rows"]
    assert row["published"] == 0.6058
    assert row["low"] < row["measured"] < row["high"]
    assert row["verdict"] == "below"
    assert not row["comparable"]
    assert "2 epochs" in found["scaled_down"]
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "fashion-sample" in text
    assert "http:" not in text
    assert "https:" not in text

    again = shell.json(*line)["rows"][0]
    assert again["run"] == row["run"]
    assert "trained before" in again["why"]


@pytest.mark.usefixtures("rows_here")
def test_a_study_whose_data_is_not_here_is_a_table_and_not_an_error(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package of the operating system may have brought a data set.
    monkeypatch.setattr("probe.datasets.place.installed_folder", lambda row: None)
    rows = shell.json("reproduce", "--output", tmp_path / "all.md")["rows"]
    assert list(dict.fromkeys(row["experiment"] for row in rows)) == list(BASELINES)
    assert len(rows) == sum(max(1, len(recipe.published)) for recipe in BASELINES.values())
    assert {row["verdict"] for row in rows} == {"not run"}
    assert all("is not on this machine" in row["why"] for row in rows)
    assert all(row["commands"] for row in rows)
    text = (tmp_path / "all.md").read_text()
    assert "    probe baseline run cifar10/exp11" in text
    assert "    probe data fetch cub200" in text


@pytest.mark.usefixtures("rows_here")
@pytest.mark.parametrize("name", ["fashion-mnist/knn-5", "fashion-mnist-long/cnn-augmented"])
def test_a_benchmark_of_fashion_mnist_runs_on_its_sample_in_brackets(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    page = tmp_path / "report.md"
    found = shell.json(
        *("reproduce", name, "--quick", "--limit", 140, "--precision", "fp32"),
        *("--data-map", "fashion-mnist=fashion-sample", "--output", page),
    )
    (row,) = found["rows"]
    assert row["published"] == BASELINES[name].published[0].accuracy
    assert row["low"] < row["measured"] < row["high"]
    assert not row["comparable"]
    (line,) = [line for line in page.read_text().splitlines() if line.startswith("| fashion-mnist")]
    assert f"({row['verdict']})" in line


def no_transfer(recipe: Recipe, data: str) -> Run:
    raise AssertionError(f"{recipe.name} is no transfer experiment")


def test_a_sweep_row_is_judged_on_its_folds(home: Home) -> None:
    plan = Plan(data={"cifar100-25": "fashion-sample"}, epochs=1, limit=70)
    # The folds are the study's; a single optimiser keeps the test short.
    from dataclasses import replace

    recipe = replace(BASELINES["cifar100-b/optimiser"], sweep=(("optimiser", ("adam",)),), folds=2)
    (verdict,) = verdicts_of(recipe, plan, home, no_transfer)
    assert (verdict.label, verdict.published, verdict.part) == ("optimiser=adam", 0.2223, "validation")
    assert verdict.measured is not None
    assert "mean of 2 folds" in verdict.why
    (drawn,) = (home.root / "sweeps").glob("cifar100-b-optimiser-*/curves.png")
    assert drawn.stat().st_size > 1000


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "inside"), (0.25, 0.3, "above"), (0.1, 0.15, "below")]
)
def test_the_verdict_is_where_the_interval_lies(low: float, high: float, verdict: str) -> None:
    assert judge(Published(0.2), low, high) == verdict


def test_a_published_range_and_no_figure_at_all() -> None:
    assert judge(Published(0.92, high=0.97), 0.95, 0.96) == "inside"
    assert judge(Published(0.92, high=0.97), 0.98, 0.99) == "above"
    assert judge(None, *wilson(1, 2)) == "no published figure"


def test_a_report_escapes_what_it_quotes() -> None:
    verdict = Verdict(
        *("<b>|x", "a & b", "", "test", "d", None, None, 0.5, 0.4, 0.6, "no published figure", False),
        why="<script>alert(1)</script> | `",
        commands=(),
    )
    page = reproduction.html([verdict], "<title>")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page
    assert "default-src 'none'; script-src 'none'" in page
    (line,) = [line for line in reproduction.markdown([verdict], "t").splitlines() if "0.5000" in line]
    # Experiment, measured, verdict, remarks: what no row has anything in is left out.
    assert line.replace("\\|", "").count("|") == 5
    assert "<script>" not in line.replace("\\<", "")


def test_studies_and_single_experiments_have_names() -> None:
    assert [recipe.name for recipe in recipes_of("cifar10/exp3")] == ["cifar10/exp3"]
    assert len(recipes_of(None)) == len(BASELINES)
    with pytest.raises(UsageError, match="no study called"):
        recipes_of("cifar11")


# ---- wrong input -----------------------------------------------------------------------------------------

WRONG = [
    ("baseline show cifar10/exp13", 2, "no baseline called"),
    ("baseline run cifar10/exp0", 1, "the data set cifar10 is not on this machine"),
    ("baseline run cifar10/exp12", 2, "probe finetune"),
    ("baseline run cifar100-b/optimiser", 2, "probe sweep cifar100-b/optimiser"),
    ("baseline run cifar10/exp0 --data ./nowhere.npz", 2, "there is no file or folder"),
    ("baseline run cifar10/exp0 --data fashion-sample --epochs 0", 2, "--epochs"),
    ("sweep cifar10/exp0 --data fashion-sample", 2, "nothing to sweep over"),
    ("sweep cifar10/exp0 --set batch_size=8,x", 2, "batch_size cannot be"),
    ("sweep cifar10/exp0 --set filters=8", 2, "no recipe field"),
    ("sweep cifar10/exp0 --set lr=0.1 --cv 1", 2, "--cv"),
    ("sweep cifar10/exp0 --set lr=0.1", 1, "the data set cifar10 is not on this machine"),
    ("sweep cifar10/exp12 --set lr=0.1", 2, "not trained from scratch"),
    ("sweep cifar10/exp0 --set lr=0.1 --jobs 2 --dask tcp://x:1", 2, "exclude each other"),
    ("reproduce cifar11", 2, "no study called"),
    ("reproduce cifar10 --output report.pdf", 2, ".html or .md"),
    ("reproduce cifar10 --data-map cifar10", 2, "NAME=DATASET"),
    ("reproduce cifar10 --data-map cifar11=fashion-sample", 2, "no experiment here uses"),
]


@pytest.mark.parametrize(("line", "code", "said"), WRONG, ids=[line for line, _, _ in WRONG])
def test_wrong_input_is_one_clear_message(shell: Shell, line: str, code: int, said: str) -> None:
    shell(*line.split(), code=code)
    assert said in shell.error
