"""Links in folders of images: followed inside, counted once, and no class lost in silence."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from probe.config import Home
from probe.datasets import DatasetOptions, open_dataset
from probe.datasets.files import find_images
from probe.errors import DataError
from tests.shell import Shell
from tests.test_layouts import counts, make_set, read, said

EXTRACT = ("extract", "--backbone", "pixels", "--size", 4)


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def test_a_linked_folder_inside_the_set_is_a_class(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "dogs/*5.png", ".pool/cats/*5.png")
    link(root / "cats", root / ".pool" / "cats")
    dataset = read(root, home)
    assert counts(dataset) == {"cats": 5, "dogs": 5}
    assert dataset.ids[0] == "cats/0.png"
    assert dataset.hashes.all()


def test_linked_pictures_inside_the_set_are_read(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", ".objects/*6.png")
    for number in range(6):
        link(root / ("cats" if number < 3 else "dogs") / f"{number}.png", root / ".objects" / f"{number}.png")
    assert counts(read(root, home)) == {"cats": 3, "dogs": 3}


def test_a_linked_class_that_leads_out_is_an_error_unless_links_are_followed(
    tmp_path: Path, home: Home, shell: Shell
) -> None:
    root = make_set(tmp_path / "set", "dogs/*5.png")
    link(root / "cats", make_set(tmp_path / "apart", "*5.png"))
    with pytest.raises(DataError, match="all images of cats are behind links that lead out") as caught:
        read(root, home)
    assert "--follow-links" in str(caught.value)
    followed = read(root, home, follow_links=True)
    assert counts(followed) == {"cats": 5, "dogs": 5}
    shell(*EXTRACT, root, code=1)
    assert "all images of cats" in shell.error
    assert shell.json(*EXTRACT, "--follow-links", root)["class_names"] == ["cats", "dogs"]
    assert shell.json("data", "check", "--follow-links", root)["class_names"] == ["cats", "dogs"]
    shell("data", "check", root, code=1)


def test_a_class_whose_pictures_are_all_links_out_is_an_error(tmp_path: Path, home: Home) -> None:
    apart = make_set(tmp_path / "apart", "*3.png")
    root = make_set(tmp_path / "set", "{dogs,birds}/*3.png")
    for number in range(3):
        link(root / "cats" / f"{number}.png", apart / f"{number}.png")
    with pytest.raises(DataError, match="all images of cats"):
        read(root, home)
    assert counts(read(root, home, follow_links=True)) == {"birds": 3, "cats": 3, "dogs": 3}
    # With one picture of its own the class stays, and what is left out is said.
    make_set(root, "cats/own.png")
    dataset = read(root, home)
    assert counts(dataset)["cats"] == 1
    assert said(dataset, "3 links leading out of the folder or nowhere")


def test_a_split_or_a_class_of_a_split_that_leads_out_is_an_error(tmp_path: Path, home: Home) -> None:
    apart = make_set(tmp_path / "apart", "{a,b}/*4.png")
    root = make_set(tmp_path / "set", "train/{a,b}/*4.png")
    link(root / "test", apart)
    with pytest.raises(DataError, match="all images of test/a, test/b"):
        read(root, home)
    assert Counter(read(root, home, follow_links=True).splits.tolist())["test"] == 8
    (root / "test").unlink()
    make_set(root, "test/a/*4.png")
    link(root / "test" / "b", apart / "b")
    with pytest.raises(DataError, match="all images of test/b"):
        read(root, home)
    (root / "test" / "b").unlink()
    (root / "train" / "a").rename(tmp_path / "moved")
    link(root / "train" / "a", tmp_path / "moved")
    with pytest.raises(DataError, match="all images of train/a"):
        read(root, home)


def test_everything_behind_links_is_an_error_that_names_the_option(tmp_path: Path, home: Home) -> None:
    apart = make_set(tmp_path / "apart", "{a,b}/*2.png")
    for name in ("a", "b"):
        link(tmp_path / "set" / name, apart / name)
    with pytest.raises(DataError, match="no images") as caught:
        read(tmp_path / "set", home)
    assert "--follow-links" in str(caught.value)
    assert counts(read(tmp_path / "set", home, follow_links=True)) == {"a": 2, "b": 2}


def test_a_link_to_what_holds_no_picture_is_no_lost_class(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*2.png")
    link(root / "notes", make_set(tmp_path / "notes", "one.txt"))
    dataset = read(root, home)
    assert dataset.classes == ("a", "b")
    assert said(dataset, "1 link leading out")


def test_a_picture_reached_twice_counts_once_or_is_said(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*2.png")
    link(root / "latest", root / "a")
    link(root / "a" / "again.png", root / "b" / "0.png")
    dataset = read(root, home)
    assert counts(dataset) == {"a": 3, "b": 2}
    assert said(dataset, "1 link to a folder that is read anyway: latest")
    assert said(dataset, "1 image reached twice, by a link")


def test_links_never_run_in_circles(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*2.png", ".pool/x/*2.png")
    link(root / "a" / "up", root)
    link(root / "b" / "a", root / "a")
    link(root / "a" / "self", root / "a" / "self")
    link(root / ".pool" / "x" / "back", root / ".pool")
    link(root / "c", root / ".pool" / "x")
    link(root / "out", tmp_path)
    found = find_images(root)
    assert found.images == [f"{name}/{number}.png" for name in "abc" for number in (0, 1)]
    # The pool is entered through c/back, but x in it is not read a second time.
    assert found.again == ["a/up", "b/a", "c/back/x", "out"]
    followed = find_images(root, follow_links=True)
    assert followed.images == found.images


def test_many_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", "{a,b,c,d,e,f,g,h,i,j}/*1.png")
    for one in "abcdefghij":
        for other in "abcdefghij":
            if one != other:
                link(root / one / other, root / other)
    assert len(find_images(root).images) == 10
    outside = make_set(tmp_path / "apart", "{a,b,c,d,e,f,g,h,i,j}/*1.png")
    for one in "abcdefghij":
        for other in "abcdefghij":
            if one != other:
                link(outside / one / other, outside / other)
        link(tmp_path / "linked" / one, outside / one)
    assert len(find_images(tmp_path / "linked", follow_links=True).images) == 10


def test_a_split_may_be_made_of_links_to_a_pool_in_the_set(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "all/{a,b,c,d}/*3.png")
    for split, names in (("train", "ab"), ("test", "ab")):
        for name in names:
            link(root / split / name, root / "all" / {"train": name, "test": "cd"["ab".index(name)]}[split])
    dataset = read(root, home)
    assert dataset.classes == ("a", "b")
    assert Counter(dataset.splits.tolist())["test"] == 6
    assert all(name.startswith(("train/", "test/")) for name in dataset.ids.tolist())


def test_broken_links_to_folders_and_to_all_pictures_of_a_class(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*2.png")
    link(root / "a" / "gone.png", tmp_path / "nowhere.png")
    assert said(read(root, home), "1 link leading out of the folder or nowhere")
    link(root / "c", tmp_path / "nowhere")
    with pytest.raises(DataError, match="all images of c are behind links that lead nowhere"):
        read(root, home)
    with pytest.raises(DataError, match="all images of c are behind links that lead nowhere"):
        read(root, home, follow_links=True)
    (root / "c").unlink()
    link(root / "c" / "1.png", tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="all images of c"):
        read(root, home)


def test_links_to_what_is_no_file_are_left_out(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "{a,b}/*2.png")
    os.mkfifo(root / "a" / "pipe.png")
    link(root / "a" / "zero.png", Path("/dev/zero"))
    link(root / "b" / "pipe.png", root / "a" / "pipe.png")
    dataset = read(root, home, follow_links=True)
    assert counts(dataset) == {"a": 2, "b": 2}
    assert said(dataset, "1 image name that is no regular file")
    assert said(dataset, "2 links leading out of the folder or nowhere")


def test_a_label_file_may_name_links(tmp_path: Path, home: Home) -> None:
    root = make_set(tmp_path / "set", "a/*3.png")
    link(root / "b", root / "a")
    link(root / "out", make_set(tmp_path / "apart", "*3.png"))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na/0.png,x\nb/1.png,y\na/2.png,y\n")
    inside = read(root, home, labels=labels)
    assert inside.ids.tolist() == ["a/0.png", "a/2.png", "b/1.png"]
    assert not said(inside, "not found")
    assert inside.hashes.all()
    labels.write_text("path,label\na/0.png,x\nout/1.png,y\n")
    with pytest.raises(DataError, match="all images of y"):
        read(root, home, labels=labels)
    assert read(root, home, labels=labels, follow_links=True).ids.tolist() == ["a/0.png", "out/1.png"]


def test_named_sets_are_found_through_links_as_before(tmp_path: Path, home: Home) -> None:
    kept = make_set(tmp_path / "store" / "PetImages", "{Cat,Dog}/*2.png")
    for path in sorted(kept.rglob("*.png")):
        path.rename(path.with_suffix(".jpg"))
    link(tmp_path / "dogs", tmp_path / "store")
    assert len(open_dataset("dogs-vs-cats", home, DatasetOptions(source=tmp_path / "dogs"))) == 4
