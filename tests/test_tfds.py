"""``tfds:NAME`` with tensorflow-datasets itself, on small sets written here with builders of its kind."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.config import Home
from probe.datasets import DatasetOptions, open_dataset
from probe.errors import DataError, UsageError
from tests import archives
from tests.shell import Shell

BIRDS = ("wren", "auk", "great, grey owl")
EXTRACT = ("extract", "--backbone", "pixels", "--size", 8)


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 12, 1), dtype=np.uint8)


def photos(first: int, count: int, label: int | None = None) -> list[dict[str, Any]]:
    labels = [i % 3 if label is None else label for i in range(count)]
    return [{"image": io.BytesIO(archives.jpeg(first + i)), "label": labels[i]} for i in range(count)]


def prepare(
    folder: Path,
    title: str,
    features: dict[str, Any],
    rows: dict[str, list[dict[str, Any]]],
    keys: tuple[str, str] | None = ("image", "label"),
    version: str = "1.2.0",
    configs: tuple[str, ...] = (),
) -> None:
    """Write a data set into `folder` as any user of the package does: with a builder of its own."""
    import tensorflow_datasets as tfds

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name, version=version) for name in configs)
        name = title

        def _info(self) -> Any:
            dictionary = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=dictionary, supervised_keys=keys)

        def _split_generators(self, manager: Any) -> dict[str, Any]:
            return {split: enumerate(examples) for split, examples in rows.items()}

        def _generate_examples(self) -> None:
            """Nothing: the splits carry their rows."""

    Small(data_dir=str(folder), config=configs[0] if configs else None).download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    importlib.import_module("probe.tensorflow_setup")  # quiet, and before the package imports TensorFlow
    from tensorflow_datasets import features as f

    folder = tmp_path_factory.mktemp("tfds")
    birds = {"image": f.Image(), "label": f.ClassLabel(names=BIRDS)}
    rows = {
        "train": photos(0, 30),
        "validation": photos(30, 6),
        "test": photos(40, 12) + photos(60, 2, -1),
        "extra": photos(70, 4),
    }
    prepare(folder, "tiny_birds", birds, rows)
    prepare(folder, "halves", birds, {"left": photos(0, 3), "right": photos(3, 3)})
    glyphs = {"kind": f.ClassLabel(num_classes=2), "glyph": f.Image(shape=(None, None, 1)), "at": np.int64}
    full = [{"kind": i % 2, "glyph": grey(i), "at": i} for i in range(20)]
    prepare(folder, "grey_digits", glyphs, {"full": full}, None, "2.0.0", ("small", "wide"))
    arrays = birds | {"image": f.Tensor(shape=(9, 12, 3), dtype=np.uint8)}
    colours = [{"image": grey(i).repeat(3, 2), "label": i % 3} for i in range(9)]
    prepare(folder, "plain_arrays", arrays, {"train": colours})
    texts = {"text": f.Text(), "label": f.ClassLabel(names=["good", "bad"])}
    prepare(folder, "sentences", texts, {"train": [{"text": "words", "label": 1}]}, ("text", "label"))
    captions = {"image": f.Image(), "text": f.Text()}
    told = [{"image": grey(0).repeat(3, 2), "text": "words"}]
    prepare(folder, "captions", captions, {"train": told}, ("image", "text"))
    depths = birds | {"image": f.Image(shape=(9, 12, 1), dtype=np.float32)}
    prepare(folder, "depths", depths, {"train": [{"image": grey(0).astype(np.float32), "label": 0}]})
    return folder


@pytest.fixture(autouse=True)
def data_dir(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))


def content(dataset: Any) -> list[bytes]:
    return [dataset.source.read(row) for row in range(len(dataset))]


def test_a_prepared_set_is_checked_extracted_and_fitted(shell: Shell) -> None:
    checked = shell.json("data", "check", "tfds:tiny_birds")
    assert checked["parts"] == {"train": 30, "val": 6, "test": 14}
    assert checked["notes"] == [
        "2 images without a label in labels.csv",
        "left out: 4 images of the split extra",
    ]
    assert checked["facts"] == {"tfds": "tiny_birds/1.2.0", "publisher_split": "test, train, validation"}
    made = shell.json(*EXTRACT, "tfds:tiny_birds")
    assert (made["rows"], made["unreadable"]) == (50, 0)
    assert shell.json(*EXTRACT, "tfds:tiny_birds")["reused"]
    result = shell.json("fit", "logreg", "--c", 1)
    assert (result["test"]["n"], result["dataset_facts"]["tfds"]) == (12, "tiny_birds/1.2.0")


def test_every_row_has_its_own_bytes_label_and_split(home: Home) -> None:
    dataset = open_dataset("tfds:tiny_birds", home)
    assert dataset.classes == BIRDS
    found = {
        (raw, int(label), str(split))
        for raw, label, split in zip(content(dataset), dataset.labels, dataset.splits, strict=True)
    }
    parts = (("train", 0, 30), ("val", 30, 6), ("test", 40, 12))
    expected = {(archives.jpeg(first + i), i % 3, part) for part, first, count in parts for i in range(count)}
    assert found == expected | {(archives.jpeg(60 + i), -1, "test") for i in range(2)}


def test_other_keys_one_split_and_grey_pictures(home: Home, shell: Shell) -> None:
    dataset = open_dataset("tfds:grey_digits/small:2.0.0", home)
    assert dataset.name == "tfds-grey_digits-small-2.0.0"
    assert dataset.classes == ("0", "1")
    assert Counter(dataset.splits.tolist()) == {"train": 14, "val": 2, "test": 4}
    pictures = {np.asarray(Image.open(io.BytesIO(raw))).tobytes(): label for raw, label in read(dataset)}
    assert pictures == {grey(i).tobytes(): i % 2 for i in range(20)}
    assert shell.json(*EXTRACT, "tfds:grey_digits/small:2.0.0")["rows"] == 20
    assert shell.json("fit", "centroid")["test"]["n"] == 4


def read(dataset: Any) -> Iterator[tuple[bytes, int]]:
    return zip(content(dataset), dataset.labels.tolist(), strict=True)


def test_arrays_of_pixels_become_files_that_lose_nothing(home: Home) -> None:
    dataset = open_dataset("tfds:plain_arrays", home)
    pictures = {np.asarray(Image.open(io.BytesIO(raw))).tobytes(): label for raw, label in read(dataset)}
    assert pictures == {grey(i).repeat(3, 2).tobytes(): i % 3 for i in range(9)}


def test_an_export_is_read_without_the_package(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_dataset("tfds:tiny_birds", home)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert open_dataset("tfds:tiny_birds", home).hashes.tolist() == first.hashes.tolist()


def test_a_set_that_is_prepared_anew_is_exported_anew(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets import features as f

    birds = {"image": f.Image(), "label": f.ClassLabel(names=BIRDS)}
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    for version, count in (("1.0.0", 9), ("1.10.0", 12)):
        prepare(tmp_path / "data", "tiny_birds", birds, {"train": photos(0, count)}, version=version)
        dataset = open_dataset("tfds:tiny_birds", home)
        assert (len(dataset), dataset.facts["tfds"]) == (count, f"tiny_birds/{version}")
    assert len(open_dataset("tfds:tiny_birds:1.0.0", home)) == 9


def test_prepared_files_that_are_damaged_are_told(
    home: Home, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "tiny_birds"
    shutil.copytree(prepared / "tiny_birds", folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    (record,) = folder.glob("1.2.0/*-train.tfrecord*")
    record.write_bytes(record.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset("tfds:tiny_birds", home)
    assert list(home.datasets.iterdir()) == []
    (folder / "1.2.0" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be opened"):
        open_dataset("tfds:tiny_birds", home)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("sentences", DataError, "label: ClassLabel, text: Text"),
        ("captions", DataError, "not a set of images with one class each"),
        ("depths", DataError, "one Image (uint8 or uint16) and one ClassLabel"),
        ("halves", DataError, "left, right"),
        ("mnist", DataError, "is not prepared on this machine"),
        ("grey_digits/wide", UsageError, "grey_digits/small:2.0.0"),
        ("grey_digits/narrow", UsageError, "grey_digits/small:2.0.0"),
        ("huggingface:mnist", UsageError, "NAME/CONFIG:VERSION"),
        ("tiny_birds:9.9.9", UsageError, "tiny_birds:1.2.0"),
        ("mnist:9.9.9", UsageError, "knows no set called 'mnist:9.9.9'"),
        ("tiny_brids", UsageError, "TFDS_DATA_DIR"),
        ("../up", UsageError, "NAME/CONFIG:VERSION"),
        ("", UsageError, "NAME/CONFIG:VERSION"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, error: type[Exception], said: str, home: Home) -> None:
    with pytest.raises(error) as caught:
        open_dataset(f"tfds:{name}", home)
    assert said in str(caught.value)
    assert not list(home.datasets.glob("*")) if home.datasets.exists() else True


def test_errors_leave_standard_output_to_results(shell: Shell) -> None:
    assert shell(*EXTRACT, "tfds:mnist", "--json", code=1) == ""
    assert "tfds build mnist" in shell.error


def test_labels_of_ones_own_are_not_for_a_set_that_has_them(home: Home) -> None:
    for options in (DatasetOptions(labels=Path("x.csv")), DatasetOptions(source=Path("x"))):
        with pytest.raises(UsageError):
            open_dataset("tfds:tiny_birds", home, options)


def test_without_the_package_its_extra_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'probe\[tfds\]'") as caught:
        open_dataset("tfds:tiny_birds", home)
    assert "tfds:tiny_birds" in str(caught.value)


def test_names_that_shorten_to_the_same_are_kept_apart(home: Home) -> None:
    open_dataset("tfds:tiny_birds", home)
    open_dataset("tfds:tiny_birds:1.2.0", home)
    folders = sorted(folder.name for folder in home.datasets.iterdir())
    assert len(folders) == 2
    facts = [json.loads((home.datasets / folder / "facts.json").read_text()) for folder in folders]
    assert facts[0] == facts[1]
