"""Every registered name, from archives and folders of its publisher's layout."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.cli import cli
from probe.commands.transfer import TransferCommands
from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.check import check
from probe.datasets.place import is_here
from probe.errors import DataError, UsageError
from probe.registry import load_object
from probe.studies.baselines import BASELINES
from probe.studies.reproduce import Plan, verdicts_of
from tests import archives


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def cub_2010_folder(tmp):
    images, lists = archives.cub_2010()
    archives.write_tar(tmp / "two" / "lists.tgz", lists)
    archives.write_tar(tmp / "two" / "images.tgz", images)
    return tmp / "two"


def write_bytes(path, content):
    path.write_bytes(content)
    return path


def tar(tmp, name, files):
    return archives.write_tar(tmp / name, files)


def small_dogs(tmp):
    return archives.write_zip(tmp / "dogs.zip", archives.dogs(2001))


# name -> what --from is pointed at, classes, rows, split sizes after validation is carved
CASES = {
    "cub200": (cub_2010_folder, 3, 60, {"train": 27, "val": 3, "test": 30}),
    "cub200-2011": (
        lambda tmp: tar(tmp, "CUB_200_2011.tgz", archives.cub_2011()),
        3,
        60,
        {"train": 27, "val": 3, "test": 30},
    ),
    "pathmnist": (
        lambda tmp: write_bytes(tmp / "pathmnist.npz", archives.medmnist(28)),
        9,
        54,
        {"train": 27, "val": 9, "test": 18},
    ),
    "pathmnist-64": (
        lambda tmp: write_bytes(tmp / "mine.npz", archives.medmnist(64)),
        9,
        54,
        {"train": 27, "val": 9, "test": 18},
    ),
    "pathmnist-128": (
        lambda tmp: archives.write_files(tmp / "x", {"pathmnist_128.npz": archives.medmnist(128)}),
        9,
        54,
        {"train": 27, "val": 9, "test": 18},
    ),
    "pathmnist-224": (
        lambda tmp: write_bytes(tmp / "pathmnist_224.npz", archives.medmnist(224)),
        9,
        54,
        {"train": 27, "val": 9, "test": 18},
    ),
    "dogs-vs-cats": (
        lambda tmp: archives.write_zip(tmp / "kagglecatsanddogs_5340.zip", archives.dogs(20)),
        2,
        42,
        {"train": 28, "val": 4, "test": 8},
    ),
    "dogs-vs-cats-2000": (small_dogs, 2, 4000, {"train": 2000, "val": 1000, "test": 1000}),
    "cifar10": (
        lambda tmp: tar(tmp, "cifar-10-binary.tar.gz", archives.cifar10()),
        10,
        120,
        {"train": 90, "val": 10, "test": 20},
    ),
    "cifar100": (
        lambda tmp: tar(tmp, "cifar-100-binary.tar.gz", archives.cifar100(1000)),
        100,
        1100,
        {"train": 900, "val": 100, "test": 100},
    ),
    "cifar100-coarse": (
        lambda tmp: tar(tmp, "c.tar.gz", archives.cifar100()),
        20,
        300,
        {"train": 180, "val": 20, "test": 100},
    ),
    "cifar100-25": (
        lambda tmp: tar(tmp, "c.tar.gz", archives.cifar100(1000)),
        25,
        275,
        {"train": 225, "val": 25, "test": 25},
    ),
    "fashion-mnist": (
        lambda tmp: archives.write_files(tmp / "fashion", archives.fashion(100)),
        10,
        130,
        {"train": 90, "val": 10, "test": 30},
    ),
    "scenes15": (
        lambda tmp: archives.write_zip(tmp / "15-Scene.zip", archives.scenes(10)),
        15,
        150,
        {"train": 105, "val": 15, "test": 30},
    ),
}


def test_every_name_has_a_case():
    assert set(CASES) | {"fashion-sample"} == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_states_facts_that_agree(name):
    row = DATASETS[name]
    assert callable(load_object(row.loader))
    assert row.summary
    assert row.source
    assert not row.splits or sum(row.splits.values()) == row.images
    assert not row.class_names or len(row.class_names) == row.classes
    for file in row.files:
        assert file.url.startswith("https://")
        assert re.fullmatch(r"[0-9a-f]{64}|", file.sha256)
        assert re.fullmatch(r"[0-9a-f]{32}|", file.md5)
        assert file.sha256 or file.md5
        assert row.markers


@pytest.mark.parametrize("name", CASES)
def test_every_name_opens_from_what_its_publisher_ships(name, tmp_path, home):
    make, classes, count, splits = CASES[name]
    options = DatasetOptions(source=make(tmp_path))
    dataset = open_dataset(name, home, options)
    assert dataset.name == name
    assert len(dataset.classes) == classes
    assert len(dataset) == count
    counted = Counter(dataset.splits.tolist())
    counted.pop("", None)
    assert counted == splits
    assert dataset.ids.tolist() == sorted(dataset.ids.tolist())
    assert len(set(dataset.ids.tolist())) == count
    assert set(dataset.labels.tolist()) == set(range(classes))
    assert set(dataset.facts) >= {"publisher_split"}
    again = open_dataset(name, home, options)
    np.testing.assert_array_equal(again.hashes, dataset.hashes)
    np.testing.assert_array_equal(again.splits, dataset.splits)
    # The fixtures are smaller than the real sets, all but the small subset: check has to say so.
    whats = {difference.what for difference in check(DATASETS[name], dataset)}
    assert ("images" in whats) == (name != "dogs-vs-cats-2000")


def test_check_is_silent_about_the_sample_and_loud_about_a_changed_one(home):
    dataset = open_dataset("fashion-sample", home)
    row = DATASETS["fashion-sample"]
    assert check(row, dataset) == []
    fewer = dataset.take(np.flatnonzero(dataset.labels != 3))
    whats = {difference.what for difference in check(row, fewer)}
    assert whats == {"images", "images in train", "images in val", "images in test", "classes with images"}


def test_check_counts_carved_validation_as_train(tmp_path, home):
    source = archives.write_files(tmp_path / "x", archives.fashion(100))
    dataset = open_dataset("fashion-mnist", home, DatasetOptions(source=source))
    found = {d.what: d.found for d in check(DATASETS["fashion-mnist"], dataset)}
    assert found == {"images": "130", "images in train": "100", "images in test": "30"}


# ---------------------------------------------------------------------------------------------------- cub


def test_cub_years_are_told_apart(tmp_path, home):
    source = archives.write_tar(tmp_path / "a.tgz", archives.cub_2011())
    dataset = open_dataset("cub200-2011", home, DatasetOptions(source=source))
    assert dataset.facts["year"] == "2011"
    with pytest.raises(DataError, match="not laid out as expected") as caught:
        open_dataset("cub200", home, DatasetOptions(source=source))
    assert "known from other readers" in str(caught.value)


def test_cub_2011_uses_the_published_split_and_names(tmp_path, home):
    root = archives.write_files(tmp_path / "u", archives.cub_2011())
    dataset = open_dataset("cub200-2011", home, DatasetOptions(source=root))
    assert dataset.classes == archives.BIRDS
    assert dataset.ids[0] == "001.Black_footed_Albatross/Black_footed_Albatross_0000_0.jpg"
    odd = np.array([int(name[-8:-4].strip("_").split("_")[-1]) % 2 == 0 for name in dataset.ids])
    np.testing.assert_array_equal(dataset.splits != "test", odd)
    assert dataset.source.read(0) == archives.jpeg(0)


def test_cub_2010_leaves_apple_files_out_and_takes_one_archive_for_both(tmp_path, home):
    folder = cub_2010_folder(tmp_path)
    dataset = open_dataset("cub200", home, DatasetOptions(source=folder / "images.tgz"))
    assert len(dataset) == 60
    assert any("1 hidden file" in note for note in dataset.notes)
    assert dataset.facts["year"] == "2010"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("images.txt", "1 ../../../etc/passwd\n", "do not name the same images"),
        ("images.txt", None, "cannot be read"),
        ("image_class_labels.txt", "1\n", "line 1 of image_class_labels.txt is unusual"),
        ("image_class_labels.txt", "x y\n", "is unusual"),
        ("classes.txt", "1 a\n", "a class or a split is unknown"),
    ],
)
def test_cub_2011_that_is_not_as_declared(tmp_path, home, file, content, words):
    root = archives.write_files(tmp_path / "u", archives.cub_2011())
    path = root / "CUB_200_2011" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        open_dataset("cub200-2011", home, DatasetOptions(source=root))


def test_lists_cannot_reach_outside(tmp_path, home):
    images, lists = archives.cub_2010()
    lists["lists/test.txt"] += b"../../secret.jpg\n"
    root = archives.write_files(tmp_path / "u", images | lists)
    with pytest.raises(DataError, match=re.escape("'../../secret.jpg'")):
        open_dataset("cub200", home, DatasetOptions(source=root))


def test_listed_files_that_are_missing_keep_their_row(tmp_path, home):
    images, lists = archives.cub_2010()
    root = archives.write_files(tmp_path / "u", images | lists)
    next((root / "images" / archives.BIRDS[1]).glob("L*.jpg")).unlink()
    dataset = open_dataset("cub200", home, DatasetOptions(source=root))
    assert len(dataset) == 60
    assert (dataset.hashes == "").sum() == 1
    assert any("1 listed file not found" in note for note in dataset.notes)


# --------------------------------------------------------------------------------------------------- dogs


def test_dogs_of_kaggle_and_of_microsoft_are_divided_alike(tmp_path, home):
    flat = archives.write_files(tmp_path / "k", archives.kaggle_dogs(20))
    kaggle = open_dataset("dogs-vs-cats", home, DatasetOptions(source=flat))
    packed = archives.write_zip(tmp_path / "m.zip", archives.dogs(20))
    microsoft = open_dataset("dogs-vs-cats", home, DatasetOptions(source=packed))
    assert kaggle.classes == microsoft.classes == ("cat", "dog")
    assert kaggle.ids[0] == "train/cat.0.jpg"
    split_of = dict(zip(microsoft.hashes.tolist(), microsoft.splits.tolist(), strict=True))
    agree = [split_of[h] == s for h, s in zip(kaggle.hashes.tolist(), kaggle.splits.tolist(), strict=True)]
    assert len(agree) == 40
    assert all(agree)
    assert microsoft.ids[microsoft.splits == ""].tolist() == [
        "PetImages/Cat/666.jpg",
        "PetImages/Dog/11702.jpg",
    ]
    assert any("2 files broken as published" in note for note in microsoft.notes)


def test_dogs_have_a_pinned_split(tmp_path, home):
    files = {f"train/{kind}.{i}.jpg": f"{kind} {i}".encode() for kind in ("cat", "dog") for i in range(10)}
    source = archives.write_files(tmp_path / "k", files) / "train"
    dataset = open_dataset("dogs-vs-cats", home, DatasetOptions(source=source))
    assert dataset.ids[dataset.splits == "val"].tolist() == ["cat.8.jpg", "dog.3.jpg"]
    assert dataset.ids[dataset.splits == "test"].tolist() == [
        "cat.1.jpg",
        "cat.9.jpg",
        "dog.6.jpg",
        "dog.7.jpg",
    ]


def test_the_small_dogs_are_the_first_of_each_class(tmp_path, home):
    dataset = open_dataset("dogs-vs-cats-2000", home, DatasetOptions(source=small_dogs(tmp_path)))
    assert not (dataset.hashes == "").any()
    train = {name for name in dataset.ids[dataset.splits == "train"] if "Cat" in name}
    assert train == {f"PetImages/Cat/{i}.jpg" for i in range(1001) if i != 666}
    test = {name for name in dataset.ids[dataset.splits == "test"] if "Dog" in name}
    assert test == {f"PetImages/Dog/{i}.jpg" for i in range(1500, 2000)}


def test_too_few_dogs_for_the_subset(tmp_path, home):
    source = archives.write_zip(tmp_path / "d.zip", archives.dogs(20))
    with pytest.raises(DataError, match="too few images of a cat"):
        open_dataset("dogs-vs-cats-2000", home, DatasetOptions(source=source))


# ----------------------------------------------------------------------------------- cifar, idx, medmnist


def test_cifar_pixels_and_labels(tmp_path, home):
    files = archives.cifar10()
    dataset = open_dataset(
        "cifar10", home, DatasetOptions(source=archives.write_files(tmp_path / "c", files))
    )
    assert dataset.classes == archives.CIFAR10
    row = dataset.ids.tolist().index("train/000023")
    record = np.frombuffer(files["cifar-10-batches-bin/data_batch_2.bin"], np.uint8).reshape(-1, 3073)[3]
    pixels = dataset.source.read(row)
    assert pixels.shape == (32, 32, 3)
    np.testing.assert_array_equal(pixels[:, :, 1].ravel(), record[1 + 1024 : 1 + 2048])
    assert dataset.labels[row] == record[0] == 3


def test_cifar100_fine_coarse_and_the_first_25(tmp_path, home):
    options = DatasetOptions(source=archives.write_files(tmp_path / "c", archives.cifar100()))
    fine = open_dataset("cifar100", home, options)
    coarse = open_dataset("cifar100-coarse", home, options)
    part = open_dataset("cifar100-25", home, options)
    np.testing.assert_array_equal(fine.labels // 5, coarse.labels)
    assert fine.hashes.tolist() == coarse.hashes.tolist()
    assert part.classes == tuple(f"fine{n}" for n in range(25))
    where = {name: row for row, name in enumerate(fine.ids.tolist())}
    for row, name in enumerate(part.ids.tolist()):
        np.testing.assert_array_equal(part.source.read(row), fine.source.read(where[name]))
        assert part.hashes[row] == fine.hashes[where[name]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data_batch_3.bin", b"", "missing or cut"),
        ("data_batch_3.bin", b"x" * 3000, "missing or cut"),
        ("data_batch_3.bin", b"\x0b" + bytes(3072), "the label 11 is no class"),
        ("batches.meta.txt", b"cat\n", "has 1 names"),
    ],
)
def test_cifar_that_is_not_as_declared(tmp_path, home, name, content, words):
    files = archives.cifar10() | {f"cifar-10-batches-bin/{name}": content}
    source = archives.write_files(tmp_path / "c", files)
    with pytest.raises(DataError, match=words):
        open_dataset("cifar10", home, DatasetOptions(source=source))


def test_fashion_unpacked_or_under_the_other_spelling(tmp_path, home):
    import gzip

    files = archives.fashion()
    plain = {name[:-3].replace("-idx", ".idx"): gzip.decompress(raw) for name, raw in files.items()}
    one = open_dataset(
        "fashion-mnist", home, DatasetOptions(source=archives.write_files(tmp_path / "a", files))
    )
    two = open_dataset(
        "fashion-mnist", home, DatasetOptions(source=archives.write_files(tmp_path / "b", plain))
    )
    assert one.hashes.tolist() == two.hashes.tolist()


@pytest.mark.parametrize("cut", [0, 3, 12, 200, -30])
def test_fashion_that_is_cut(tmp_path, home, cut):
    files = archives.fashion()
    files["t10k-images-idx3-ubyte.gz"] = files["t10k-images-idx3-ubyte.gz"][:cut]
    with pytest.raises(DataError, match="t10k-images"):
        open_dataset(
            "fashion-mnist", home, DatasetOptions(source=archives.write_files(tmp_path / "a", files))
        )


def test_fashion_is_found_where_debian_puts_it_and_not_fetched(tmp_path, home, shell, monkeypatch):
    def fetch(*_):
        raise AssertionError("a set that is installed is fetched")

    folder = archives.write_files(tmp_path / "deb", archives.fashion())
    row = replace(DATASETS["fashion-mnist"], installed=str(folder))
    monkeypatch.setitem(DATASETS.rows, "fashion-mnist", row)
    monkeypatch.setattr("probe.workspace.data.fetch", fetch)
    assert len(open_dataset("fashion-mnist", home)) == 90
    (listed,) = [line for line in shell.json("data", "ls") if line["dataset"] == "fashion-mnist"]
    assert listed["here"]
    assert shell.json("extract", "--backbone", "pixels", "--size", "8", "fashion-mnist")["rows"] == 90
    plan = Plan(data={"cifar10": "fashion-mnist"}, limit=40)
    transfer = TransferCommands(cli, home, plan, "fp32", quiet=True)
    (verdict,) = verdicts_of(BASELINES["cifar10/exp12"], plan, home, transfer)
    assert "weights of vgg16" in verdict.why


def test_what_is_neither_fetched_nor_installed_is_not_here(tmp_path, home, monkeypatch):
    row = replace(DATASETS["fashion-mnist"], installed=str(tmp_path / "nowhere"))
    assert not is_here(row, home)
    (tmp_path / "nowhere").mkdir()
    assert not is_here(row, home)


def test_medmnist_of_another_size(tmp_path, home):
    path = write_bytes(tmp_path / "p.npz", archives.medmnist(64))
    with pytest.raises(DataError, match="another size"):
        open_dataset("pathmnist", home, DatasetOptions(source=path))


# ---------------------------------------------------------------------------------------- where files lie


def test_a_set_that_is_not_here_says_how_to_get_it(home):
    with pytest.raises(DataError, match="not on this machine") as caught:
        open_dataset("cub200-2011", home)
    assert "probe data fetch cub200-2011 (1,151 MB)" in str(caught.value)
    assert "--from" in str(caught.value)
    with pytest.raises(UsageError, match="nothing at"):
        open_dataset("cub200", home, DatasetOptions(source=Path("/no/where")))


def test_unpacked_files_go_before_the_archive_beside_them(tmp_path, home):
    folder = tmp_path / "lab"
    archives.write_files(folder, archives.cub_2011())
    (folder / "CUB_200_2011.tgz").write_bytes(b"not needed")
    assert len(open_dataset("cub200-2011", home, DatasetOptions(source=folder))) == 60
    assert not home.datasets.exists()


def test_archives_are_unpacked_once(tmp_path, home):
    source = archives.write_zip(tmp_path / "d.zip", archives.dogs())
    for _ in range(2):
        open_dataset("dogs-vs-cats", home, DatasetOptions(source=source))
    assert len(list((home.datasets / "from").iterdir())) == 1
