"""Every form of DATASET a user can name, from real small files."""

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.unzip import open_arrays
from probe.errors import DataError, UnknownNameError, UsageError
from probe.hashing import content_hash

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
SHIPPED = Path(__file__).parents[1] / "probe" / "datasets" / "samples"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def write_image(path, seed=0, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_tree(root, names):
    for seed, name in enumerate(names):
        write_image(root / name, seed)
    return root


def write_npz(path, counts, shape=(6, 6, 3), classes=3, **extra):
    arrays = {}
    for seed, (split, count) in enumerate(counts.items()):
        rng = np.random.default_rng(seed)
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % classes)[:, None].astype(np.uint8)
    np.savez_compressed(path, **(arrays | extra))
    return path


def split_counts(dataset):
    return dict(Counter(dataset.splits.tolist()))


def said(dataset, words):
    return any(words in note for note in dataset.notes)


# ------------------------------------------------------------------------------------------- class folders


def test_folder_per_class(tmp_path, home):
    root = write_tree(tmp_path / "Pets 2", [f"{c}/{i}.png" for c in ("dog", "cat") for i in range(10)])
    dataset = open_dataset(str(root), home)
    assert dataset.name == "pets-2"
    assert dataset.classes == ("cat", "dog")
    assert dataset.ids.tolist() == sorted(dataset.ids.tolist())
    assert dataset.ids[0] == "cat/0.png"
    assert [dataset.classes[label] for label in dataset.labels] == [i.split("/")[0] for i in dataset.ids]
    assert split_counts(dataset) == {"train": 14, "val": 2, "test": 4}
    for row, name in enumerate(dataset.ids):
        raw = (root / name).read_bytes()
        assert dataset.source.read(row) == raw
        assert dataset.hashes[row] == hashlib.sha256(raw).hexdigest()
    assert said(dataset, "70/10/20")


def test_folder_with_splits_inside(tmp_path, home):
    names = [f"{s}/{c}/{i}.png" for s in ("train", "valid", "test") for c in ("a", "b") for i in range(3)]
    dataset = open_dataset(str(write_tree(tmp_path / "set", names)), home)
    assert dataset.classes == ("a", "b")
    assert split_counts(dataset) == {"train": 6, "val": 6, "test": 6}
    assert not said(dataset, "taken from train")


def test_validation_is_carved_where_it_is_missing(tmp_path, home):
    names = [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in ("a", "b") for i in range(20)]
    dataset = open_dataset(str(write_tree(tmp_path / "set", names)), home)
    assert split_counts(dataset) == {"train": 36, "val": 4, "test": 40}
    assert said(dataset, "taken from train")
    assert all(name.startswith("train/") for name in dataset.ids[dataset.splits == "val"])
    whole = open_dataset(str(tmp_path / "set"), home, DatasetOptions(validation=0.0))
    assert split_counts(whole) == {"train": 40, "test": 40}
    assert not said(whole, "taken from train")


def test_split_option_replaces_the_own_split(tmp_path, home):
    names = [f"{s}/a/{i}.png" for s in ("train", "test") for i in range(10)]
    dataset = open_dataset(
        str(write_tree(tmp_path / "set", names)), home, DatasetOptions(split=(0.5, 0.25, 0.25))
    )
    assert split_counts(dataset) == {"train": 10, "val": 5, "test": 5}
    assert said(dataset, "in place of")


def test_a_class_may_be_called_train(tmp_path, home):
    root = write_tree(tmp_path / "set", ["train/1.png", "plane/1.png", "test/1.png"])
    assert open_dataset(str(root), home).classes == ("plane", "test", "train")


def test_wrapping_folders_are_entered(tmp_path, home):
    root = write_tree(tmp_path / "x", ["15-Scene/data/00/1.png", "15-Scene/data/01/1.png"])
    dataset = open_dataset(str(root), home)
    assert (dataset.classes, dataset.name) == (("00", "01"), "data")
    assert said(dataset, "15-Scene/data")


def test_images_of_deeper_folders_belong_to_the_class(tmp_path, home):
    root = write_tree(tmp_path / "x", ["a/1.png", "a/deep/er/2.png", "b/1.png"])
    assert open_dataset(str(root), home).labels.tolist() == [0, 0, 1]


def test_what_is_left_out_is_counted_and_said(tmp_path, home):
    root = write_tree(
        tmp_path / "x",
        ["a/1.png", "b/2.png", ".hidden/3.png", "a/.4.png", "__MACOSX/a/5.png", "6.png"],
    )
    write_image(tmp_path / "elsewhere" / "7.png")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "empty").mkdir()
    (root / "a" / "out.png").symlink_to(tmp_path / "elsewhere" / "7.png")
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "self.png").symlink_to(root / "a" / "self.png")
    (root / "a" / "in.png").symlink_to(root / "b" / "2.png")
    (root / "c").symlink_to(root / "a", target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    dataset = open_dataset(str(root), home)
    assert dataset.ids.tolist() == ["a/1.png", "a/in.png", "b/2.png"]
    assert dataset.classes == ("a", "b")
    assert said(dataset, "3 hidden files or folders")
    assert said(dataset, "1 file without an image suffix")
    assert said(dataset, "3 links leading out of the folder or nowhere")
    assert said(dataset, "2 links to folders")
    assert said(dataset, "1 image lying beside the class folders")
    assert said(dataset, "not counted as classes: empty")


def test_classes_that_differ_only_in_case_are_kept_apart(tmp_path, home):
    dataset = open_dataset(str(write_tree(tmp_path / "x", ["Cat/1.png", "cat/1.png", "dog/1.png"])), home)
    assert dataset.classes == ("Cat", "cat", "dog")
    assert said(dataset, "differ only in case")


def test_exact_copies_across_splits_are_counted(tmp_path, home):
    root = write_tree(tmp_path / "x", [f"{s}/a/{i}.png" for s in ("train", "val", "test") for i in range(3)])
    write_image(root / "train/a/9.png", 0)
    write_image(root / "test/a/9.png", 0)
    dataset = open_dataset(str(root), home)
    assert said(dataset, "1 picture in both train and test")
    assert dataset.facts["copies_train_test"] == "1"
    dropped = open_dataset(str(root), home, DatasetOptions(drop_duplicates=True))
    assert len(dropped) == len(dataset)
    assert split_counts(dropped) == {"train": 2, "": 2, "val": 3, "test": 4}
    assert "copies_train_val" not in dropped.facts
    assert dropped.facts["dropped_from_train"] == "2"


def test_unreadable_files_keep_their_row(tmp_path, home):
    root = write_tree(tmp_path / "x", [f"a/{i}.png" for i in range(5)])
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na/0.png,one\na/none.png,two\na/1.png,two\n")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.ids.tolist() == ["a/0.png", "a/1.png", "a/none.png"]
    assert (dataset.hashes == "").tolist() == [False, False, True]
    assert said(dataset, "1 file cannot be read")


def test_an_unlabelled_folder(tmp_path, home):
    dataset = open_dataset(str(write_tree(tmp_path / "x", ["b.png", "a.png"])), home)
    assert dataset.ids.tolist() == ["a.png", "b.png"]
    assert dataset.labels.tolist() == [-1, -1]
    assert dataset.splits.tolist() == ["", ""]
    assert dataset.classes == ()


def test_folders_without_images(tmp_path, home):
    (tmp_path / "x" / "a").mkdir(parents=True)
    (tmp_path / "x" / "a" / "notes.md").write_text("none")
    with pytest.raises(DataError, match="no images") as caught:
        open_dataset(str(tmp_path / "x"), home)
    assert "1 file without an image suffix" in str(caught.value)


# ------------------------------------------------------------------------------------------------- labels


def test_labels_with_splits_and_groups(tmp_path, home):
    root = write_tree(tmp_path / "x", [f"{i:02}.png" for i in range(40)])
    lines = [f"{i:02}.png,{'10' if i % 2 else '9'},,patient{i // 4}" for i in range(40)]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label,split,group\n" + "\n".join(lines), encoding="utf-8-sig")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.classes == ("9", "10")
    assert set(split_counts(dataset)) == {"train", "val", "test"}
    for first in range(0, 40, 4):
        assert len(set(dataset.splits[first : first + 4].tolist())) == 1
    labels.write_text("path,label,split\n00.png,a,train\n01.png,,\n02.png,b,Validation\n03.png,b,test\n")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.splits.tolist() == ["train", "", "val", "test"]
    assert dataset.labels.tolist() == [0, -1, 1, 1]
    assert said(dataset, "36 images that labels.csv does not name")


def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(tmp_path, home):
    write_tree(tmp_path / "x", ["1.png", "2.png"])
    long = "y" * 5000 + ".png"
    (tmp_path / "l.csv").write_text(f"path,label\n1.png,a\n2.png,b\n{long},a\n")
    dataset = open_dataset(str(tmp_path / "x"), home, DatasetOptions(labels=tmp_path / "l.csv"))
    assert (dataset.hashes == "").tolist() == [False, False, True]
    (tmp_path / "l.txt").write_text(f"x/1.png\nx/2.png\n{long}\n")
    assert (open_dataset(str(tmp_path / "l.txt"), home).hashes == "").tolist() == [False, False, True]


def test_a_list_of_files(tmp_path, home):
    write_tree(tmp_path / "apart", ["z.png", "y.png"])
    write_tree(tmp_path, ["here.png"])
    listed = tmp_path / "these.txt"
    far = str(tmp_path / "apart" / "z.png")
    listed.write_text(f"here.png\n\napart/y.png\n{far}\nhere.png\n")
    dataset = open_dataset(str(listed), home)
    assert dataset.ids.tolist() == sorted(["here.png", "apart/y.png", far])
    assert said(dataset, "1 repeated line")
    assert dataset.hashes.all()
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\nhere.png,a\n{far},b\n")
    dataset = open_dataset(str(listed), home, DatasetOptions(labels=labels))
    by_id = dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True))
    assert by_id == {"here.png": 0, far: 1, "apart/y.png": -1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png,cat\n", "names of its columns"),
        ("", "names of its columns"),
        ("path,label\na.png,x\na.png,y\n", "twice"),
        ("path,label\n../a.png,x\n", "not inside"),
        ("path,label\n/etc/a.png,x\n", "not inside"),
        ("path,label,split\na.png,x,both\n", "not a split"),
        ("path,label\n,x\n", "no usable path"),
        ("path,label\na.png,x\n./a.png,x\n", "names a.png twice"),
        ('path,label\na.png,"cat\nb.png,dog\n', "cannot be read"),
        ('path,label\na.png,"cat\nb.png,"dog\n', "cannot be read"),
        ('path,label\na.png,"cat\nb.png,dog"\n', "line 3: a name goes over the end of the line"),
        ("path,label\na.png,ca\0t\n", "holds a NUL"),
        ("path,label\na\0.png,cat\n", "holds a NUL"),
        ("path,label\na.png,great, grey owl\n", "more columns than the first line"),
        ("path,label\nother.png,x\n", "no image of"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, home, text, words):
    root = write_tree(tmp_path / "x", ["a.png"])
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(str(root), home, DatasetOptions(labels=labels))


CAFE, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("on_disk", "in_file"), [(CAFE, DECOMPOSED), (DECOMPOSED, CAFE)])
def test_labels_find_files_whatever_their_paths_are_spelt_like(tmp_path, home, on_disk, in_file):
    root = write_tree(tmp_path / "x", [f"{on_disk}/{i}.png" for i in range(5)])
    spelt = [
        f"{in_file}/0.png",
        f"./{on_disk}/1.png",
        f"{on_disk}//2.png",
        f"{on_disk}\\3.png",
        f"{on_disk}/4.png",
    ]
    labels = tmp_path / "labels.csv"
    rows = [
        f"{path},{name}" for path, name in zip(spelt, [CAFE, DECOMPOSED, "bar", "bar", "bar"], strict=True)
    ]
    labels.write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.ids.tolist() == [f"{on_disk}/{i}.png" for i in range(5)]
    assert dataset.hashes.all()
    assert [dataset.classes[label] for label in dataset.labels] == [CAFE, CAFE, "bar", "bar", "bar"]
    assert said(dataset, "1 path in labels.csv with accents composed in another way")
    assert said(dataset, "2 paths in labels.csv written with ./ or doubled slashes")
    assert said(dataset, "1 path in labels.csv with backslashes, read as slashes")


def test_a_name_that_may_be_either_of_two_files_is_not_guessed(tmp_path, home):
    root = write_tree(tmp_path / "x", [f"{CAFE}.png", f"{DECOMPOSED}.png"])
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\n{CAFE}.png,a\n{DECOMPOSED}.png,b\n", encoding="utf-8")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True)) == {
        f"{CAFE}.png": 0,
        f"{DECOMPOSED}.png": 1,
    }
    labels.write_text(f"path,label\n.\\{CAFE}.png,a\n", encoding="utf-8")
    assert open_dataset(str(root), home, DatasetOptions(labels=labels)).ids.tolist() == [f"{CAFE}.png"]
    write_tree(root, ["e\u0323\u0302.png", "\u1eb9\u0302.png"])
    labels.write_text("path,label\n\u1ec7.png,a\n", encoding="utf-8")
    with pytest.raises(DataError, match="may be either of two files"):
        open_dataset(str(root), home, DatasetOptions(labels=labels))


def test_backslashes_that_lead_nowhere_or_out_are_told(tmp_path, home):
    root = write_tree(tmp_path / "x", ["a.png"])
    write_image(tmp_path / "b.png")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\nC:\\pics\\a.png,x\n")
    with pytest.raises(DataError, match="no image of") as caught:
        open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert "write paths with /" in str(caught.value)
    labels.write_text("path,label\na.png,x\n..\\b.png,x\n")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.hashes[dataset.ids == "..\\b.png"].tolist() == [""]


def test_a_list_and_its_labels_may_be_spelt_differently(tmp_path, home):
    write_tree(tmp_path, [f"{CAFE}/a.png", "b.png", "c/d.png"])
    listed = tmp_path / "these.txt"
    listed.write_text(f"./{DECOMPOSED}/a.png\n./b.png\nb.png\nc\\d.png\n", encoding="utf-8")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\n{CAFE}/a.png,x\n.//b.png,y\nc/d.png,x\n", encoding="utf-8")
    dataset = open_dataset(str(listed), home, DatasetOptions(labels=labels))
    assert dataset.ids.tolist() == ["b.png", "c/d.png", f"{CAFE}/a.png"]
    assert dataset.labels.tolist() == [1, 0, 0]
    assert dataset.hashes.all()
    assert said(dataset, "1 repeated line")


def test_labels_cannot_reach_outside_by_a_link(tmp_path, home):
    root = write_tree(tmp_path / "x", ["a.png"])
    write_image(tmp_path / "secret.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na.png,x\nout.png,x\n")
    dataset = open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert dataset.ids.tolist() == ["a.png"]
    assert said(dataset, "1 link leading out of the folder")
    labels.write_text("path,label\na.png,x\nout.png,y\n")
    with pytest.raises(DataError, match="all images of y") as caught:
        open_dataset(str(root), home, DatasetOptions(labels=labels))
    assert "--follow-links" in str(caught.value)
    followed = open_dataset(str(root), home, DatasetOptions(labels=labels, follow_links=True))
    assert followed.ids.tolist() == ["a.png", "out.png"]


# ---------------------------------------------------------------------------------------------------- npz


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1), (6, 6, 3)])
def test_npz_of_the_medmnist_layout(tmp_path, home, shape):
    path = write_npz(tmp_path / "set.npz", {"train": 9, "val": 3, "test": 6}, shape)
    dataset = open_dataset(str(path), home)
    assert dataset.classes == ("0", "1", "2")
    assert split_counts(dataset) == {"test": 6, "train": 9, "val": 3}
    assert dataset.ids[[0, 6]].tolist() == ["test/000000", "train/000000"]
    assert dataset.ids.tolist() == sorted(dataset.ids.tolist())
    with np.load(path) as arrays:
        row = dataset.ids.tolist().index("val/000002")
        np.testing.assert_array_equal(dataset.source.read(row), arrays["val_images"][2])
        assert dataset.hashes[row] == content_hash(arrays["val_images"][2])
        assert dataset.labels[row] == arrays["val_labels"][2, 0]


def test_large_npz_is_unpacked_once_and_mapped(tmp_path):
    path = write_npz(tmp_path / "set.npz", {"train": 9})
    small = open_arrays(path, tmp_path / "cache")
    large = open_arrays(path, tmp_path / "cache", in_memory=100)
    assert isinstance(large["train_images"], np.memmap)
    np.testing.assert_array_equal(large["train_images"], small["train_images"])
    unpacked = sorted((tmp_path / "cache").rglob("*"))
    open_arrays(path, tmp_path / "cache", in_memory=100)
    assert sorted((tmp_path / "cache").rglob("*")) == unpacked


def test_interrupted_unpacking_leaves_nothing_that_counts(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "set.npz", {"train": 9})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        open_arrays(path, tmp_path / "cache", in_memory=100)
    assert not [place for place in (tmp_path / "cache").rglob("*") if place.is_file()]
    monkeypatch.undo()
    assert len(open_arrays(path, tmp_path / "cache", in_memory=100)) == 2


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"train_images": np.zeros((3, 4, 4), np.float32)}, "not an array of images"),
        ({"train_images": np.zeros((3, 4, 4, 4), np.uint8)}, "not an array of images"),
        ({"train_labels": np.zeros((3, 5), np.uint8)}, "one whole number"),
        ({"train_labels": np.array([0, 1, -1])}, "no class"),
        ({"train_labels": np.array([{}, {}, {}], dtype=object)}, "cannot be read"),
    ],
)
def test_npz_that_is_something_else(tmp_path, home, extra, words):
    path = write_npz(tmp_path / "set.npz", {"train": 3}, **extra)
    with pytest.raises(DataError, match=words):
        open_dataset(str(path), home)


def test_files_called_npz_that_are_none(tmp_path, home):
    (tmp_path / "a.npz").write_bytes(b"words")
    np.savez(tmp_path / "b.npz", x=np.zeros(3))
    for name, words in (("a.npz", "cannot be read"), ("b.npz", "holds no images")):
        with pytest.raises(DataError, match=words):
            open_dataset(str(tmp_path / name), home)


# ------------------------------------------------------------------------------------------ names and table


def test_the_sample_is_the_declared_one(home):
    dataset = open_dataset("fashion-sample", home)
    row = DATASETS["fashion-sample"]
    assert split_counts(dataset) == dict(row.splits)
    assert len(dataset) == row.images
    assert dataset.classes == row.class_names
    for split, count in (("train", 200), ("val", 50), ("test", 100)):
        assert set(Counter(dataset.labels[dataset.splits == split].tolist()).values()) == {count}
    digest = hashlib.sha256((SHIPPED / "fashion-sample.npz").read_bytes()).hexdigest()
    assert digest in (SHIPPED / "README.md").read_text()


def test_the_photographs_are_a_class_folder(home):
    dataset = open_dataset(str(SAMPLES / "photos"), home)
    assert dataset.classes == ("animals", "people", "space", "things")
    assert len(dataset) == 10
    readme = (SAMPLES / "README.md").read_text()
    assert all(name.split("/")[1].split(".")[0] in readme for name in dataset.ids)


def test_the_sample_elsewhere_or_nowhere(tmp_path, home, monkeypatch):
    monkeypatch.setattr("probe.datasets.sample.SHIPPED", tmp_path)
    with pytest.raises(DataError, match="not on this machine") as caught:
        open_dataset("fashion-sample", home)
    assert "make_fashion_sample.py" in str(caught.value)
    source = SHIPPED / "fashion-sample.npz"
    assert len(open_dataset("fashion-sample", home, DatasetOptions(source=source))) == 3_500


def test_names_that_are_nothing(tmp_path, home):
    with pytest.raises(UnknownNameError, match="fashion-sampel") as caught:
        open_dataset("fashion-sampel", home)
    assert "fashion-sample" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no file or folder"):
        open_dataset("some/where", home)
    (tmp_path / "x.pdf").write_bytes(b"")
    with pytest.raises(UsageError, match="not a data set"):
        open_dataset(str(tmp_path / "x.pdf"), home)


def test_options_that_do_not_fit(tmp_path, home):
    root = str(write_tree(tmp_path / "x", ["a/1.png"]))
    with pytest.raises(UsageError, match="--from"):
        open_dataset(root, home, DatasetOptions(source=tmp_path))
    with pytest.raises(UsageError, match="labels of its own"):
        open_dataset("fashion-sample", home, DatasetOptions(labels=tmp_path / "l.csv"))
    with pytest.raises(UsageError, match="shares"):
        open_dataset(root, home, DatasetOptions(split=(0.0, 0.5, 0.5)))


def test_the_rooms_import_no_tensorflow_and_not_each_other():
    script = (
        "import sys, probe.datasets, probe.datasets.sample;"
        "assert not [m for m in sys.modules if m.startswith('probe.images')];"
        "import probe.images.reader;"
        "assert not {'tensorflow', 'keras', 'sklearn', 'click', 'zarr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
