"""Every named data set through the command line, from what its publisher ships to a fitted head."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.datasets import DATASETS
from tests import archives
from tests.faulty_server import Server, running_server, serve
from tests.shell import Shell
from tests.test_catalog import CASES

KAGGLE = "dogs-vs-cats of Kaggle"
LARGE = {"pathmnist-128", "pathmnist-224", "dogs-vs-cats-2000"}


def declare(monkeypatch: pytest.MonkeyPatch, name: str, **facts: Any) -> None:
    monkeypatch.setitem(DATASETS.rows, name, replace(DATASETS[name], **facts))


def counted(row: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The counts a tiny fixture has, in the place of those declared for the real set."""
    parts = dict(found["parts"])
    if "val" not in row.splits:
        parts["train"] += parts.pop("val", 0)
    splits = {name: parts[name] for name in row.splits}
    return {"images": found["images"], "classes": found["classes"], "splits": splits}


@pytest.mark.parametrize("case", [*CASES, KAGGLE])
def test_a_named_set_is_checked_extracted_and_fitted(
    case: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = case.split()[0]
    if case == KAGGLE:
        source = archives.write_files(tmp_path / "kaggle", archives.kaggle_dogs(20)) / "train"
    else:
        source = CASES[name][0](tmp_path)
    # The fixture of the small dogs is as large as the real subset.
    exact = name == "dogs-vs-cats-2000"
    found = shell.json("data", "check", name, "--from", source, code=0 if exact else 3)
    whats = {entry["what"] for entry in found["differences"]}
    counts = {"images", "classes", *(f"images in {split}" for split in ("train", "val", "test"))}
    assert whats <= counts
    assert ("images" in whats) != exact
    declare(monkeypatch, name, **counted(DATASETS[name], found))
    assert shell("data", "check", name, "--from", source).startswith("ok")
    limit = ["--limit", 400] if name in LARGE else []
    extract = shell.json("extract", "--backbone", "pixels", "--size", 8, "--from", source, *limit, name)
    assert extract["rows"] == (min(found["images"], 400) if limit else found["images"])
    result = shell.json("fit", "logreg", "--c", 1)
    assert result["dataset"] == name
    assert result["test"]["n"] > 0
    assert result["dataset_facts"]["publisher_split"] == DATASETS[name].facts["publisher_split"]


DOGS = ("extract", "--backbone", "pixels", "--size", 8, "dogs-vs-cats", "--from")
BROKEN = ["PetImages/Cat/666.jpg", "PetImages/Dog/11702.jpg"]


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_files_that_are_broken_as_published_are_listed_and_no_surprise(
    shell: Shell, tmp_path: Path, content: bytes
) -> None:
    files = archives.dogs(20) | dict.fromkeys(BROKEN, content)
    source = archives.write_zip(tmp_path / "dogs.zip", files)
    made = shell.json(*DOGS, source)
    assert (made["rows"], made["unreadable"], made["broken"]) == (42, 2, BROKEN)
    assert "2 images as published: PetImages/Cat/666.jpg, PetImages/Dog/11702.jpg" in shell(*DOGS, source)
    assert "PetImages/Cat/666.jpg: " in shell("stores", "show")
    assert "broken as published" in shell("stores", "show")
    checked = shell.json("data", "check", "dogs-vs-cats", "--from", source, code=3)
    assert "files that cannot be read" not in {entry["what"] for entry in checked["differences"]}
    few = shell.json(*DOGS, source, "--limit", 20)
    assert few["rows"] == 20
    assert set(few["broken"]) <= set(BROKEN)


def test_a_file_that_is_known_to_be_broken_may_decode(shell: Shell, tmp_path: Path) -> None:
    files = archives.dogs(20) | {BROKEN[0]: archives.jpeg(7)}
    made = shell.json(*DOGS, archives.write_zip(tmp_path / "dogs.zip", files))
    assert (made["unreadable"], made["broken"]) == (1, BROKEN[1:])


def test_a_third_broken_file_is_a_surprise_also_when_the_store_is_reused(
    shell: Shell, tmp_path: Path
) -> None:
    files = archives.dogs(20) | {"PetImages/Dog/7.jpg": b""}
    source = archives.write_zip(tmp_path / "dogs.zip", files)
    made = shell.json(*DOGS, source, code=4)
    assert (made["unreadable"], made["broken"]) == (3, BROKEN)
    assert "1 image could not be read: probe stores show" in shell(*DOGS, source, code=4)
    assert "2 files broken as published: PetImages/Cat/666.jpg" in shell.error
    assert "1 file cannot be read" in shell.error
    checked = shell.json("data", "check", "dogs-vs-cats", "--from", source, code=3)
    (found,) = [entry for entry in checked["differences"] if entry["what"] == "files that cannot be read"]
    assert found["found"] == "PetImages/Dog/7.jpg"
    # The same pictures as a folder have no publisher: every unreadable file is a surprise there.
    unpacked = archives.write_files(tmp_path / "folder", archives.dogs(5)) / "PetImages"
    shell("extract", "--backbone", "pixels", "--size", 8, unpacked, code=4)


@pytest.mark.parametrize(("name", "year"), [("cub200", "2010"), ("cub200-2011", "2011")])
def test_the_year_of_the_birds_is_in_the_store(name: str, year: str, shell: Shell, tmp_path: Path) -> None:
    shell("extract", "--backbone", "pixels", "--size", 8, "--from", CASES[name][0](tmp_path), name)
    assert f"year: {year}" in shell("stores", "show")
    assert shell.json("fit", "centroid")["dataset_facts"]["year"] == year


def test_copies_across_splits_are_told_by_check_extract_and_every_result(
    shell: Shell, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    test = np.concatenate([pixels[:3], 255 - pixels[:9]])
    path = tmp_path / "set.npz"
    np.savez(path, train_images=pixels, train_labels=labels, test_images=test, test_labels=labels[:12])
    checked = shell("data", "check", path)
    assert "exact copies: " in checked
    extract = shell.json("extract", "--backbone", "pixels", "--size", 8, path)
    assert sum(extract["duplicates"].values()) == 3
    assert "exact copies" in shell.error
    assert "same picture" in shell("stores", "show")
    assert shell.json("fit", "logreg", "--c", 1)["duplicates"] == extract["duplicates"]
    assert "copies    the same picture 3 in both train and test" in shell("fit", "centroid")
    dropped = shell.json("extract", "--backbone", "pixels", "--size", 8, "--drop-duplicates", path)
    assert dropped["reused"]
    assert "train_test" not in shell.json("fit", "centroid")["duplicates"]


def test_pictures_that_are_replaced_with_size_and_mtime_kept_give_new_features(
    shell: Shell, tmp_path: Path
) -> None:
    pictures = {f"{kind}/{i}.bmp": bitmap(i) for kind in "ab" for i in range(4)}
    root = archives.write_files(tmp_path / "set", pictures)
    extract = ("extract", "--backbone", "pixels", "--size", 4, root)
    first = shell.json(*extract)
    changed = root / "a" / "0.bmp"
    stat = changed.stat()
    changed.write_bytes(bitmap(99))
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert changed.stat().st_size == stat.st_size
    second = shell.json(*extract)
    assert (second["reused"], second["key"] != first["key"]) == (False, True)
    again = shell.json(*extract, "--rehash")
    assert (again["reused"], again["key"]) == (True, second["key"])
    # What is asked for once is not remembered as part of the data set.
    assert shell.json("stores", "show", first["store"])["facts"]["origin"]["options"] == {}


def bitmap(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def test_one_picture_under_two_labels_is_told_by_check_extract_and_every_result(
    shell: Shell, tmp_path: Path
) -> None:
    pictures = {f"{kind}/{i}.bmp": bitmap(10 * ord(kind) + i) for kind in "abc" for i in range(5)}
    pictures |= {
        "b/9.bmp": pictures["a/0.bmp"],
        "c/9.bmp": pictures["b/1.bmp"],
        "c/8.bmp": pictures["b/1.bmp"],
    }
    # A copy inside one class is no contradiction.
    pictures["a/9.bmp"] = pictures["a/1.bmp"]
    root = archives.write_files(tmp_path / "set", pictures)
    expected = [["a/0.bmp", "b/9.bmp"], ["b/1.bmp", "c/8.bmp", "c/9.bmp"]]
    told = "the same picture under two labels: 2 pictures"
    note = f"{told}: a/0.bmp (a) = b/9.bmp (b); b/1.bmp (b) = c/8.bmp (c) = c/9.bmp (c)"
    assert note in shell("data", "check", root)
    extract = ("extract", "--backbone", "pixels", "--size", 4, root)
    assert shell.json(*extract)["label_conflicts"] == 2
    assert note in shell.error
    assert shell.json("stores", "show")["label_conflicts"] == expected
    assert f"labels     {told}" in shell("stores", "show")
    assert shell.json("fit", "centroid")["label_conflicts"] == 2
    assert f"labels    {told}" in shell("fit", "centroid")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("probe.internet.time.sleep", lambda _: None)
    with running_server() as server:
        yield server


@pytest.fixture
def birds(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """cub200-2011 with an archive of our own behind the address."""
    noise = {"noise": np.random.default_rng(0).bytes(400_000)}
    path = archives.write_tar(tmp_path / "CUB_200_2011.tgz", archives.cub_2011(8) | noise)
    row = serve(server, DATASETS["cub200-2011"], {path.name: path.read_bytes()})
    declare(monkeypatch, row.name, files=row.files)
    return row.name


def test_fetch_survives_three_broken_connections(shell: Shell, server: Server, birds: str) -> None:
    server.behave = ["cut", "reset", "cut"]
    found = shell.json("data", "fetch", birds)
    assert "fetching cub200-2011" in shell.error
    assert len(server.asked) == 4
    assert Path(found["path"]).is_dir()
    assert shell.json("data", "check", birds, code=3)["images"] == 24
    assert shell.json("data", "fetch", birds) == found
    assert len(server.asked) == 4


def test_extract_fetches_what_is_missing(shell: Shell, server: Server, birds: str) -> None:
    assert shell.json("extract", "--backbone", "pixels", "--size", 8, birds)["rows"] == 24
    assert "fetching cub200-2011, 0 MB" in shell.error


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("other", "is not the file that is known"),
        ("longer", "is not the file that is known"),
        ("page", "web page"),
        (404, "the server answered 404"),
        (503, "the server answered 503"),
    ],
)
def test_fetch_from_a_server_that_lies(
    shell: Shell, server: Server, birds: str, how: object, said: str
) -> None:
    server.behave = [how] * 12
    shell("data", "fetch", birds, code=1)
    assert said in shell.error
    assert "--from" in shell.error
    shell("extract", "--backbone", "pixels", birds, "--dry-run", code=1)
    server.behave = []
    shell("data", "fetch", birds)
    assert {place.name for place in (shell.home / "datasets").iterdir()} == {"cub200-2011"}


def test_fetch_of_a_file_that_stays_cut(
    shell: Shell, server: Server, birds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = DATASETS[birds].files
    whole = server.files[file.name]
    server.files[file.name] = whole[:-5000]
    shell("data", "fetch", birds, code=1)
    assert "is not the file that is known" in shell.error
    assert f"{len(whole):,} bytes" in shell.error
    declare(monkeypatch, birds, files=(replace(file, bytes=0),))
    shell("data", "fetch", birds, code=1)
    assert hashlib.sha256(whole).hexdigest() in shell.error
    assert not list((shell.home / "datasets").glob("[!.]*"))


def test_two_processes_do_not_fetch_the_same(shell: Shell, birds: str) -> None:
    from probe.scratch import hold

    datasets = shell.home / "datasets"
    datasets.mkdir(parents=True)
    with hold(datasets / ".fetching-cub200-2011.lock"):
        shell("data", "fetch", birds, code=1)
    assert "another process is fetching" in shell.error
    shell("data", "fetch", birds)


def test_fetch_of_what_has_no_address_or_no_name(shell: Shell) -> None:
    shell("data", "fetch", "scenes15", code=1)
    assert "--from PATH" in shell.error
    shell("data", "fetch", "cub2000", code=2)
    assert "did you mean 'cub200'" in shell.error


WRONG = [
    ("objects.npz", 1, "Python objects, which are never unpickled"),
    ("embeddings.npz", 1, "probe stores import"),
    ("embeddings.npy", 2, "probe stores import"),
    ("folders", 1, "2 folders without images"),
    ("photos --labels semicolon.csv", 1, "separate the columns by commas"),
    ("photos --labels utf16.csv", 1, "save it as UTF-8"),
    ("photos --labels columns.csv", 1, "file,class"),
    ("cifar10 --from embeddings.npy", 2, "no archive of cifar10"),
]


@pytest.mark.parametrize(("line", "code", "said"), WRONG, ids=[line for line, _, _ in WRONG])
def test_what_a_stranger_gets_wrong_is_answered(
    line: str, code: int, said: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("objects.npz", train_images=np.array([{}, 1]), train_labels=np.arange(2))
    np.savez("embeddings.npz", features=np.zeros((3, 4)), labels=np.arange(3))
    np.save("embeddings.npy", np.zeros((3, 4)))
    archives.write_files(tmp_path / "photos", {"a/1.jpg": archives.jpeg(0)})
    for name in ("a", "b"):
        (tmp_path / "folders" / name).mkdir(parents=True)
    Path("semicolon.csv").write_text("path;label\na/1.jpg;x\n")
    Path("utf16.csv").write_bytes("path,label\na/1.jpg,é\n".encode("utf-16"))
    Path("columns.csv").write_text("file,class\na/1.jpg,x\n")
    shell("extract", "--backbone", "pixels", *line.split(), code=code)
    assert said in shell.error


def test_images_without_a_label_are_said(shell: Shell, tmp_path: Path) -> None:
    root = archives.write_files(tmp_path / "photos", {f"{i}.jpg": archives.jpeg(i) for i in range(3)})
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n0.jpg,a\n1.jpg\n2.jpg,\n")
    shell("extract", "--backbone", "pixels", root, "--labels", labels)
    assert "2 images without a label in labels.csv" in shell.error
    assert "\n3 images, precision" in shell.error
