"""What the folders of a set are taken for: classes, splits, or nothing; docs/layouts.md has the table."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import Dataset, DatasetOptions, open_dataset, reopen
from probe.datasets.arrangement import Layout
from probe.datasets.split_names import split_folders
from probe.errors import DataError, UsageError
from tests.shell import Shell

EXTRACT = ("extract", "--backbone", "pixels", "--size", 4)


def make_set(root: Path, *patterns: str) -> Path:
    """Small pictures, each another; ``train/{cats,dogs}/*3.png`` are three in each of two folders."""
    seed = 0
    for name in (name for pattern in patterns for name in _expand(pattern)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".png":
            path.write_text("no picture")
            continue
        seed += 1
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def _expand(pattern: str) -> list[str]:
    if "{" in pattern:
        before, _, rest = pattern.partition("{")
        inside, _, after = rest.partition("}")
        return [name for one in inside.split(",") for name in _expand(before + one + after)]
    match = re.fullmatch(r"(.*)\*(\d+)(.*)", pattern)
    return [f"{match[1]}{number}{match[3]}" for number in range(int(match[2]))] if match else [pattern]


def read(root: Path, home: Home, **options: Any) -> Dataset:
    return open_dataset(str(root), home, DatasetOptions(**options))


def counts(dataset: Dataset) -> dict[str, int]:
    """Images of each class, those without one under ``-``."""
    names = [dataset.classes[label] if label >= 0 else "-" for label in dataset.labels.tolist()]
    return dict(Counter(names))


def said(dataset: Dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


PUBLISHED = {"cats": 6, "dogs": 6}

CLASSES: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    # One part has labels, or is all there is.
    "kaggle": (("train/{cats,dogs}/*6.png", "test/*3.png"), {**PUBLISHED, "-": 3}),
    "kaggle, test1": (("train/{cats,dogs}/*6.png", "test1/*3.png"), {**PUBLISHED, "-": 3}),
    "train alone": (("train/{cats,dogs}/*6.png",), PUBLISHED),
    "train beside a text": (("train/{cats,dogs}/*6.png", "README.txt"), PUBLISHED),
    "in capitals": (("TRAIN/{cats,dogs}/*6.png", "Test/*3.png"), {**PUBLISHED, "-": 3}),
    "classes within val only": (("train/*4.png", "val/{cats,dogs}/*6.png"), {**PUBLISHED, "-": 4}),
    "test alone": (("test/{cats,dogs}/*6.png",), PUBLISHED),
    "images below": (("train/{cats,dogs}/*6.png", "test/images/*3.png"), {**PUBLISHED, "-": 3}),
    "tiny imagenet": (
        ("train/{n01,n02}/images/*3.png", "val/images/*2.png", "test/images/*2.png", "val/boxes.txt"),
        {"n01": 3, "n02": 3, "-": 4},
    ),
    "seg": (
        (
            "seg_train/seg_train/{sea,wood}/*3.png",
            "seg_test/seg_test/{sea,wood}/*2.png",
            "seg_pred/seg_pred/*2.png",
        ),
        {"sea": 5, "wood": 5, "-": 2},
    ),
    "numbers as classes": (("training/{0,1,10}/*2.png", "testing/*2.png"), {"0": 2, "1": 2, "10": 2, "-": 2}),
    # Wrapped.
    "doubled": (("photos/photos/{cats,dogs}/*6.png",), PUBLISHED),
    "doubled with litter": (
        ("photos/photos/{cats,dogs}/*6.png", "__MACOSX/photos/._0.png", "photos/.DS_Store", "Thumbs.db"),
        PUBLISHED,
    ),
    "archive": (
        ("archive/set/train/{cats,dogs}/*6.png", "archive/set/test/*3.png"),
        {**PUBLISHED, "-": 3},
    ),
    "picture beside a wrapping": (("data/{cats,dogs}/*6.png", "preview.png"), PUBLISHED),
    "train in train": (("train/train/{cats,dogs}/*6.png", "test1/test1/*3.png"), {**PUBLISHED, "-": 3}),
    "images in train": (
        ("{train,test}/images/{cats,dogs}/*3.png",),
        PUBLISHED,
    ),
    # Folders that are classes whatever they are called.
    "a class called train": (("{train,car,bus,plane}/*2.png",), {"bus": 2, "car": 2, "plane": 2, "train": 2}),
    "train station": (("{train station,test tube}/*2.png",), {"test tube": 2, "train station": 2}),
    "classes of folders": (("cats/{in,out}/*3.png", "dogs/{in,out}/*3.png"), PUBLISHED),
    "unlabelled beside classes": (("{cats,dogs}/*6.png", "Unlabelled/*4.png"), {**PUBLISHED, "-": 4}),
    "numbers": (("{1,2}/*2.png",), {"1": 2, "2": 2}),
    "hidden folders beside": (("{cats,dogs}/*6.png", ".cache/*2.png", ".thumbs/a/*2.png"), PUBLISHED),
    # Splits inside the class folders.
    "inverted": (("{cats,dogs}/train/*4.png", "{cats,dogs}/test/*2.png"), PUBLISHED),
    # No labels at all.
    "flat train": (("train/cat.*3.png", "train/dog.*3.png", "test1/*2.png"), {"-": 8}),
    "flat train alone": (("train/cat.*3.png", "train/dog.*3.png"), {"-": 6}),
    "yolo": (("images/{train,val}/*3.png", "labels/{train,val}/*3.txt"), {"-": 6}),
    "yolo inside": (
        ("{train,valid}/images/*2.png", "{train,valid}/labels/*2.txt", "data.yaml"),
        {"-": 4},
    ),
    "masks beside": (("{train,test}/*2.png", "masks/*2.png"), {"-": 4}),
    "images": (("images/*3.png", "labels/*3.txt"), {"-": 3}),
    "doubled and flat": (("set/*3.png",), {"-": 3}),
}


@pytest.mark.parametrize("case", CLASSES)
def test_layouts_are_read_by_what_the_folders_say(tmp_path: Path, home: Home, case: str) -> None:
    patterns, expected = CLASSES[case]
    dataset = read(make_set(tmp_path / "set", *patterns), home)
    assert counts(dataset) == expected
    # What has no label is in no split; what has one is in one, so that there is something to fit and score.
    unlabelled = dataset.labels < 0
    assert set(dataset.splits[unlabelled].tolist()) <= {""}
    assert "" not in dataset.splits[~unlabelled].tolist()
    assert dataset.hashes.all()


SPLITS = {
    "usual": (("{train,val,test}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "valid": (("{Train,valid,TEST}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "dev and eval": (("{training,dev,eval}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "eval beside test": (("{train,eval,test}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "images_": (("images_{train,val,holdout}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "sets": (("{Training Set,Validation Set,TestSet}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "years": (("{train2017,val2017,test2017}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "two tests": (("{train,val,test1,test2}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 16}),
    "inverted": (("{a,b}/{train,val,test}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "nested": (("x/y/z/{train,val,test}/{a,b}/*4.png",), {"train": 8, "val": 8, "test": 8}),
    "a copy beside": (
        ("{train,val,test}/{a,b}/*4.png", "set/{train,val,test}/{a,b}/*4.png"),
        {"train": 8, "val": 8, "test": 8},
    ),
    "a split without labels": (("{train,val}/{a,b}/*4.png", "test/*4.png"), {"train": 8, "val": 8, "": 4}),
    "one class each": (("{train,val,test}/a/*4.png",), {"train": 4, "val": 4, "test": 4}),
}


@pytest.mark.parametrize("case", SPLITS)
def test_the_publishers_split_is_kept_however_it_is_spelt(tmp_path: Path, home: Home, case: str) -> None:
    patterns, expected = SPLITS[case]
    dataset = read(make_set(tmp_path / "set", *patterns), home)
    assert dict(Counter(dataset.splits.tolist())) == expected
    assert dataset.classes == (("a",) if case == "one class each" else ("a", "b"))


def test_a_labelled_part_alone_is_divided_like_any_labelled_set(tmp_path: Path, home: Home) -> None:
    dataset = read(make_set(tmp_path / "set", "train/{cats,dogs}/*10.png", "test/*5.png"), home)
    assert dict(Counter(dataset.splits.tolist())) == {"train": 14, "val": 2, "test": 4, "": 5}
    assert said(dataset, "only train has labels")
    assert said(dataset, "no class folders in test: its 5 images have no label")


def test_the_unlabelled_part_is_extracted_and_left_out_of_fitting(shell: Shell, tmp_path: Path) -> None:
    root = make_set(tmp_path / "kaggle", "train/{cats,dogs}/*10.png", "test/*5.png")
    made = shell.json(*EXTRACT, root)
    assert (made["rows"], made["rows_computed"], made["classes"]) == (25, 25, 2)
    assert made["class_names"] == ["cats", "dogs"]
    assert made["parts"] == {"train": 14, "val": 2, "test": 4, "none": 5}
    assert "2 classes: cats, dogs; train 14, val 2, test 4, none 5" in shell.error
    fitted = shell.json("fit", "logreg", "--c", 1)
    assert fitted["classes"] == ["cats", "dogs"]
    assert fitted["parts"] == {"train": 14, "val": 2, "test": 4}
    shell(*EXTRACT, "--layout", "classes", root)
    assert "2 classes: test, train; train " in shell.error


def test_every_extract_and_check_says_its_classes_by_name(shell: Shell, tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", "{a,b,c,d,e,f,g,h}/*3.png")
    shell(*EXTRACT, root)
    assert "8 classes: a, b, c, d, e, f, …; train " in shell.error
    shell(*EXTRACT, "--dry-run", root)
    assert "8 classes: a, b, c, d, e, f, …; train " in shell.error
    assert "classes  a, b, c, d, e, f, …" in shell("data", "check", root)
    checked = shell.json("data", "check", root)
    assert (checked["classes"], checked["class_names"]) == (8, list("abcdefgh"))
    flat = make_set(tmp_path / "flat", "*3.png")
    shell(*EXTRACT, flat)
    assert "no classes; none 3" in shell.error


def test_a_set_without_class_folders_says_how_labels_are_given(tmp_path: Path, home: Home) -> None:
    dataset = read(make_set(tmp_path / "set", "train/{cat,dog}.*3.png", "test1/*2.png"), home)
    assert said(dataset, "the images have no labels (--labels labels.csv gives them)")
    assert said(dataset, "these begin with cat, dog")
    assert said(dataset, "named after splits, without class folders: test1, train")


AMBIGUOUS = {
    "a train of folders among classes": (
        ("train/{steam,diesel}/*2.png", "{car,bus}/*2.png"),
        (
            "splits: the classes are diesel, steam",
            "classes: the classes are bus, car, train",
        ),
    ),
    "kaggle beside other pictures": (
        ("train/{cats,dogs}/*2.png", "test/*2.png", "sample/*2.png"),
        (
            "splits: the classes are cats, dogs",
            "classes: the classes are sample, test, train",
        ),
    ),
    "pictures and masks": (
        ("images/*3.png", "masks/*3.png"),
        ("--layout classes: the classes are images, masks", "images without labels"),
    ),
    "pictures and masks in splits": (
        ("{train,test}/{images,masks}/*3.png",),
        ("--layout splits: the classes are images, masks", "images without labels"),
    ),
    "several sets": (
        ("{one,two}/{train,test}/{a,b}/*1.png",),
        ("several sets side by side", "--layout classes: the classes are one, two"),
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_two_readings_are_an_error_that_shows_both(
    tmp_path: Path, home: Home, shell: Shell, case: str
) -> None:
    patterns, words = AMBIGUOUS[case]
    root = make_set(tmp_path / "set", *patterns)
    with pytest.raises(UsageError) as caught:
        read(root, home)
    assert all(word in str(caught.value) for word in words)
    assert "--layout" in str(caught.value)
    shell(*EXTRACT, root, code=2)
    assert words[0] in shell.error


def test_the_layout_option_chooses(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "train/{steam,diesel}/*3.png", "{car,bus}/*2.png")
    by_class = read(root, home, layout=Layout.CLASSES)
    assert counts(by_class) == {"bus": 2, "car": 2, "train": 6}
    by_split = read(root, home, layout=Layout.SPLITS)
    assert counts(by_split) == {"diesel": 3, "steam": 3}
    assert said(by_split, "left out: 4 images outside the class folders")
    assert counts(read(root, home, layout=Layout.FLAT)) == {"-": 10}
    masks = make_set(tmp_path / "masks", "{images,masks}/*3.png")
    assert counts(read(masks, home, layout=Layout.CLASSES)) == {"images": 3, "masks": 3}
    assert counts(read(make_set(tmp_path / "t", "train/{a,b}/*2.png"), home, layout=Layout.CLASSES)) == {
        "train": 4
    }
    again = reopen(by_class.origin, home)
    assert again.ids.tolist() == by_class.ids.tolist()
    assert again.classes == by_class.classes


def test_the_layout_option_belongs_to_folders(tmp_path: Path, home: Home, shell: Shell) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*3.png")
    with pytest.raises(UsageError, match="no folder is named after a split"):
        read(root, home, layout=Layout.SPLITS)
    (tmp_path / "labels.csv").write_text("path,label\na/0.png,x\n")
    with pytest.raises(UsageError, match="exclude each other"):
        read(root, home, layout=Layout.FLAT, labels=tmp_path / "labels.csv")
    shell("data", "check", "fashion-sample", "--layout", "flat", code=2)
    assert "--layout says how a folder of images is read, and fashion-sample is none" in shell.error
    shell(*EXTRACT, "fashion-sample", "--follow-links", code=2)
    for command in ("extract", "finetune", "baseline run", "sweep", "data check"):
        assert "--layout" in shell(*command.split(), "--help")


def test_splits_with_different_classes_say_so(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "train/{a,b}/*4.png", "valid/{a,b}/*2.png", "test/{a,b,c}/*2.png")
    dataset = read(root, home)
    assert dataset.classes == ("a", "b", "c")
    assert said(dataset, "the splits have different classes: c only in test, not in train and val")
    assert said(dataset, "splits: valid is read as val")


def test_what_lies_beside_is_left_out_and_said(tmp_path: Path, home: Home) -> None:
    root = make_set(
        tmp_path / "set", "{train,test}/{a,b}/*3.png", "train/loose.png", "top.png", "docs/fig.png"
    )
    (root / "val").mkdir()
    (root / "train" / "c").mkdir()
    dataset = read(root, home)
    assert len(dataset) == 12
    assert said(dataset, "left out: 3 images outside the class folders of the splits")
    assert said(dataset, "no images in the folder of a split: val")
    assert said(dataset, "1 folder without images, not counted as classes: c")
    beside = read(make_set(tmp_path / "wrapped", "data/{a,b}/*3.png", "preview.png"), home)
    assert said(beside, "left out: 1 image lying beside the folder data")


def test_folders_that_are_the_same_in_every_class_are_said(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{fold1,fold2}/{cats,dogs}/*3.png")
    dataset = read(root, home)
    assert counts(dataset) == {"fold1": 6, "fold2": 6}
    assert said(dataset, "each of the class folders holds cats, dogs, which is not looked at")


def test_names_of_splits() -> None:
    assert split_folders(["Train", "valid", "TEST"]) == {"Train": "train", "valid": "val", "TEST": "test"}
    assert split_folders(["train station", "test tube", "plane"]) == {}
    assert split_folders(["seg_train", "seg_test", "seg_pred"]) == {
        "seg_train": "train",
        "seg_test": "test",
        "seg_pred": "",
    }
    assert split_folders(["trainImages", "test-data", "hold_out"]) == {
        "trainImages": "train",
        "test-data": "test",
        "hold_out": "test",
    }
    assert split_folders(["contest", "trainer", "restrained", "vale", "unlabelled"]) == {}
    assert split_folders(["train", "unlabeled"]) == {"train": "train", "unlabeled": ""}


def test_the_set_of_scenes_takes_a_layout(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "scenes", "train/{coast,forest}/*5.png", "{x,y}/*2.png")
    options = DatasetOptions(source=root, layout=Layout.SPLITS)
    assert open_dataset("scenes15", home, options).classes == ("coast", "forest")


def test_a_folder_without_images_is_an_error_under_every_layout(tmp_path: Path, home: Home) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    for layout in Layout:
        with pytest.raises(DataError, match="no images"):
            read(tmp_path / "set", home, layout=layout)
