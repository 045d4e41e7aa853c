"""What commands say is true, names what it is about and leaves out what says nothing."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import PHOTOS, PROJECT, Shell


@pytest.fixture
def here(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two classes of pictures, and their store."""
    monkeypatch.chdir(tmp_path)
    for folder in sorted(path for path in PHOTOS.iterdir() if path.is_dir())[:2]:
        shutil.copytree(folder, tmp_path / "stamps" / folder.name)
    shell("extract", "--backbone", "pixels", "--size", 4, "stamps")
    return tmp_path


@pytest.mark.parametrize("what", ["stores", "runs"])
def test_a_question_that_nobody_answers_is_no_interruption(
    here: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    shell("fit", "centroid")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    shell(what, "rm", "latest", code=2)
    assert "probe: nothing was deleted: nobody answered\n  try:      --yes does not ask\n" in shell.error
    assert "interrupted" not in shell.error
    assert len(shell.json(what, "ls")) == 1


def test_an_interrupted_question_says_that_nothing_was_deleted(
    here: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(io.StringIO):
        def readline(self, *_: object) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    shell("stores", "rm", "latest", code=130)
    assert "nothing was deleted\n" in shell.error
    assert len(shell.json("stores", "ls")) == 1


def test_a_path_that_is_not_there_is_not_only_called_an_unknown_data_set(here: Path, shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "stmps", code=2)
    assert "there is no file or folder stmps, and no data set called 'stmps'" in shell.error
    assert "expected: a path, or one of fashion-sample, " in shell.error
    shell("extract", "--backbone", "pixels", "cub20", code=2)
    assert "did you mean 'cub200'?" in shell.error


def test_a_label_file_in_the_place_of_the_images_says_where_it_belongs(here: Path, shell: Shell) -> None:
    (here / "labels.csv").write_text("path,label\n")
    shell("extract", "--backbone", "pixels", "labels.csv", code=2)
    assert "labels belong to a folder of images: FOLDER --labels labels.csv" in shell.error


def test_a_split_that_keeps_groups_together_says_so(here: Path, shell: Shell) -> None:
    names = sorted(str(path.relative_to("stamps")) for path in Path("stamps").rglob("*.*") if path.is_file())
    lines = [f"{name},{Path(name).parent.name},g{row % 6}" for row, name in enumerate(names)]
    Path("labels.csv").write_text("\n".join(["path,label,group", *lines]))
    shell("data", "check", "stamps", "--labels", "labels.csv")
    told = shell("data", "check", "stamps", "--labels", "labels.csv")
    assert "by content, stratified, groups kept together, seed 0" in told
    assert "groups kept together" not in shell("data", "check", "stamps")


def test_missing_views_are_counted_as_they_are(here: Path, shell: Shell) -> None:
    shell("fit", "ridge", "stamps", "--views", 7, code=2)
    assert "does not have the augmented views of these images" in shell.error
    assert "expected: 7 views of each of " in shell.error
    assert "try:      extract with --views 7" in shell.error


def test_the_first_five_of_two_classes_are_no_figure(here: Path, shell: Shell) -> None:
    told = shell("fit", "centroid", "stamps")
    assert "top-5" not in told
    assert "\n          mean per class " in told
    assert shell.json("runs", "show")["test"]["top5"] == 1.0


def test_small_facts_are_told_right(here: Path, shell: Shell) -> None:
    assert ", 1 unit, " in shell("stores", "verify").replace("  ", ", ")
    listed = {line.split()[0]: line.split() for line in shell("data", "ls").splitlines()}
    assert listed["pathmnist-64"][3] == "?"
    assert listed["cub200"][3] == "680"
    shell("fit", "ridge", "stamps", "--memory", "1x", code=2)
    assert "--memory is not a size" in shell.error


def test_a_value_in_probe_toml_that_cannot_be_used_says_why(here: Path, shell: Shell) -> None:
    Path("probe.toml").write_text("[extract]\nsize = 0\n")
    shell("runs", "ls", code=2)
    assert "probe.toml: the value of size cannot be used: 0 is not in the range x>=1\n" in shell.error
    assert "expected" not in shell.error


def test_a_name_that_the_locale_cannot_spell_is_no_internal_error(here: Path) -> None:
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(PROJECT)}
    Path("labels.csv").write_text("path,label\né.png,a\n", encoding="utf-8")
    command = [sys.executable, "-m", "probe", "data", "check", "stamps", "--labels", "labels.csv"]
    done = subprocess.run(command, env=os.environ | odd, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"a file name cannot be spelt in ascii, the encoding of this locale" in done.stderr
    assert b"try:      set PYTHONUTF8=1" in done.stderr


def test_a_picture_with_many_copies_under_two_labels_is_named_by_one_of_each(
    here: Path, shell: Shell
) -> None:
    first, second = sorted(Path("stamps").iterdir())
    picture = sorted(first.iterdir())[0]
    for number in range(10):
        shutil.copy(picture, first / f"zz{number}{picture.suffix}")
    shutil.copy(picture, second / f"zz{picture.suffix}")
    told = shell("data", "check", "stamps")
    one = f"{first.name}/{picture.name} ({first.name})"
    other = f"{second.name}/zz{picture.suffix} ({second.name})"
    assert f"1 picture: {one} = {other} and 10 more\n" in told


def test_an_empty_path_is_not_the_folder_one_is_in(here: Path, shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "", code=2)
    assert "there is no file or folder ''" in shell.error
    shell("fit", "centroid", "stamps")
    shell("predict", "latest", "", code=2)
    assert "one of the paths is empty" in shell.error
