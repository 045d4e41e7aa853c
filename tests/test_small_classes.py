"""What the commands say about the sizes of the parts where classes are small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shell import Shell


@pytest.fixture
def many_classes(tmp_path: Path) -> Path:
    """Ten classes of four pictures."""
    generator = np.random.default_rng(0)
    for label in range(10):
        folder = tmp_path / "pictures" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def test_extract_prints_how_many_images_each_part_got(shell: Shell, many_classes: Path) -> None:
    text = shell("extract", "--backbone", "pixels", many_classes)
    assert "parts   train 28, val 4, test 8" in text
    assert "split 70/10/20 % by content, stratified, seed 0: train 28, val 4, test 8\n" in shell.error
    found = shell.json("extract", "--backbone", "pixels", many_classes, "--split", "0.6,0.2,0.2")
    assert found["parts"] == {"train": 24, "val": 8, "test": 8}
    found = shell.json("extract", "--backbone", "pixels", many_classes, "--split", "1,0,0")
    assert found["parts"] == {"train": 40}


def test_a_part_that_cannot_have_its_share_is_said(shell: Shell, many_classes: Path) -> None:
    labels = many_classes.parent / "labels.csv"
    rows = [f"class{label}/{number}.png,{label},g{label}" for label in range(10) for number in range(4)]
    labels.write_text("path,label,group\n" + "\n".join(rows), encoding="utf-8")
    found = shell.json("extract", "--backbone", "pixels", many_classes, "--labels", labels)
    assert found["parts"] == {"train": 40}
    assert "train 40, val 0, test 0, which is 100/0/0 %" in shell.error


def test_labelled_images_that_a_label_file_leaves_in_no_split_are_said(
    shell: Shell, many_classes: Path
) -> None:
    labels = many_classes.parent / "labels.csv"
    splits = ("train", "train", "test", "")
    rows = [f"class{label}/{n}.png,{label},{splits[n]}" for label in range(10) for n in range(4)]
    labels.write_text("path,label,split\n" + "\n".join(rows), encoding="utf-8")
    found = shell.json("extract", "--backbone", "pixels", many_classes, "--labels", labels)
    assert found["parts"] == {"train": 18, "val": 2, "test": 10, "none": 10}
    assert "validation: 2 images (10 %) taken from train" in shell.error
    assert "10 labelled images in no split: not used" in shell.error


def test_import_prints_how_many_rows_each_part_got(shell: Shell, tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    np.savez(tmp_path / "e.npz", features=features, labels=np.arange(600) % 150)
    assert "parts   train 420, val 60, test 120" in shell("stores", "import", tmp_path / "e.npz")
    assert shell.json("stores", "import", tmp_path / "e.npz")["parts"] == {
        "train": 420,
        "val": 60,
        "test": 120,
    }
