"""What belongs to a home is never a picture or a class, wherever the home lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from probe.config import HOME_MARKER, Home
from probe.datasets import DatasetOptions, open_dataset
from probe.datasets.files import find_images
from probe.errors import UsageError
from tests.shell import PHOTOS, Shell

CLASSES = sorted(path.name for path in PHOTOS.iterdir() if path.is_dir())


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, len(path.name), 7)).save(path)


@pytest.fixture
def among(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in ``data``, which is the home as well."""
    shutil.copytree(PHOTOS, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    shell.home = Path("data")
    return tmp_path / "data"


def classes_of(shell: Shell, name: str) -> list[str]:
    found: list[str] = shell.json("stores", "show", name)["classes"]
    return found


def test_a_home_among_the_pictures_never_becomes_a_class(among: Path, shell: Shell) -> None:
    command = ("extract", "--backbone", "pixels", "--size", 4, "data")
    first = shell.json(*command)
    assert (among / HOME_MARKER).is_file()
    run = shell.json("fit", "majority")["run"]
    picture(among / "runs" / run / "curves.png")
    picture(among / "cache" / "some.png")
    second = shell.json(*command)
    assert second["store"] == first["store"]
    assert second["reused"]
    assert classes_of(shell, second["store"]) == CLASSES
    shell(*command)
    assert f"left out: cache/, runs/, stores/ of the home in {among}" in shell.error
    assert "hidden" not in shell.error
    notes = shell.json("data", "check", "data")["notes"]
    assert any("of the home in" in line for line in notes)
    predicted = shell("predict", "latest", "data")
    assert "curves.png" not in predicted
    assert "of the home in" in shell.error


@pytest.mark.parametrize(
    "sign",
    ["stores/x/MANIFEST.json", "stores/x/data.zarr/zarr.json", "runs/x/result.json", "cache/index/x.npz"],
)
def test_a_home_from_before_there_was_a_marker_is_known_by_its_structure(tmp_path: Path, sign: str) -> None:
    picture(tmp_path / "cats" / "1.png")
    picture(tmp_path / "runs" / "x" / "curves.png")
    (tmp_path / sign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / sign).write_text("{}")
    found = find_images(tmp_path)
    assert found.images == ["cats/1.png"]
    assert f"of the home in {tmp_path}" in found.notes()[0]


def test_a_home_in_a_picture_folder_or_in_a_class_is_left_out(tmp_path: Path, home: Home) -> None:
    for number, name in enumerate(("cats", "dogs")):
        for image in range(5):
            picture(tmp_path / "pets" / name / f"{image}.png", 10 * number + image)
    for inner in ("pets/data", "pets/cats/home"):
        Home(tmp_path / inner).mark()
        picture(tmp_path / inner / "runs" / "r" / "curves.png", 99)
        picture(tmp_path / inner / "datasets" / "set" / "a" / "1.png", 98)
    found = open_dataset(str(tmp_path / "pets"), home, DatasetOptions())
    assert found.classes == ("cats", "dogs")
    assert len(found) == 10
    said = [line for line in found.notes if "of the home in" in line]
    assert len(said) == 2
    assert not any("without images" in line for line in found.notes)


def test_classes_called_as_folders_of_a_home_stay_classes_elsewhere(tmp_path: Path, home: Home) -> None:
    for number, name in enumerate(("runs", "stores", "cache", "weights")):
        for image in range(4):
            picture(tmp_path / "things" / name / f"{image}.png", 10 * number + image)
    found = open_dataset(str(tmp_path / "things"), home, DatasetOptions())
    assert found.classes == ("cache", "runs", "stores", "weights")
    assert len(found) == 16


def test_a_class_that_the_home_would_need_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("cats", "runs"):
        picture(tmp_path / "data" / name / "1.png", len(name))
    with pytest.raises(UsageError, match="pictures in its folders runs") as caught:
        open_dataset(str(tmp_path / "data"), Home(tmp_path / "data"), DatasetOptions())
    assert "--home" in str(caught.value)
    assert not (tmp_path / "data" / HOME_MARKER).exists()


def test_a_label_file_cannot_bring_the_homes_files_in(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for image in range(6):
        picture(root / f"{image}.png", image)
    home = Home(root)
    home.mark()
    picture(root / "runs" / "r" / "curves.png", 50)
    lines = [f"{image}.png,{'ab'[image % 2]}" for image in range(6)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["path,label", *lines, "runs/r/curves.png,c"]))
    found = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert found.classes == ("a", "b")
    assert len(found) == 6
    assert "left out: 1 row of labels.csv that belong to the home" in found.notes


def test_an_unlabelled_folder_that_is_the_home_stays_unlabelled(tmp_path: Path) -> None:
    for image in range(3):
        picture(tmp_path / "data" / f"{image}.png", image)
    home = Home(tmp_path / "data")
    for _ in range(2):
        found = open_dataset(str(home.root), home, DatasetOptions())
        assert len(found) == 3
        assert found.classes == ()
        picture(home.runs / "r" / "curves.png", 9)


def test_a_link_does_not_bring_a_run_in_as_a_class(tmp_path: Path) -> None:
    picture(tmp_path / "cats" / "1.png")
    Home(tmp_path).mark()
    picture(tmp_path / "runs" / "r" / "curves.png")
    (tmp_path / "last").symlink_to(tmp_path / "runs" / "r")
    assert find_images(tmp_path).images == ["cats/1.png"]


def test_data_sets_that_were_fetched_into_a_home_open_by_their_own_folder(tmp_path: Path, home: Home) -> None:
    home.mark()
    for name in ("a", "b"):
        for image in range(3):
            picture(home.datasets / "mine" / name / f"{image}.png", image + 10 * (name == "b"))
    assert open_dataset(str(home.datasets / "mine"), home, DatasetOptions()).classes == ("a", "b")


def test_looking_at_a_home_writes_no_marker(shell: Shell) -> None:
    shell("stores", "ls")
    shell("runs", "ls")
    assert not shell.home.exists()


def test_a_marker_says_what_it_is(home: Home) -> None:
    home.mark()
    assert "probe" in (home.root / HOME_MARKER).read_text()
    assert [path.name for path in home.root.iterdir()] == [HOME_MARKER]
