"""Classes with too few training images: named with their counts, or left out and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probe.heads import HEADS
from tests.shell import Shell
from tests.test_layouts import make_set

EXTRACT = ("extract", "--backbone", "pixels", "--size", 4)


@pytest.fixture
def birds(tmp_path: Path, shell: Shell) -> Shell:
    """Two classes of enough images, one of two training images, one of none that can be read."""
    root = make_set(
        tmp_path / "birds",
        "{train,val,test}/{crow,tit}/*6.png",
        "train/owl/*2.png",
        "test/owl/*3.png",
        "{val,test}/swan/*1.png",
    )
    for number in (0, 1):
        place = root / "train" / "swan" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        place.write_text("no picture")
    shell(*EXTRACT, root, code=4)
    return shell


@pytest.mark.parametrize("head", ["logreg", "centroid"])
def test_a_class_without_a_training_image_is_named_with_its_counts(birds: Shell, head: str) -> None:
    birds("fit", head, code=1)
    assert "1 of 4 classes have no row in the train part that can be used" in birds.error
    assert "swan: train 0, val 1, test 1, unreadable 2" in birds.error
    assert "--drop-small-classes 1" in birds.error
    assert "class number" not in birds.error


def dropped(result: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        entry["name"]: (entry["train"], entry["val"], entry["test"], entry["unreadable"])
        for entry in result["dropped_classes"]
    }


@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.refits])
def test_every_head_goes_on_without_small_classes(birds: Shell, head: str) -> None:
    options = ["--k", 1] if head == "knn" else []
    result = birds.json("fit", head, "--drop-small-classes", 1, *options)
    assert result["classes"] == ["crow", "owl", "tit"]
    assert dropped(result) == {"swan": (0, 1, 1, 2)}
    assert result["parts"] == {"train": 14, "val": 12, "test": 15}
    assert result["test"]["n"] == 15
    assert any("left out: 1 class of fewer than 1 training images" in line for line in result["notes"])
    assert any("nothing is said of the 1 test images of these classes" in line for line in result["notes"])


def test_predictions_and_comparisons_are_of_the_classes_kept(birds: Shell, tmp_path: Path) -> None:
    result = birds.json("fit", "logreg", "--c", 1, "--drop-small-classes", 3)
    assert (result["classes"], result["test"]["n"]) == (["crow", "tit"], 12)
    assert dropped(result) == {"owl": (2, 0, 3, 0), "swan": (0, 1, 1, 2)}
    assert "left out: 2 classes of fewer than 3 training images (owl: train 2" in birds(
        "runs", "show", "latest"
    )
    lines = birds("predict", "latest", tmp_path / "birds" / "test" / "owl")
    assert {line.split(",")[1] for line in lines.splitlines()[1:]} <= {"crow", "tit"}
    # A run of the same classes is compared with it, one of more classes is refused by name.
    birds("fit", "centroid", "--drop-small-classes", 3)
    assert birds.json("compare", "latest", "latest:2")["n"] == 12
    birds("fit", "centroid", "--drop-small-classes", 1)
    birds("compare", "latest", "latest:2", code=1)
    assert "different classes" in birds.error


def test_what_leaves_nothing_to_tell_apart_is_an_error(birds: Shell) -> None:
    birds("fit", "logreg", "--drop-small-classes", 7, code=1)
    assert "--drop-small-classes 7 leaves 0 of 4 classes" in birds.error
    assert "crow: train 6" in birds.error
    birds("fit", "logreg", "--drop-small-classes", 0, code=2)


def test_a_set_without_small_classes_is_fitted_as_before(tmp_path: Path, shell: Shell) -> None:
    shell(*EXTRACT, make_set(tmp_path / "set", "{a,b}/*10.png"))
    plain = shell.json("fit", "logreg", "--c", 1)
    same = shell.json("fit", "logreg", "--c", 1, "--drop-small-classes", 2)
    assert plain["test"] == same["test"]
    assert plain["dropped_classes"] == same["dropped_classes"] == []
    assert not any("left out" in line for line in same["notes"])
