"""Sets that are tables of pictures, written by the libraries people write them with."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets as hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from click.testing import CliRunner
from PIL import Image

from probe.cli import cli
from probe.config import Home
from probe.datasets import Dataset, DatasetOptions, open_dataset
from probe.datasets.parquet import TableSource
from probe.errors import DataError, ProbeError, UsageError

NAMES = ("cat", "dog", "emu")
COUNT = 30


def picture(number: int) -> bytes:
    """A PNG whose brightness tells its class, `number` modulo 3."""
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 60, (6, 6, 3), dtype=np.uint8) + np.uint8(80 * (number % 3))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


PICTURES = [picture(number) for number in range(COUNT)]
LABELS = [number % 3 for number in range(COUNT)]


@pytest.fixture(autouse=True, scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package's cache in a folder of its own, and no look at the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
        patch.setattr(hub.config, "HF_HUB_OFFLINE", True)
        hub.disable_progress_bars()
        yield


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def hub_set(rows: list[int] | None = None) -> Any:
    rows = list(range(COUNT)) if rows is None else rows
    features = hub.Features(
        {"img": hub.Image(), "caption": hub.Value("string"), "kind": hub.ClassLabel(names=list(NAMES))}
    )
    return hub.Dataset.from_dict(
        {
            "img": [{"bytes": PICTURES[row], "path": None} for row in rows],
            "caption": ["words"] * len(rows),
            "kind": [LABELS[row] for row in rows],
        },
        features=features,
    )


def check_rows(found: Dataset) -> None:
    """Every row is the picture that was written, with its class."""
    assert len(found) == COUNT
    assert len(set(found.ids.tolist())) == COUNT
    assert found.classes == NAMES
    read = [found.source.read(row) for row in range(COUNT)]
    assert sorted(map(bytes, read)) == sorted(PICTURES)
    place = {raw: number for number, raw in enumerate(PICTURES)}
    assert found.labels.tolist() == [LABELS[place[bytes(raw)]] for raw in read]


def test_a_folder_saved_by_hugging_face(tmp_path: Path, home: Home) -> None:
    folder = tmp_path / "saved"
    parts = {
        "train": hub_set(list(range(18))),
        "validation": hub_set([18, 19, 20]),
        "test": hub_set(range(21, 30)),
    }
    hub.DatasetDict(parts).save_to_disk(folder)
    found = open_dataset(str(folder), home)
    check_rows(found)
    assert {split: int((found.splits == split).sum()) for split in ("train", "val", "test")} == {
        "train": 18,
        "val": 3,
        "test": 9,
    }
    assert found.ids[0] == "train/000000"


def test_one_set_without_parts_is_divided(tmp_path: Path, home: Home) -> None:
    folder = tmp_path / "saved"
    hub_set().save_to_disk(folder)
    found = open_dataset(str(folder), home)
    check_rows(found)
    assert int((found.splits == "test").sum()) == 6


def test_a_set_by_its_name(tmp_path: Path, home: Home) -> None:
    """A folder stands for the hub, which cannot be reached: the package reads both the same way."""
    folder = tmp_path / "animals"
    folder.mkdir()
    hub_set(list(range(24))).to_parquet(folder / "train-00000-of-00001.parquet")
    hub_set(list(range(24, 30))).to_parquet(folder / "test-00000-of-00001.parquet")
    found = open_dataset(f"hf:{folder}", home)
    check_rows(found)
    assert (found.splits == "test").sum() == 6
    assert found.name == "hf-animals"
    with pytest.raises(DataError, match="hf:no/such cannot be opened") as raised:
        open_dataset("hf:no/such", home)
    assert "save_to_disk" in str(raised.value)


def test_the_rows_of_a_saved_set_reach_other_processes_by_their_files(tmp_path: Path, home: Home) -> None:
    hub_set().save_to_disk(tmp_path / "saved")
    source = open_dataset(str(tmp_path / "saved"), home).source
    sent = pickle.dumps(source)
    assert len(sent) < len(b"".join(PICTURES))
    assert pickle.loads(sent).read(4) == source.read(4)  # noqa: S301


def test_a_parquet_file_of_hugging_face(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "animals.parquet"
    hub_set().to_parquet(path)
    found = open_dataset(str(path), home)
    check_rows(found)
    sent = pickle.dumps(found.source)
    assert len(sent) < len(b"".join(PICTURES))
    assert pickle.loads(sent).read(4) == PICTURES[4]  # noqa: S301


@pytest.mark.parametrize("group", [7, COUNT])
def test_a_plain_parquet_file(tmp_path: Path, home: Home, group: int) -> None:
    """Bytes in a column of their own, labels as texts, dictionary encoded, in groups of any size."""
    path = tmp_path / "plain.parquet"
    labels = pa.array([NAMES[label] for label in LABELS]).dictionary_encode()
    pq.write_table(pa.table({"label": labels, "image": PICTURES}), path, row_group_size=group)
    check_rows(open_dataset(str(path), home))


def test_a_folder_of_parquet_files_is_divided_by_their_names(tmp_path: Path, home: Home) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    hub_set(list(range(0, 10))).to_parquet(folder / "train-00000-of-00002.parquet")
    hub_set(list(range(10, 20))).to_parquet(folder / "train-00001-of-00002.parquet")
    hub_set(list(range(20, 30))).to_parquet(folder / "test-00000-of-00001.parquet")
    found = open_dataset(str(tmp_path / "set"), home)
    check_rows(found)
    assert (found.splits == "test").sum() == 10
    assert (found.splits == "val").any()
    alone = open_dataset(str(folder / "train-00000-of-00002.parquet"), home)
    assert {"train", "test"} <= set(alone.splits.tolist())


def test_files_of_one_split_alone_are_divided(tmp_path: Path, home: Home) -> None:
    for number in range(2):
        rows = list(range(15 * number, 15 * number + 15))
        hub_set(rows).to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
    found = open_dataset(str(tmp_path), home)
    assert (found.splits == "test").sum() == 6


def test_rows_without_a_label_or_a_picture_keep_their_place(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "holes.parquet"
    table = pa.table({"image": [PICTURES[0], None, PICTURES[2], PICTURES[3]], "label": [0, 1, None, -1]})
    pq.write_table(table, path)
    found = open_dataset(str(path), home)
    assert found.labels.tolist() == [0, 1, -1, -1]
    assert found.hashes[1] == ""
    with pytest.raises(OSError, match="no picture"):
        found.source.read(1)


def test_columns_are_chosen_where_there_are_several(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "two.parquet"
    columns = {"left": PICTURES, "right": PICTURES[::-1], "kind": [NAMES[label] for label in LABELS]}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UsageError, match="several ways") as raised:
        open_dataset(str(path), home)
    assert "--columns left" in str(raised.value)
    check_rows(open_dataset(str(path), home, DatasetOptions(columns=("left", "kind"))))
    with pytest.raises(UsageError, match="does not fit"):
        open_dataset(str(path), home, DatasetOptions(columns=("middle", "kind")))


def test_a_parquet_file_that_changed_is_read_again(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "animals.parquet"
    hub_set([0, 1, 2]).to_parquet(path)
    before = open_dataset(str(path), home)
    hub_set([3, 4, 5]).to_parquet(path)
    after = open_dataset(str(path), home)
    assert after.source.read(0) == PICTURES[3]
    assert not set(before.hashes) & set(after.hashes)
    assert sorted(file.suffix for file in (home.cache / "tables").iterdir()) == [".arrow", ".crc32c"]


def a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("suffix", [".arrow", ".crc32c"])
def test_a_copy_of_a_table_is_made_again_where_it_is_not_what_it_was(
    suffix: str, tmp_path: Path, home: Home
) -> None:
    path = tmp_path / "animals.parquet"
    hub_set().to_parquet(path)
    check_rows(open_dataset(str(path), home))
    (copy,) = (home.cache / "tables").glob("*.arrow")
    whole, made = copy.read_bytes(), copy.stat().st_ino
    check_rows(open_dataset(str(path), home))
    assert copy.stat().st_ino == made
    damages = (
        a_bit,
        lambda file: file.write_bytes(file.read_bytes()[:-5]),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        a_folder,
        a_pipe,
    )
    for damage in damages:
        damage(copy.with_suffix(suffix))
        check_rows(open_dataset(str(path), home))
        assert copy.read_bytes() == whole


def test_damaged_and_other_parquet_files_are_refused(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "broken.parquet"
    hub_set().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read as a parquet file"):
        open_dataset(str(path), home)
    pq.write_table(pa.table({"a": [[1.0, 2.0]], "label": [1]}), path)
    with pytest.raises(UsageError, match="stores import"):
        open_dataset(str(path), home)


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 100_000,
        b'{"info": {"features": 5}}',
        b'{"info": {"features": {"label": 3}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 5}}}}',
    ],
)
def test_what_a_parquet_file_says_of_its_columns_is_taken_where_it_makes_sense(
    tmp_path: Path, home: Home, said: bytes
) -> None:
    table = pa.table({"image": PICTURES, "label": [int(label) for label in LABELS]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": said}), tmp_path / "x.parquet")
    assert open_dataset(str(tmp_path / "x.parquet"), home).labels.tolist() == list(LABELS)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "animals-train-%06d.tar"), maxcount=8, verbose=0) as writer:
        for number in range(20):
            label = NAMES[LABELS[number]]
            writer.write({"__key__": f"{number:05d}", "png": PICTURES[number], "cls": label, "txt": "words"})
    with webdataset.TarWriter(str(folder / "animals-val-000000.tar")) as writer:
        for number in range(20, 30):
            record = {"label": NAMES[LABELS[number]], "size": [6, 6]}
            writer.write({"__key__": f"deep/{number:05d}", "png": PICTURES[number], "json": record})
    return folder


def test_shards_of_webdataset(shards: Path, home: Home) -> None:
    found = open_dataset(str(shards), home)
    check_rows(found)
    assert {split: int((found.splits == split).sum()) for split in ("train", "val", "test")} == {
        "train": 20,
        "val": 10,
        "test": 0,
    }
    assert found.ids[0] == "animals-train-000000/00000.png"
    one = open_dataset(str(shards / "animals-train-000001.tar"), home)
    assert one.source.read(0) == PICTURES[8]


def test_shards_by_a_range(shards: Path, home: Home) -> None:
    found = open_dataset(str(shards / "animals-train-{000000..000002}.tar"), home)
    assert len(found) == 20
    with pytest.raises(UsageError, match="2 shards of"):
        open_dataset(str(shards / "animals-train-{000000..000004}.tar"), home)


def test_odd_members_of_a_shard(tmp_path: Path, home: Home) -> None:
    """Links, folders and hidden files are no pictures, a sample without one is left out and said."""
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:

        def add(name: str, raw: bytes, kind: bytes = tarfile.REGTYPE) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(raw), kind
            if kind == tarfile.SYMTYPE:
                member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(raw))

        add("../../up.png", PICTURES[0])
        add("../../up.cls", b"0")
        add("link.png", b"", tarfile.SYMTYPE)
        add("._a.png", b"junk")
        add("empty.png", b"")
        add("alone.cls", b"1")
        add("b\udcff.png", PICTURES[1])
    found = open_dataset(str(path), home)
    assert [str(name) for name in found.ids] == ["odd/../../up.png", "odd/b\\xff.png", "odd/empty.png"]
    assert found.source.read(0) == PICTURES[0]
    assert found.hashes[2] == ""
    assert "left out: 1 sample without a picture" in found.notes


@pytest.mark.parametrize("damage", ["cut", "compressed", "text", "deep", "half a letter"])
def test_a_damaged_shard_is_refused(shards: Path, home: Home, damage: str) -> None:
    path = shards / "animals-train-000000.tar"
    raw = path.read_bytes()
    if damage == "deep":
        with webdataset.TarWriter(str(path)) as writer:
            writer.write({"__key__": "a", "png": PICTURES[0], "json": b"[" * 100_000})
    elif damage == "compressed":
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
    else:
        path.write_bytes(raw[:700] if damage == "cut" else b"no archive" * 100)
    if damage == "half a letter":
        with webdataset.TarWriter(str(path)) as writer:
            writer.write({"__key__": "a", "png": PICTURES[0], "json": b'{"label": "\\ud800"}'})
    with pytest.raises(DataError, match=r"cannot be read as a shard|labels that are no text"):
        open_dataset(str(path), home)


@pytest.mark.parametrize("kind", ["saved", "parquet", "shards"])
def test_extract_and_fit_on_a_table(tmp_path: Path, shards: Path, kind: str) -> None:
    where = shards
    if kind == "saved":
        where = tmp_path / "saved"
        hub_set().save_to_disk(where)
    elif kind == "parquet":
        where = tmp_path / "animals.parquet"
        hub_set().to_parquet(where)
    arguments = ["--home", str(tmp_path / "home")]
    extract = [
        *arguments,
        "extract",
        "--backbone",
        "pixels",
        "--size",
        "6",
        "--split",
        "0.6,0.2,0.2",
        str(where),
    ]
    extracted = CliRunner().invoke(cli, extract)
    assert extracted.exit_code == 0, extracted.output
    assert "reused" in CliRunner().invoke(cli, extract).output
    fitted = CliRunner().invoke(cli, [*arguments, "fit", "centroid"])
    assert fitted.exit_code == 0, fitted.output
    assert "accuracy 1.0000" in fitted.output


def test_a_folder_of_pictures_stays_one_whatever_else_lies_in_it(tmp_path: Path, home: Home) -> None:
    for number in range(6):
        path = tmp_path / "photos" / NAMES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURES[number])
    hub_set().to_parquet(tmp_path / "photos" / "metadata.parquet")
    assert open_dataset(str(tmp_path / "photos"), home).classes == ("cat", "dog")


def test_labels_and_columns_where_they_do_not_belong(tmp_path: Path, shards: Path, home: Home) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na,b\n")
    with pytest.raises(UsageError, match="has labels of its own"):
        open_dataset(str(shards), home, DatasetOptions(labels=labels))
    with pytest.raises(ProbeError, match="--columns"):
        open_dataset(str(shards), home, DatasetOptions(columns=("png",)))


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path, home: Home) -> None:
    """A file whose rows are one group is copied in pieces: no Arrow batch holds more than a few of them."""
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"image": [bytes(1000)] * 1000, "label": [0] * 1000}), path, row_group_size=1000)
    source = open_dataset(str(path), home).source
    assert isinstance(source, TableSource)
    with pa.memory_map(str(source.files[0])) as mapped:
        reader = pa.ipc.open_file(mapped)
        assert max(reader.get_batch(n).num_rows for n in range(reader.num_record_batches)) <= 64
