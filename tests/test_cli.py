"""The command line as a user meets it: output, exit codes, one clear message and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probe.cli import COMMANDS, main
from tests.shell import PHOTOS, PROJECT, Shell


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with pixels of the sample and two runs on them."""
    home = tmp_path_factory.mktemp("fitted")
    for line in (
        "extract --backbone pixels --size 8 fashion-sample",
        "fit majority",
        "fit logreg --c 0.01",
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(home), *line.split(), "--quiet"])
        assert stop.value.code == 0
    return home


def test_extract_json_has_the_promised_fields(shell: Shell) -> None:
    found = shell.json("extract", "--backbone", "pixels", PHOTOS)
    promised = "store key rows rows_computed rows_copied rows_resumed unreadable reused seconds images_per_s"
    assert set(promised.split()) <= set(found)
    assert (found["rows"], found["rows_computed"], found["reused"]) == (10, 10, False)
    assert shell.json("extract", "--backbone", "pixels", PHOTOS)["reused"]


def test_fit_json_has_the_promised_fields_and_an_honest_number(fitted: Path, shell: Shell) -> None:
    shell.home = fitted
    found = shell.json("fit", "logreg", "--c", "0.001,0.01,0.1")
    assert {"run", "store", "head", "chosen", "seconds", "test", "val"} <= set(found)
    promised = "accuracy accuracy_low accuracy_high top5 balanced_accuracy macro_f1 log_loss ece"
    assert set(promised.split()) <= set(found["test"])
    assert found["test"]["n"] == 1000
    assert found["test"]["accuracy_low"] < found["test"]["accuracy"] < found["test"]["accuracy_high"]
    assert 0.70 < found["test"]["accuracy"] < 0.85
    assert found["chosen"]["c"] in (0.001, 0.01, 0.1)
    with np.load(fitted / "runs" / found["run"] / "predictions.npz", allow_pickle=False) as predictions:
        accuracy = (predictions["probabilities"].argmax(1) == predictions["labels"]).mean()
    assert accuracy == pytest.approx(found["test"]["accuracy"])


def test_compare_says_which_is_better(fitted: Path, shell: Shell) -> None:
    shell.home = fitted
    runs = [row["run"] for row in shell.json("runs", "ls") if row["head"] in ("logreg", "majority")]
    logreg = next(name for name in runs if "logreg" in name)
    majority = next(name for name in runs if "majority" in name)
    found = shell.json("compare", logreg, majority)
    assert {"a", "b", "difference", "low", "high", "p_value", "verdict"} <= set(found)
    assert found["low"] > 0.5
    assert "is better than" in found["verdict"]
    assert "is better than" in shell("compare", logreg, majority)


def test_the_store_says_what_it_is(fitted: Path, shell: Shell) -> None:
    shell.home = fitted
    (row,) = shell.json("stores", "ls")
    assert row["rows"] == 3500
    shown = shell.json("stores", "show")
    assert shown["parts"] == {"train": 2000, "val": 500, "test": 1000}
    assert shell.json("stores", "verify", "--full")["ok"]
    assert "pixels" in shell("stores", "show")


def test_verify_of_a_damaged_store_is_exit_code_three(shell: Shell) -> None:
    name = shell.json("extract", "--backbone", "pixels", PHOTOS)["store"]
    (shell.home / "stores" / name / "data.zarr/features/pixels/c/0/0").write_bytes(b"x")
    found = shell.json("stores", "verify", code=3)
    assert not found["ok"]
    assert found["problems"]


def test_unreadable_images_are_exit_code_four_and_listed(shell: Shell, tmp_path: Path) -> None:
    import shutil

    photos = tmp_path / "photos"
    shutil.copytree(PHOTOS, photos)
    (photos / "animals" / "no.jpg").write_text("no picture")
    found = shell.json("extract", "--backbone", "pixels", photos, code=4)
    assert found["unreadable"] == 1
    assert "animals/no.jpg" in shell("stores", "show")


def test_dry_run_writes_nothing(shell: Shell) -> None:
    found = shell.json("extract", "--backbone", "pixels", "--dry-run", PHOTOS)
    assert found["images"] == 10
    assert found["bytes"] > 0
    assert not (shell.home / "stores").exists()


def test_limit(shell: Shell) -> None:
    assert shell.json("extract", "--backbone", "pixels", "--limit", 4, PHOTOS)["rows"] == 4


WRONG = [
    ("frobnicate", 2, "no command called"),
    ("extract --backbone resnet51 PHOTOS", 2, "resnet50"),
    ("extract --backbone pixels nosuchdata", 2, "no data set called"),
    ("extract --backbone pixels ./no/such/folder", 2, "there is no file or folder"),
    ("extract PHOTOS", 2, "--backbone"),
    ("extract --backbone pixels --size 0 PHOTOS", 2, "--size"),
    ("extract --backbone pixels --split 0.5,0.5 PHOTOS", 2, "--split"),
    ("extract --backbone pixels --split-seed -1 PHOTOS", 2, "--split-seed"),
    ("extract --backbone pixels --view-seed -1 PHOTOS", 2, "--view-seed"),
    ("finetune --seed -1 PHOTOS", 2, "--seed"),
    ("audit --seed -1", 2, "--seed"),
    ("extract --backbone resnet50 --precision fp32 PHOTOS", 1, "efficientnet-lite0"),
    ("fit logreg", 1, "no finished store"),
    ("fit nosuchhead", 2, "no head called"),
    ("stores show nothing", 2, "no store called"),
    ("runs show", 1, "no run in"),
    ("compare a b", 2, "no run called"),
]


@pytest.mark.parametrize(("line", "code", "said"), WRONG, ids=[line for line, _, _ in WRONG])
def test_wrong_input_is_one_clear_message(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, code: int, said: str
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    shell(*line.replace("PHOTOS", str(PHOTOS)).split(), code=code)
    assert said in shell.error


def test_an_unfinished_store_is_named_as_such(shell: Shell) -> None:
    name = shell.json("extract", "--backbone", "pixels", PHOTOS)["store"]
    (shell.home / "stores" / name / "MANIFEST.json").unlink()
    shell("fit", "logreg", name, code=1)
    assert "unfinished" in shell.error
    assert "run the same extract command again" in shell.error


def test_the_environment_and_the_file_set_options_and_flags_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("probe.toml").write_text('[extract]\nbackbone = "pixels"\nsize = 9\n')
    store = shell.json("extract", PHOTOS)["store"]
    assert shell.json("stores", "show", store)["spec"]["backbone"]["size"] == 9
    monkeypatch.setenv("PROBE_EXTRACT_SIZE", "10")
    store = shell.json("extract", PHOTOS)["store"]
    assert shell.json("stores", "show", store)["spec"]["backbone"]["size"] == 10
    store = shell.json("extract", "--size", 11, PHOTOS)["store"]
    assert shell.json("stores", "show", store)["spec"]["backbone"]["size"] == 11


def test_broken_configuration_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("probe.toml").write_text("this is = not [ toml")
    shell("stores", "ls", code=2)
    assert "not valid TOML" in shell.error


def test_every_command_has_help(shell: Shell) -> None:
    overview = shell("--help")
    for name in COMMANDS:
        assert name in overview
        assert "Usage: probe" in shell(name, "--help")


def test_results_go_to_stdout_and_notes_to_stderr(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "probe", "--home", str(tmp_path), "extract", "--json", str(PHOTOS)]
    # A small part of a network, so that it is compiled within a second.
    network = ["--backbone", "efficientnet-lite0", "--size", "32", "--outputs", "block1"]
    done = subprocess.run([*command, *network], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"] == 10
    # And nothing of what TensorFlow says to itself; slow machines say how long the network is loaded.
    said = [line for line in done.stderr.splitlines() if not line.startswith(("load ", "read ", "extract: "))]
    first, second = said
    assert "split" in first
    assert "10 images" in second
