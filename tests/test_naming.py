"""What a command takes for STORE and DATASET: names, parts, paths, ``latest`` and data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.shell import PHOTOS, Shell


@pytest.fixture
def here(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the picture folder ``stamps``, of which there is a store."""
    shutil.copytree(PHOTOS, tmp_path / "stamps")
    monkeypatch.chdir(tmp_path)
    extract(shell, "stamps", 4)
    return tmp_path


def extract(shell: Shell, dataset: str, size: int, *more: str) -> str:
    name: str = shell.json("extract", "--backbone", "pixels", "--size", size, dataset, *more)["store"]
    return name


def copy_some(folder: Path) -> None:
    """Pictures that are not all those of ``stamps``: identical ones are one store."""
    shutil.copytree(PHOTOS, folder)
    next(folder.rglob("*.jpg")).unlink()


def pretend_network(shell: Shell, name: str) -> None:
    """Let a small store pass for one of a network, as far as choosing goes."""
    manifest = shell.home / "stores" / name / "MANIFEST.json"
    record = json.loads(manifest.read_text())
    record["spec"]["backbone"] |= {"name": "efficientnet-lite0", "weights": "random:0", "size": 32}
    manifest.write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["stamps", "./stamps", "stamps/", "STAMPS"])
def test_a_folder_of_the_data_sets_name_does_not_hide_its_store(here: Path, shell: Shell, name: str) -> None:
    if name == "STAMPS":
        (here / "stamps").rename(here / "elsewhere")
    newest = extract(shell, str(here / "stamps"), 5) if name != "STAMPS" else None
    found = shell.json("fit", "centroid", name)["store"]
    assert found == (newest or found)
    assert f"store {found} (for {name})" in shell.error


def test_the_newest_of_the_data_set_is_taken_and_not_the_newest_of_all(here: Path, shell: Shell) -> None:
    copy_some(here / "coins")
    older, newer = extract(shell, "stamps", 5), extract(shell, "stamps", 6)
    extract(shell, "coins", 4)
    for name in ("stamps", here / "stamps"):
        assert shell.json("fit", "centroid", name)["store"] == newer
        assert shell.json("stores", "show", name)["store"] == newer
        assert shell.json("stores", "verify", name)["ok"]
    assert older != newer


def test_a_store_is_known_by_every_folder_it_was_extracted_from(here: Path, shell: Shell) -> None:
    name = shell.json("stores", "ls")[0]["store"]
    (here / "stamps").rename(here / "coins")
    assert extract(shell, "coins", 4) == name
    for dataset in ("coins", "stamps", "./coins", here / "stamps"):
        assert shell.json("fit", "centroid", dataset)["store"] == name
    pretend_network(shell, name)
    shell("finetune", "--show-augment", here / "shown.png")  # opens the pictures where they lie now


def test_a_store_of_a_picture_folder_that_is_gone_is_still_found(here: Path, shell: Shell) -> None:
    shutil.rmtree(here / "stamps")
    assert shell.json("fit", "centroid", "stamps")["dataset"] == "stamps"
    assert shell.json("fit", "centroid", "./stamps")["dataset"] == "stamps"


def test_two_data_sets_of_one_name_are_told_apart_by_where_they_lie(here: Path, shell: Shell) -> None:
    (here / "other").mkdir()
    shutil.copytree(PHOTOS, here / "other" / "stamps")
    other = extract(shell, "other/stamps", 5)
    assert shell.json("fit", "centroid", "other/stamps")["store"] == other
    (here / "third").mkdir()
    (here / "stamps").rename(here / "third" / "stamps")
    (here / "stamps").mkdir()  # of this folder there is a store, by its path
    assert shell.json("fit", "centroid", "stamps")["store"] != other
    (here / "stamps").rmdir()
    shell.home.rename(here / "third" / "home")
    shell.home = here / "third" / "home"
    os_free = here / "empty"
    os_free.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(os_free)
        shell("fit", "centroid", "stamps", code=2)
    assert "fits several stores" in shell.error
    assert str(here / "other" / "stamps") in shell.error
    assert "pixels 5" in shell.error


def test_a_picture_folder_without_a_store_says_so_and_where_it_looked(here: Path, shell: Shell) -> None:
    (here / "fresh").mkdir()
    shell("fit", "logreg", "./fresh", code=1)
    assert f"{here / 'fresh'} is no store" in shell.error
    assert str(shell.home.resolve() / "stores") in shell.error
    assert "--home or PROBE_HOME" in shell.error
    assert "unfinished" not in shell.error


@pytest.mark.parametrize("name", ["", ".", "..", "nothing"])
def test_what_is_no_store_is_never_taken_for_an_unfinished_one(here: Path, shell: Shell, name: str) -> None:
    shell("stores", "show", name, code=1 if name in (".", "..") else 2)
    assert "unfinished" not in shell.error
    assert str(shell.home.resolve()) in shell.error


def test_an_empty_home_says_which_folder_it_is(tmp_path: Path, shell: Shell) -> None:
    stores, runs = shell.home.resolve() / "stores", shell.home.resolve() / "runs"
    for line, folder in (("stores ls", stores), ("runs ls", runs)):
        assert f"in {folder} (another home is named by --home or PROBE_HOME)" in shell(*line.split())
    lines = {"fit logreg": stores, "stores show": stores, "finetune": stores, "runs show": runs}
    lines |= {"compare a b": runs, "stores rm x": stores, "runs rm x": runs, "predict x y.png": runs}
    for line, folder in lines.items():
        shell(*line.split(), code=1 if len(line.split()) == 2 or line == "finetune" else 2)
        assert str(folder) in shell.error
        assert "--home or PROBE_HOME" in shell.error


def test_stores_that_share_a_part_are_listed_with_their_differences(here: Path, shell: Shell) -> None:
    extract(shell, "stamps", 5)
    shell("stores", "show", "mps-pix", code=2)
    assert "fits several stores" in shell.error
    assert "pixels 4" in shell.error
    assert "pixels 5" in shell.error
    assert "precision" not in shell.error  # the same in both


def test_two_stores_can_be_told_apart_in_the_list(here: Path, shell: Shell) -> None:
    extract(shell, "stamps", 5)
    rows = shell.json("stores", "ls")
    assert [row["size"] for row in rows] == [5, 4]
    assert {row["precision"] for row in rows} == {"fp32"}
    header, first, _ = shell("stores", "ls").splitlines()
    assert "px" in header.split()
    assert "precision" in header
    assert first.split()[1:3] == ["5", "fp32"]


def test_the_list_of_runs_says_how_many_images_were_scored(here: Path, shell: Shell) -> None:
    run = shell.json("fit", "centroid")
    (row,) = shell.json("runs", "ls")
    assert row["n"] == run["test"]["n"] > 0
    header, line = shell("runs", "ls").splitlines()
    assert header.split().index("n") == 5
    assert f" {row['n']}  " in line


def test_fit_passes_over_a_newer_store_without_labels_or_what_is_asked_for(here: Path, shell: Shell) -> None:
    labelled = extract(shell, "stamps", 5, "--views", "1")
    flat = here / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(PHOTOS.rglob("*.jpg")) + sorted(PHOTOS.rglob("*.png"))):
        shutil.copy(file, flat / f"{number}{file.suffix}")
    plain = extract(shell, "stamps", 6)
    extract(shell, "flat", 4)
    assert shell.json("fit", "centroid")["store"] == plain
    assert shell.json("fit", "centroid", "latest:2")["store"] == labelled
    assert shell.json("fit", "centroid", "--views", "1")["store"] == labelled
    shell("fit", "centroid", "flat", code=1)
    assert "has no labels" in shell.error


def test_finetune_passes_over_a_newer_store_of_pixels(here: Path, shell: Shell) -> None:
    network = extract(shell, "stamps", 5)
    pretend_network(shell, network)
    extract(shell, "stamps", 6)
    for arguments in ((), ("latest",), ("stamps",), (network,), (network[:-4],), ("--store", "latest")):
        shell("finetune", *arguments, "--show-augment", here / "shown.png")
        assert f"store {network}" in shell.error or arguments == (network,)
    shutil.rmtree(shell.home / "stores" / network)
    shell("finetune", "--dry-run", code=2)
    assert "pixels" in shell.error


def test_finetune_takes_the_images_of_a_store_that_its_argument_names(here: Path, shell: Shell) -> None:
    network = extract(shell, "stamps", 5)
    pretend_network(shell, network)
    copy_some(here / "coins")
    coins = extract(shell, "coins", 4)
    pretend_network(shell, coins)
    shell("finetune", "latest:2", "--show-augment", here / "shown.png")
    assert f"store {network} (for latest:2)" in shell.error
    shell("finetune", "stamps", "--show-augment", here / "shown.png")
    assert f"store {network} (the newest of stamps)" in shell.error
    (here / "stamps").rename(here / "away")
    shell("finetune", "stamps", "--show-augment", here / "shown.png", code=2)
    assert f"store {network} (for stamps)" in shell.error
