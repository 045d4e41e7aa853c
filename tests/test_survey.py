"""Backbones × outputs × heads in one table: what is computed, what is reused, and what the table says."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from probe import Workspace
from probe.config import Home
from probe.errors import ProbeError, UsageError
from probe.runs import list_runs
from probe.store import list_stores
from tests.onnx_files import cnn
from tests.shell import PROJECT, Shell

SAMPLE = "fashion-sample"
STEM, LAST = "stem_Relu_output_0", "features"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnn(tmp_path_factory.mktemp("nets") / "net.onnx")


@pytest.fixture
def words(net: Path) -> list[str]:
    """A survey of five rows: the pixels lack both outputs, and are surveyed by their own."""
    return [
        *("survey", SAMPLE, "--limit", "300", "--size", "16", "--preprocess", "unit"),
        *("--backbones", f"pixels,{net}", "--outputs", f"{STEM},{LAST}", "--heads", "centroid,knn"),
    ]


def names(home: Path) -> tuple[list[str], list[str]]:
    """Stores and runs of a home, sorted."""
    stores, runs = list_stores(Home(home))[0], list_runs(Home(home))[0]
    return sorted(store.name for store in stores), sorted(run.name for run in runs)


def test_a_table_of_every_row_says_what_comparing_the_runs_says(
    shell: Shell, words: list[str], net: Path
) -> None:
    plan = shell.json(*words, "--dry-run")
    assert [backbone["outputs"] for backbone in plan["backbones"]] == [["pixels"], [STEM, LAST]]
    assert [len(backbone["passes"]) for backbone in plan["backbones"]] == [1, 1]
    assert (plan["fits"], plan["fits_there"]) == (6, 0)
    assert not (shell.home / "stores").exists()

    found = shell.json(*words)
    assert "pixels has no stem_Relu_output_0, features: its own pixels is taken" in found["notes"]
    rows = found["rows"]
    assert {(Path(r["backbone"]).name, r["output"], r["head"]) for r in rows} == {
        *(("pixels", "pixels", head) for head in ("centroid", "knn")),
        *(("net.onnx", output, head) for output in (STEM, LAST) for head in ("centroid", "knn")),
    }
    assert rows[0]["standing"] == "best"
    assert rows[0]["accuracy"] == max(row["accuracy"] for row in rows)
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    compared = shell.json("compare", *(row["run"] for row in rows))
    best = {pair["name_b"]: pair for pair in compared["pairs"] if pair["name_a"] == rows[0]["run"]}
    for row in rows[1:]:
        pair = best[row["run"]]
        assert row["standing"] == ("worse" if pair["shown"] else "alike")
        assert (row["difference"], row["p_value"]) == (-pair["difference"], pair["p_value"])
        assert (row["difference_low"], row["difference_high"]) == (-pair["high"], -pair["low"])
    widths = {row["output"]: row["width"] for row in rows}
    assert widths == {"pixels": 768, STEM: 4, LAST: 8}
    assert all(row["megabytes"] == round(300 * row["width"] * 4 / 1e6, 3) for row in rows)
    assert all(row["images_per_s"] > 0 for row in rows)
    assert len(names(shell.home)[0]) == 2, "several outputs are one pass"

    before = names(shell.home)
    assert shell.json(*words, "--dry-run")["fits_there"] == 6
    assert shell.json(*words)["rows"] == rows
    assert names(shell.home) == before, "the same command computes nothing"


def test_an_output_more_is_a_pass_of_that_output_alone(shell: Shell, net: Path) -> None:
    common = ["--limit", 200, "--preprocess", "unit", "--backbones", str(net), "--heads", "centroid"]
    shell("extract", SAMPLE, "--limit", 200, "--preprocess", "unit", "--backbone", net, "--outputs", LAST)
    (backbone,) = shell.json("survey", SAMPLE, *common, "--outputs", f"{STEM},{LAST}", "--dry-run")[
        "backbones"
    ]
    assert [(one["outputs"], one["finished"]) for one in backbone["passes"]] == [
        ([LAST], True),
        ([STEM], False),
    ]
    shell("survey", SAMPLE, *common, "--outputs", f"{STEM},{LAST}")
    stores, runs = names(shell.home)
    assert (len(stores), len(runs)) == (2, 2)
    (row,) = shell.json("survey", SAMPLE, *common, "--outputs", "/stem/Relu_output_0")["rows"]
    assert row["run"] in runs
    assert row["output"] == STEM


def test_a_backbone_without_weights_fails_its_rows_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.internet.time.sleep", lambda _: None)
    words = ["survey", SAMPLE, "--limit", 200, "--size", 32, "--backbones", "resnet50,pixels"]
    words += ["--outputs", "block3,pixels", "--heads", "centroid"]
    found = shell.json(*words, code=1)
    assert found["failed"] == 1
    first, last = found["rows"]
    assert (first["backbone"], first["standing"]) == ("pixels", "best")
    assert (last["backbone"], last["output"], last["standing"]) == ("resnet50", "block3", "failed")
    assert "could not be fetched" in last["problem"]
    assert "failed: resnet50, block3 centroid: the ImageNet weights" in shell(*words, code=1)


def test_every_form_of_the_table_and_the_figure(shell: Shell, words: list[str], tmp_path: Path) -> None:
    text = shell(*words, "--figure", tmp_path / "survey.svg")
    assert "figure" in shell.error
    assert max(map(len, text.splitlines())) <= 80
    assert max(len(line) for line in shell.error.splitlines() if "/" not in line) <= 120
    for sign in ("*", "img/s", "corrected for 15 pairs", "test images in common"):
        assert sign in " ".join(text.split())
    assert "<svg" in (tmp_path / "survey.svg").read_text()
    found = list(csv.DictReader(io.StringIO(shell(*words, "--csv"))))
    assert len(found) == 6
    assert {row["standing"] for row in found} <= {"best", "alike", "worse"}
    markdown = shell(*words, "--markdown").splitlines()
    assert markdown[1] == "|" + "---|" * 8
    assert len(markdown) == 8
    latex = shell(*words, "--latex")
    assert latex.startswith(r"\begin{tabular}")
    assert r"stem\_Relu\_output\_0" in latex
    for form in ("png", "pdf"):
        shell(*words, "--quiet", "--figure", tmp_path / f"survey.{form}")
        assert (tmp_path / f"survey.{form}").stat().st_size > 1000


def test_a_survey_goes_on_after_a_kill(shell: Shell, words: list[str]) -> None:
    environment = {**os.environ, "PROBE_HOME": str(shell.home), "PYTHONPATH": str(PROJECT)}
    running = subprocess.Popen([sys.executable, "-m", "probe", *words], env=environment, stderr=-3, stdout=-3)
    while not list((shell.home / "runs").glob("*/result.json")) and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = names(shell.home)
    assert before[1]
    found = shell.json(*words)
    assert set(before[1]) < {row["run"] for row in found["rows"]} or len(before[1]) == 6
    stores, runs = names(shell.home)
    assert set(before[0]) <= set(stores)
    assert (len(stores), len(runs)) == (2, 6)


def test_a_survey_of_pixels_imports_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom probe.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    words = [
        "survey",
        SAMPLE,
        "--limit",
        "200",
        "--size",
        "4",
        "--backbones",
        "pixels",
        "--heads",
        "ridge,knn",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={"PROBE_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ridge" in done.stdout


WRONG: dict[str, tuple[list[Any], str]] = {
    "no backbone": (["--backbones", ","], "no backbones are named"),
    "no such backbone": (["--backbones", "pixles"], "did you mean 'pixels'"),
    "a backbone twice": (["--backbones", "pixels,pixels"], "named twice"),
    "no such head": (["--backbones", "pixels", "--heads", "logrek"], "did you mean 'logreg'"),
    "no such output": (["--backbones", "pixels", "--outputs", "pixls"], "did you mean 'pixels'"),
    "no stage of any": (
        ["--backbones", "pixels,efficientnet-lite0", "--outputs", "pixels:cls"],
        "NAME:map",
    ),
    "no map": (["--backbones", "pixels", "--heads", "conv"], "no output is one"),
    "no figure": (["--backbones", "pixels", "--figure", "x.jpg"], ".svg"),
    "two forms": (["--backbones", "pixels", "--csv", "--latex"], "exclude each other"),
    "no test images": (["--backbones", "pixels", "--limit", 2], "no labelled"),
}


@pytest.mark.parametrize(("options", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_surveyed_is_said_before_anything_is_done(
    shell: Shell, options: list[Any], said: str
) -> None:
    shell("survey", SAMPLE, *options, code=1 if "--limit" in options else 2)
    assert said in shell.error
    assert not (shell.home / "stores").exists()


def test_heads_on_maps_are_passed_over_elsewhere(shell: Shell) -> None:
    words = ["survey", SAMPLE, "--limit", 200, "--size", 4, "--backbones", "pixels"]
    words += ["--outputs", "pixels,pixels:map", "--heads", "centroid,conv", "--dry-run"]
    plan = shell.json(*words)
    assert plan["fits"] == 3
    assert plan["notes"] == ["conv needs a map: passed over on pixels"]


def test_a_notebook_has_the_survey_as_a_table(tmp_path: Path, net: Path) -> None:
    space = Workspace(tmp_path / "home", quiet=True)
    found = space.survey(
        SAMPLE, backbones=["pixels", str(net)], preprocess="unit", heads="centroid", limit=200
    )
    assert len(found.table) == 2
    assert found.best is not None
    assert found.best.run in [run.name for run in space.runs]
    assert "<table>" in found._repr_html_()
    assert found.figure(tmp_path / "survey.png") == 2
    assert repr(found) == "\n".join(found.lines())
    with pytest.raises(UsageError, match="has to be given"):
        space.survey(SAMPLE)
    with pytest.raises(ProbeError, match="no output called"):
        space.survey(SAMPLE, backbones="pixels", outputs="block3")
    assert json.dumps(found.to_json())
