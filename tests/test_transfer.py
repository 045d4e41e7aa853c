"""Experiments on pretrained networks: their command lines, run from ``probe reproduce``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from probe.backbones import find_row
from probe.cli import cli
from probe.commands.transfer import TransferCommands, parse_line
from probe.commands.transfer_steps import step_lines, transfer_steps
from probe.config import Home
from probe.errors import WeightsError
from probe.extract import dataset_of
from probe.images.augment import parse_augment
from probe.order import places_back
from probe.runs import Run, open_run
from probe.store import find_store
from probe.studies.baselines import BASELINES
from probe.studies.recipe import Published, Recipe
from probe.studies.reproduce import Plan, Verdict, verdicts_of
from probe.train.rules import EarlyStop, Optimiser
from probe.workspace.finetune import tune_keywords, tune_settings
from tests.shell import Shell

ROWS = [row for row in BASELINES.values() if row.kind == "transfer"]
EXTRACT = "probe extract --backbone efficientnet-lite0 --size 32 fashion-sample"
PLAN = Plan(epochs=1, limit=140)


def recipe(*commands: str, part: str = "test") -> Recipe:
    return Recipe(
        "study/row", "a row", "fashion-sample", commands=commands, published=(Published(0.9, part=part),)
    )


def verdicts(home: Home, row: Recipe, plan: Plan = PLAN) -> list[Verdict]:
    transfer = TransferCommands(cli, home, plan, "fp32", quiet=True)
    return verdicts_of(row, plan, home, transfer)


# ---- the lines of the studies ----------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_line_is_understood_and_is_about_the_row(row: Recipe, home: Home) -> None:
    lines = [parse_line(cli, line, home) for line in row.commands]
    names = [line.command_path.split()[1] for line in lines]
    assert set(names) <= {"extract", "fit", "finetune"}
    assert names[-1] != "extract"
    for name, line in zip(names, lines, strict=True):
        if name == "fit":
            continue
        assert line.params["dataset"] in (row.data, None)
        assert (line.params["validation"], line.params["limit"]) == (row.validation, None)
        assert line.params["backbone"] is None or find_row(line.params["backbone"])
        parse_augment(line.params["augment"])
    first = lines[0].params
    assert first["dataset"] == row.data
    assert (first["size"] or find_row(first["backbone"]).size) == row.size


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_last_line_trains_as_the_row_says(row: Recipe, home: Home) -> None:
    last = parse_line(cli, row.commands[-1], home)
    choices = last.params
    assert choices.get("epochs", 0) == row.epochs
    if not row.epochs:
        return
    assert choices["batch_size"] == row.batch_size
    if last.command.name == "finetune":
        settings = tune_settings(tune_keywords(choices), None)
        assert (settings.optimiser, settings.stops, settings.reduce_lr) == (
            row.optimiser,
            row.stops,
            row.reduce_lr,
        )
        assert (settings.keep or "val_loss") == row.keep
        assert settings.augment == parse_augment(row.augment)
    else:
        assert Optimiser("adam", choices["learning_rate"]) == row.optimiser
        assert (EarlyStop("val_loss", choices["patience"]),) == row.stops
        views = parse_line(cli, row.commands[0], home).params
        assert choices["views"] == views["views"]
        assert row.augment == (views["augment"] if views["views"] else "none")


def test_what_a_row_does_is_read_from_its_lines_and_not_from_its_own_fields(home: Home) -> None:
    lines = (
        "probe extract --backbone resnet50 --size 64 --outputs conv4 --views 3 --augment flipzoom scenes15",
        "probe fit dense --hidden 8,4 --dropout 0.2 --epochs 3 --batch-size 5 --patience 2 --views 3",
        "probe finetune --unfreeze last:4 --optimiser sgd --lr 0.5 --momentum 0.9 --epochs 2 --stop loss:7",
    )
    row = replace(recipe(*lines), epochs=77, batch_size=77, size=77, normalise="norm", augment="shear")
    extract, fit, tune = transfer_steps(cli, row, home)
    for step in (extract, fit, tune):
        assert (step["backbone"], step["size"], step["preprocess"]) == ("resnet50", 64, "caffe")
    assert (extract["outputs"], extract["views"], extract["augment"]) == (["conv4"], 3, "flipzoom")
    assert (fit["epochs"], fit["batch_size"], fit["augment"]) == (3, 5, "flipzoom")
    assert fit["stops"] == [{"monitor": "val_loss", "patience": 2}]
    assert fit["options"]["hidden"] == (8, 4)
    assert (tune["unfreeze"], tune["epochs"], tune["batch_size"], tune["augment"]) == (
        "last:4",
        2,
        32,
        "none",
    )
    assert (tune["optimiser"]["name"], tune["optimiser"]["momentum"]) == ("sgd", 0.9)
    assert (tune["stops"], tune["keep"]) == ([{"monitor": "loss", "patience": 7}], "val_loss")
    said = "\n".join(line for step in (extract, fit, tune) for line in step_lines(step))
    assert "77" not in said
    for words in ("last 4 layers trained", "3 stored views", "hidden 8,4", "loss patience 7", "momentum 0.9"):
        assert words in said


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_show_and_list_say_what_the_lines_do(row: Recipe, shell: Shell) -> None:
    shown = shell.json("baseline", "show", row.name)
    assert [step["command"] for step in shown["steps"]] == [line.split()[1] for line in row.commands]
    (listed,) = [r for r in shell.json("baseline", "list", row.study) if r["baseline"] == row.name]
    assert listed["recipe"] == shown["recipe"] == shown["steps"][-1]
    assert not {"normalise", "network", "kernel_l2"} & set(shown["recipe"])
    said = shell("baseline", "show", row.name)
    assert f"preprocessing {shown['recipe']['preprocess']}" in said
    if "epochs" in shown["recipe"]:
        assert f"batch {shown['recipe']['batch_size']}, {shown['recipe']['epochs']} epochs at most" in said


def test_a_head_without_gradient_steps_has_no_epochs(home: Home) -> None:
    row = recipe("probe extract --backbone pixels --size 8 fashion-sample", "probe fit knn")
    last = transfer_steps(cli, row, home)[-1]
    assert "epochs" not in last
    assert step_lines(last)[1].startswith("head knn: ")


def test_the_networks_of_the_scenes_are_trained_once_for_their_fifteen_epochs(home: Home) -> None:
    (step,) = transfer_steps(cli, BASELINES["scenes15/vgg16"], home)
    assert (step["epochs"], step["head_epochs"]) == (15, 0)


def test_a_line_that_is_no_command_is_refused(home: Home) -> None:
    with pytest.raises(click.UsageError, match="no-such-option"):
        parse_line(cli, "probe fit dense --no-such-option", home)


# ---- running them ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """For experiments whose first line is the same: the second finds the store of the first."""
    return Home(tmp_path_factory.mktemp("one") / "home")


def test_a_head_is_fitted_on_the_store_its_own_line_made(
    one_home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_newest(name: str | None) -> Any:
        assert places_back(name) is None, "the newest store was taken"

    monkeypatch.setattr("probe.store.finding.places_back", no_newest)
    # Options set for the user's own work do not reach an experiment.
    monkeypatch.setenv("PROBE_FIT_DENSE_DROPOUT", "0.9")
    home = one_home
    row = recipe(EXTRACT, "probe fit dense --hidden '' --epochs 30", part="validation")
    (verdict,) = verdicts(home, row)
    assert verdict.run is not None
    run = open_run(home.runs / verdict.run)
    assert run.result["store"].startswith("fashion-sample-efficientnet-lite0-")
    assert run.result["backbone"]["precision"] == "fp32"
    assert run.result["options"]["hidden"] == []
    assert (run.result["options"]["epochs"], run.result["options"]["dropout"]) == (1, 0.5)
    assert sum(run.result["parts"].values()) == 140
    assert verdict.measured == run.result["val"]["accuracy"]
    assert (verdict.part, verdict.verdict, verdict.comparable) == ("validation", "below", False)
    assert verdict.commands == row.commands
    assert verdict.curves is None
    assert capsys.readouterr().out == ""

    extracted = find_store(home, run.result["store"]).manifest.facts["created"]
    verdicts(home, row)
    assert find_store(home, run.result["store"]).manifest.facts["created"] == extracted


def test_a_fine_tuning_goes_on_from_the_store_and_is_not_repeated(one_home: Home) -> None:
    home = one_home
    row = recipe(EXTRACT, "probe finetune --unfreeze last:4 --optimiser sgd --epochs 5")
    (verdict,) = verdicts(home, row)
    assert verdict.run is not None
    run = open_run(home.runs / verdict.run)
    assert run.result["kind"] == "finetune"
    assert (run.result["plan"]["backbone"], run.result["plan"]["size"]) == ("efficientnet-lite0", 32)
    assert len(run.result["history"]["loss"]) == 1
    assert sum(run.result["parts"].values()) == 140
    assert verdict.measured == run.result["test"]["accuracy"]
    assert verdict.curves == run.path / "curves.png"
    # One epoch at this rate makes nothing better, so the start is what is scored.
    assert run.result["chosen"] == {"epoch": 0}
    assert verdict.why.endswith("epoch 0 of 1, no gain from training")
    assert verdicts(home, row)[0].run == verdict.run


def test_other_data_and_a_limit_reach_the_lines_that_name_the_data(home: Home) -> None:
    line = "probe finetune --backbone efficientnet-lite0 --weights random --size 32 --head-epochs 0 scenes15"
    row = replace(recipe(line), data="scenes15", published=())
    (verdict,) = verdicts(home, row, replace(PLAN, data={"scenes15": "fashion-sample"}))
    assert verdict.run is not None
    run = open_run(home.runs / verdict.run)
    assert (run.result["dataset"], sum(run.result["parts"].values())) == ("fashion-sample", 140)
    assert verdict.verdict == "no published figure"
    assert "on fashion-sample in place of scenes15" in verdict.why


def test_what_cannot_be_run_is_said_and_stops_nothing(home: Home) -> None:
    asked = []

    def transfer(row: Recipe, data: str) -> Run:
        asked.append((row.name, data))
        raise WeightsError("the weights are not here")

    rows = [BASELINES["cub200/a-whole"], BASELINES["scenes15/vgg16"]]
    plan = Plan(data={"scenes15": "fashion-sample"})
    found = [verdict for row in rows for verdict in verdicts_of(row, plan, home, transfer)]
    assert [(v.experiment, v.verdict, v.why) for v in found] == [
        ("cub200/a-whole", "not run", "the data set cub200 is not on this machine"),
        ("scenes15/vgg16", "not run", "the weights are not here"),
    ]
    assert found[0].commands == ("probe data fetch cub200", *rows[0].commands)
    assert found[1].commands == rows[1].commands
    assert asked == [("scenes15/vgg16", "fashion-sample")]


def test_an_interruption_ends_everything(home: Home) -> None:
    def interrupted(row: Recipe, data: str) -> Run:
        raise KeyboardInterrupt

    rows = [recipe(EXTRACT), recipe(EXTRACT)]
    with pytest.raises(KeyboardInterrupt):
        [verdicts_of(row, PLAN, home, interrupted) for row in rows]


@pytest.mark.usefixtures("rows_here")
def test_a_study_without_weights_runs_what_needs_none(shell: Shell, tmp_path: Path) -> None:
    found = shell.json(
        *("reproduce", "dogs-vs-cats", "--quick", "--limit", 60, "--epochs", 1, "--precision", "fp32"),
        *("--data-map", "dogs-vs-cats-2000=fashion-sample", "--output", tmp_path / "report.md"),
    )
    rows: Mapping[str, Any] = {row["experiment"].partition("/")[2]: row for row in found["rows"]}
    assert list(rows) == ["scratch", "scratch-augmented", "features", "frozen-augmented", "block5"]
    assert rows["scratch"]["measured"] is not None
    for name in ("features", "frozen-augmented", "block5"):
        assert rows[name]["verdict"] == "not run"
        assert "weights of vgg16 are not on this machine" in rows[name]["why"]
    text = (tmp_path / "report.md").read_text()
    assert "    probe baseline run dogs-vs-cats/scratch" in text
    assert "    probe fit dense --hidden 256 --no-standardise --sigmoid --dropout 0.5" in text


# ---- --limit ---------------------------------------------------------------------------------------------


def test_a_limit_is_part_of_how_a_data_set_is_opened_again(shell: Shell) -> None:
    network = ("--backbone", "efficientnet-lite0", "--size", 32)
    whole = shell.json("extract", "--backbone", "pixels", "--size", 8, "fashion-sample")
    some = shell.json("extract", "--backbone", "pixels", "--size", 8, "--limit", 50, "fashion-sample")
    assert (some["rows"], some["store"] != whole["store"]) == (50, True)
    home = Home(shell.home)
    store = find_store(home, some["store"])
    assert store.manifest.facts["origin"]["options"] == {"limit": 50}
    assert dataset_of(store, home).ids.tolist() == store.index.ids.tolist()

    def images(*arguments: object) -> int:
        return sum(shell.json("finetune", "--dry-run", "--unfreeze", "none", *arguments)["parts"].values())

    assert images(*network, "--limit", 40, "fashion-sample") == 40
    shell("extract", *network, "--weights", "random", "--limit", 50, "fashion-sample")
    assert images() == 50
    assert images("--limit", 30) == 30
