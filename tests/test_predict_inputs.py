"""What `probe predict` takes: files, folders, lists and standard input, with the limits of extraction."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.cli import main
from probe.fit.predict import describe
from probe.stats.classification import log_loss
from probe.stats.paired import difference_interval
from tests.shell import PROJECT, Shell
from tests.test_layouts import make_set
from tests.test_links import link


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run on small pictures of two classes; the pictures lie in ``set`` beside it."""
    place = tmp_path_factory.mktemp("predict")
    root = make_set(place / "set", "{cats,dogs}/*10.png")
    for line in (f"extract --backbone pixels --size 4 {root}", "fit logreg --c 1"):
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(place / "home"), *line.split(), "--quiet"])
        assert stop.value.code == 0
    return place


@pytest.fixture
def predict(fitted: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(fitted / "home", capsys)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def feed(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))


def test_standard_input_and_lists_say_what_files_say(
    predict: Shell, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [fitted / "set" / name for name in ("cats/0.png", "dogs/3.png", "cats/2.png")]
    expected = rows(predict("predict", "latest", "--json", *files))
    assert [row["id"] for row in expected] == [str(path) for path in files]
    feed(monkeypatch, "\n".join(map(str, files)).encode() + b"\n\n")
    assert rows(predict("predict", "latest", "--json", "-")) == expected
    feed(monkeypatch, "\r\n".join(map(str, files)).encode())
    assert rows(predict("predict", "latest", "--json", "-")) == expected
    listed = fitted / "set" / "these.txt"
    listed.write_text("cats/0.png\ndogs/3.png\ncats/2.png\n", encoding="utf-8-sig")
    found = rows(predict("predict", "latest", "--json", listed))
    assert [row["id"] for row in found] == ["cats/0.png", "dogs/3.png", "cats/2.png"]
    assert [row["top5"] for row in found] == [row["top5"] for row in expected]
    monkeypatch.chdir(fitted / "set")
    feed(monkeypatch, b"cats/0.png\n./dogs/3.png\ncats/2.png")
    there = rows(predict("predict", "latest", "--json", "-", str(files[0])))
    assert [row["id"] for row in there] == ["cats/0.png", "./dogs/3.png", "cats/2.png", str(files[0])]
    assert [row["top5"] for row in there[:3]] == [row["top5"] for row in expected]


def test_names_in_a_list_that_nobody_has_are_rows_that_cannot_be_read(
    predict: Shell, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, f"/no/such.png\n{fitted / 'set'}\n{fitted / 'set/cats/1.png'}\n".encode())
    gone, folder, good = rows(predict("predict", "latest", "--json", "-", code=4))
    assert (gone["class"], gone["problem"]) == (None, "No such file or directory")
    assert folder["problem"] == "Is a directory"
    assert good["class"] in ("cats", "dogs")
    assert "/no/such.png: No such file" in predict.error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "standard input is empty"),
        (b"\n \n", "standard input is empty"),
        (b"a.png\0b.png\0", "standard input is not a list of files"),
    ],
)
def test_standard_input_that_is_no_list(
    predict: Shell, monkeypatch: pytest.MonkeyPatch, text: bytes, said: str
) -> None:
    feed(monkeypatch, text)
    predict("predict", "latest", "-", code=1)
    assert said in predict.error


def test_pipes_devices_and_huge_files_are_not_waited_for(
    predict: Shell, fitted: Path, tmp_path: Path
) -> None:
    pipe, huge = tmp_path / "pipe.png", tmp_path / "huge.png"
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(40 * 10**9)
    good = fitted / "set" / "cats" / "0.png"
    found = rows(predict("predict", "latest", "--json", pipe, "/dev/zero", huge, "/dev/null", good, code=4))
    assert [row["problem"] for row in found] == [
        "it is no regular file",
        "it is no regular file",
        "the file is larger than 256 MiB",
        "it is no regular file",
        None,
    ]
    # A list may name them, for prediction and for extraction, and is none of them itself.
    listed = tmp_path / "list.txt"
    listed.write_text(f"{pipe}\n/dev/zero\n{huge}\n{good}\n")
    assert [bool(row["problem"]) for row in rows(predict("predict", "latest", "--json", listed, code=4))] == [
        True,
        True,
        True,
        False,
    ]
    made = predict.json("extract", "--backbone", "pixels", "--size", 4, listed, code=4)
    assert (made["rows"], made["unreadable"]) == (4, 3)
    endless = tmp_path / "endless.txt"
    os.mkfifo(endless)
    predict("predict", "latest", endless, code=1)
    assert "cannot be read" in predict.error
    predict("extract", "--backbone", "pixels", endless, code=1)


def test_what_is_skipped_in_a_folder_is_said(predict: Shell, fitted: Path, tmp_path: Path) -> None:
    root = make_set(tmp_path / "new", "*2.png", "notes.txt", ".hidden.png", "sub/*1.png")
    os.mkfifo(root / "pipe.png")
    link(root / "gone.png", tmp_path / "nowhere.png")
    assert len(rows(predict("predict", "latest", "--json", root))) == 3
    for words in (
        "1 hidden file or folder",
        "1 file without an image suffix",
        "1 image name that is no regular file",
        "1 link leading out of the folder or nowhere",
    ):
        assert f"{root}: left out: {words}" in predict.error
    predict("predict", "latest", "--quiet", root)
    assert predict.error == ""


def test_linked_folders_are_followed_inside_and_refused_outside(
    predict: Shell, fitted: Path, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "new", "a/*2.png", ".pool/b/*2.png")
    link(root / "b", root / ".pool" / "b")
    link(root / "a" / "loop", root)
    found = rows(predict("predict", "latest", "--json", root))
    assert [Path(row["id"]).relative_to(root).as_posix() for row in found] == [
        "a/0.png",
        "a/1.png",
        "b/0.png",
        "b/1.png",
    ]
    link(root / "c", make_set(tmp_path / "apart", "*3.png"))
    predict("predict", "latest", root, code=1)
    assert "all images of c are behind links that lead out of the folder" in predict.error
    assert len(rows(predict("predict", "latest", "--json", "--follow-links", root))) == 7
    only = tmp_path / "only"
    link(only / "c", tmp_path / "apart")
    predict("predict", "latest", only, code=2)
    assert "--follow-links" in predict.error


def test_no_probability_loss_or_difference_is_a_negative_zero() -> None:
    found = describe("x", np.array([1.0000001, -1e-8, -0.0], np.float32), ("a", "b", "c"))
    assert str([value for _, value in found.top5]) == "[1.0, 0.0, 0.0]"
    assert str(log_loss(np.array([[1.0, 0.0]]), np.array([0]))) == "0.0"
    assert "-0.0" not in [str(end) for end in difference_interval(5, 0, 5)]


def test_an_ascii_console_takes_every_name(fitted: Path, tmp_path: Path) -> None:
    root = make_set(tmp_path / "bilder", "café.png")
    command = [sys.executable, "-m", "probe", "--home", str(fitted / "home"), "predict", "latest"]
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    named = str(root / "café.png").encode() + b"\n"
    done = subprocess.run(
        [*command, str(root), "-"], cwd=PROJECT, env=plain, input=named, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader(io.StringIO(done.stdout.decode("ascii"))))
    assert len(table) == 2
    assert table[0]["id"].endswith("caf\\xe9.png")
