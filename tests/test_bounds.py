"""Nothing is believed of its own size: files, archives, arrays and pictures stay within what they can be."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.archives import read_arrays
from probe.backbones import keras_file, onnx_file, side_file
from probe.config import Home, read_config
from probe.datasets.labels import read_labels
from probe.errors import DataError, FitOptionError, ProbeError, StoreError, UsageError
from probe.extract import extract
from probe.fit import Choice, FitJob, fit
from probe.fit.curve import learning_curve, parse_sizes
from probe.fit.needs import Need, Room, draws_at_once
from probe.fit.rows import load_parts
from probe.heads import HEADS
from probe.heads.head import FitSize, HeadRow, Samples, stack
from probe.heads.logreg import LogregOptions
from probe.images import budget, decode
from probe.images.path import IN_FULL
from probe.images.status import Status
from probe.registry import load_object
from probe.store import StoreWriter, open_store, verify_store
from tests.shell import PHOTOS, Shell
from tests.test_store import fill, make

BLOCKS = 40 << 20
"""What fits of the sizes here take beside what is counted."""
PACKED = zipfile.ZIP_DEFLATED


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", PACKED) as packed:
        for name, content in members.items():
            packed.writestr(name.replace("__", "."), content)
    return path


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "f": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "text": np.array(["x", "longer"]),
        "none": np.empty((0, 3), np.int64),
        "one": np.array(7),
        "big": np.arange(1 << 19).astype(">i8"),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    assert set(read_arrays(tmp_path / "a.npz", ("a", "other"))) == {"a"}


BOMBS = {
    "zeros": {"a__npy": header((100 << 20,)) + bytes(100 << 20)},
    "a shape without content": {"a__npy": header((1 << 40,)) + b"x"},
    "a shape that overflows": {"a__npy": header((1 << 33, 1 << 33)) + b"x"},
    "objects": {"a__npy": header((1,), "|O") + b"x"},
    "no array": {"a__npy": b"x"},
    "a header that does not end": {"a__npy": header((3,)).replace(b"(3,)", b"(3, ") + bytes(12)},
    "a long header": {"a__npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 100},
}


@pytest.mark.parametrize("what", BOMBS)
def test_an_archive_is_not_believed(what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"archive|array|belong|[Hh]eader|magic"):
        read_arrays(archive(tmp_path / "bomb.npz", **BOMBS[what]))


def test_a_pipe_is_no_data_set_and_not_waited_for(shell: Shell, tmp_path: Path) -> None:
    for name in ("set.npz", "tar/set.tar", "parquet/set.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        given = path if path.parent == tmp_path else path.parent
        shell("extract", "--backbone", "pixels", "--size", "4", given, code=1)
        assert f"{path.name} cannot be read" in shell.error


def test_a_data_set_with_such_arrays_is_refused(shell: Shell, tmp_path: Path) -> None:
    broken = header((3,)).replace(b"(3,)", b"(3, ") + bytes(12)
    shell("data", "check", archive(tmp_path / "set.npz", train_images__npy=broken), code=1)
    assert "set.npz" in shell.error
    assert "internal error" not in shell.error


def test_a_model_of_a_few_bytes_that_says_it_is_large_is_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "bomb.keras", config__json=bytes(65 << 20))
    with pytest.raises(UsageError, match="cannot be read as a backbone") as caught:
        keras_file.row(bomb)
    assert "at most" in str(caught.value)


def hole(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_files_that_are_read_whole_have_an_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="larger than"):
        read_labels(hole(tmp_path / "labels.csv", 1 << 40))
    with pytest.raises(UsageError, match="does not describe"):
        side_file.read(hole(tmp_path / "side.json", 1 << 40))
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_config(hole(tmp_path / "probe.toml", 1 << 40))
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_config(tmp_path)
    (tmp_path / "deep.toml").write_text("a = " + "[" * 50_000, encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_config(tmp_path / "deep.toml")
    with pytest.raises(UsageError, match="is not an ONNX file"):
        onnx_file.row(hole(tmp_path / "net.onnx", 1 << 40))


LIES = {
    "shape": lambda record: record.update(shape=[10**12, 5]),
    "chunks": lambda record: record["chunk_grid"]["configuration"].update(chunk_shape=[10**12, 5]),
    "type": lambda record: record.update(data_type="float64"),
    "codecs": lambda record: record.update(codecs=[{"name": "bytes", "configuration": {"endian": "little"}}]),
    "fill": lambda record: record.update(fill_value=0.0),
}


@pytest.mark.parametrize("what", LIES)
def test_what_zarr_is_told_is_compared_with_the_layout(what: str, home: Home) -> None:
    path = make(home)
    fill(path, stop_after=2)
    said = path / "data.zarr" / "features" / "f" / "zarr.json"
    record = json.loads(said.read_text(encoding="utf-8"))
    LIES[what](record)
    said.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(StoreError, match="do not say what the store's record says") as caught:
        StoreWriter(path)
    assert "probe stores repair" in str(caught.value)


def test_metadata_that_lies_inside_other_metadata_is_not_taken(home: Home) -> None:
    path = make(home)
    group = path / "data.zarr" / "zarr.json"
    inner = json.loads((path / "data.zarr" / "features" / "f" / "zarr.json").read_text(encoding="utf-8"))
    LIES["chunks"](inner)
    record = json.loads(group.read_text(encoding="utf-8"))
    record["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {"features/f": inner},
    }
    group.write_text(json.dumps(record), encoding="utf-8")
    assert fill(path)
    assert verify_store(path, full=True).ok


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Home:
    from probe.backbones import resolve
    from probe.datasets import open_dataset
    from probe.extract import ExtractJob

    home = Home(tmp_path_factory.mktemp("stored") / "home")
    job = ExtractJob(open_dataset(str(PHOTOS), home), resolve("pixels", size=8, home=home))
    extract(job, home)
    return home


@pytest.mark.parametrize("head", ["knn", "ridge"])
def test_a_head_says_what_memory_it_needs_before_it_takes_it(stored: Home, head: str) -> None:
    (path,) = stored.stores.glob("photos-*")
    store = open_store(path)
    with pytest.raises(FitOptionError, match="needs more memory") as caught:
        fit(FitJob(store, head, choice=Choice(memory=1000)), stored)
    needed = int(str(caught.value.expected).split()[1].removesuffix("MB")) * 1_000_000
    streamed = fit(FitJob(store, head, choice=Choice(memory=needed)), stored)
    assert streamed.test.accuracy == fit(FitJob(store, head), stored).test.accuracy


def test_features_in_memory_are_there_once(stored: Home) -> None:
    """A head that copies them, to turn them or to fit again on train and validation, has room or streams."""
    (path,) = stored.stores.glob("photos-*")
    store = open_store(path)
    parts = load_parts(store, Choice())
    train, val = parts["train"].samples, parts["val"].samples
    both = stack(train, val)
    assert np.shares_memory(both.features, train.features)
    np.testing.assert_array_equal(both.features, np.concatenate([train.features, val.features]))
    size = 4 * sum(np.prod(part.samples.features.shape) for part in parts.values())
    for head, more in {"majority": False, "centroid": False, "logreg": True, "dense": True}.items():
        need = Need(HEADS[head])
        just, all_of = (load_parts(store, Choice(memory=m), need=need) for m in (size, 100 * size))
        assert isinstance(all_of["test"].samples.features, np.ndarray)
        assert isinstance(just["test"].samples.features, np.ndarray) != more


def draw(rows: int, width: int, classes: int) -> tuple[Samples, Samples]:
    """Two parts of classes that are not easily told apart."""
    rng = np.random.default_rng(0)
    labels = (np.arange(rows) % classes).astype(np.int32)
    features = rng.normal(size=(classes, width))[labels] / 4 + rng.normal(size=(rows, width))
    halves = np.array_split(features.astype(np.float32), 2), np.array_split(labels, 2)
    train, val = (Samples(*half) for half in zip(*halves, strict=True))
    return train, val


def taken_by(row: HeadRow, train: Samples, val: Samples, classes: int, options: Any) -> int:
    """The most that numpy's arrays took at a time while this was fitted."""
    tracemalloc.start()
    try:
        row.fit(train, val, classes, options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HELD = {
    "logreg": ("logreg", {"c": (1e-3,)}, 4_000, 300, 3),
    "folds of many classes": ("logreg", {"c": (1e-3,), "cv": 4, "jobs": 4, "tolerance": 0.5}, 30_000, 20, 70),
    "folds of few classes": ("logreg", {"c": (1e-3,), "cv": 3, "tolerance": 0.5}, 30_000, 20, 10),
    "folds at several values": (
        "logreg",
        {"c": (1e-4, 3e-4, 1e-3), "cv": 3, "jobs": 2, "tolerance": 1e-3},
        8_000,
        20,
        70,
    ),
    "fewer rows than columns": ("logreg", {"c": (1e-3,), "tolerance": 0.5}, 400, 8_000, 3),
    "knn": ("knn", {"standardise": True}, 5_000, 300, 3),
    "ridge": ("ridge", {"alpha": (1.0,)}, 3_000, 600, 3),
}


@pytest.mark.parametrize("name", HELD)
def test_a_fit_takes_what_was_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By numpy's own account, what it holds at once is no more than was said, and not far from it."""
    head, changes, rows, width, classes = HELD[name]
    monkeypatch.setattr("probe.heads.head.BASE_BYTES", 0)
    row, (train, val) = HEADS[head], draw(rows, width, classes)
    options = load_object(row.options)(**changes)
    said = row.held_bytes(FitSize(len(train), len(val), 0, width, classes), options, in_memory=True)
    taken = taken_by(row, train, val, classes, options)
    assert taken < said + BLOCKS
    assert said < 6 * taken


def test_a_store_that_says_it_is_another_is_not_filled(stored: Home, tmp_path: Path, shell: Shell) -> None:
    shutil.copytree(stored.root, shell.home)
    (path,) = (shell.home / "stores").glob("photos-*")
    (path / "MANIFEST.json").unlink()
    group = path / "data.zarr" / "zarr.json"
    record = json.loads(group.read_text(encoding="utf-8"))
    record["attributes"]["probe"]["layout"]["rows"] -= 1
    group.write_text(json.dumps(record), encoding="utf-8")
    shell("extract", "--backbone", "pixels", "--size", 8, PHOTOS, code=1)
    assert "is damaged" in shell.error


def test_threads_hold_no_more_than_the_budget() -> None:
    shared, most, seen, now = budget.Budget(100), [0], threading.Lock(), [0]

    def work(amount: int) -> None:
        for _ in range(50):
            with shared.hold(amount):
                with seen:
                    now[0] += min(amount, 100)
                    most[0] = max(most[0], now[0])
                with seen:
                    now[0] -= min(amount, 100)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (30, 40, 60, 90, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert 0 < most[0] <= 100


def test_large_pictures_are_counted_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Counting(budget.Budget):
        def hold(self, amount: int):  # type: ignore[no-untyped-def]
            held.append(amount)
            return super().hold(amount)

    monkeypatch.setattr(decode, "DECODING", Counting(1000))
    for mode, side in (("RGB", 1200), ("RGBA", 1200), ("RGB", 100)):
        stream = io.BytesIO()
        Image.new(mode, (side, side), "red").save(stream, "PNG")
        pixels, _ = decode.decode_to(stream.getvalue(), 4, IN_FULL)
        assert (pixels == (255, 0, 0)).all()
    assert held == [4 * 1200**2, 12 * 1200**2]
    with pytest.raises(ProbeError):
        decode.decode_to(b"\xff\xd8 not a picture", 4, IN_FULL)


def mapped_bytes(path: Path) -> int:
    """Of the files below a folder, what this process has mapped and counts as its own."""
    found, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:
            here = str(path) in line
        elif here and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


def test_rows_in_any_order_leave_the_files_to_the_system(
    stored: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = stored.stores.glob("photos-*")
    store = open_store(path)
    features = store.features()
    rows = store.rows()
    plain, backwards = features.read(rows), np.arange(len(rows))[::-1]
    kept = features.mapped(rows)
    np.testing.assert_array_equal(kept[backwards], plain[::-1])
    assert mapped_bytes(path) > 0
    monkeypatch.setattr("probe.store.mapped.MAPPED_BYTES", 0)
    for _ in range(2):
        np.testing.assert_array_equal(kept[backwards], plain[::-1])
        assert mapped_bytes(path) == 0


class Streamed:
    """Rows that are not in memory, and the most that were asked for at once."""

    def __init__(self, features: np.ndarray) -> None:
        self.features, self.shape, self.most = features, features.shape, 0

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        found = self.features[rows]
        self.most = max(self.most, len(found))
        return found


def test_draws_of_a_curve_are_streamed_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.heads.head.BLOCK", 64)
    row, (train, test) = HEADS["centroid"], draw(1000, 10, 3)
    sizes = parse_sizes((), (0.5, 1.0))
    whole = learning_curve(row, None, (train, None, test), 3, sizes, 2)
    source = Streamed(train.features)
    parts = (replace(train, features=source), None, test)
    assert learning_curve(row, None, parts, 3, sizes, 2, free=0) == whole
    assert source.most == 64
    assert learning_curve(row, None, parts, 3, sizes, 2, free=1 << 20) == whole
    assert source.most == len(train)


def test_what_is_known_of_rows_is_counted(stored: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = stored.stores.glob("photos-*")
    store = open_store(path)
    monkeypatch.setattr("probe.heads.head.BASE_BYTES", 0)
    memory = 250 * len(store.index.ids)
    with pytest.raises(FitOptionError, match="needs more memory"):
        fit(FitJob(store, "majority", choice=Choice(memory=memory)), stored)


def test_what_folds_and_draws_hold_is_counted() -> None:
    size = FitSize(20_000, 2_000, 2_000, 512, 40)
    plain, folded = (Need(HEADS["logreg"], LogregOptions(cv=cv, jobs=2)) for cv in (0, 5))
    features = 4 * 24_000 * 512
    limits = range(0, 1 << 30, 1 << 20)
    enough = next(memory for memory in limits if plain.room(size, features, memory).in_memory)
    assert not folded.room(size, features, enough).in_memory
    assert folded.room(size, features, 3 * enough).in_memory
    knn = replace(Need(HEADS["knn"]), curve=True)
    with pytest.raises(FitOptionError, match="needs more memory") as caught:
        knn.room(size, features, 2 * features)
    said = int(str(caught.value.expected).split()[1].removesuffix("MB"))
    knn.room(size, features, said * 1_000_000)


WIDE = FitSize(1_200_000, 50_000, 50_000, 2048, 1000)
"""Streamed, with products that are faster in bfloat16 where a CPU has it."""


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that multiplies any streamed problem faster in bfloat16."""
    for where in ("probe.heads.logreg", "probe.heads.softmax_rough"):
        monkeypatch.setattr(f"{where}.is_bfloat16_faster", lambda width, columns: True)


@pytest.mark.usefixtures("bfloat16")
def test_looks_in_bfloat16_are_gone_without_before_a_fit_is_refused() -> None:
    need, features = Need(HEADS["logreg"]), 4 * 1_300_000 * 2048
    least = HEADS["logreg"].held_bytes(WIDE, in_memory=False)
    more = HEADS["logreg"].spare_bytes(WIDE, in_memory=False)
    assert more > 0
    assert need.room(WIDE, features, least) == Room(in_memory=False, spare=False)
    assert need.room(WIDE, features, least + more) == Room(in_memory=False, spare=True)
    with pytest.raises(FitOptionError, match="needs more memory"):
        need.room(WIDE, features, least - 1)
    held = [draws_at_once(need, WIDE, 600_000, free=free, jobs=1) for free in (least, least + more)]
    assert [(room.in_memory, room.spare) for room in held] == [(False, False), (False, True)]


@pytest.mark.usefixtures("bfloat16")
def test_a_fit_with_little_memory_looks_in_float32_alone(
    stored: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = stored.stores.glob("photos-*")
    monkeypatch.setattr("probe.heads.softmax_rough.RoughLoss", None)
    job = FitJob(open_store(path), "logreg", Choice(memory=1000), LogregOptions(c=(1e-3,)))
    assert fit(job, stored).test is not None


@pytest.mark.usefixtures("bfloat16")
def test_looks_in_bfloat16_copy_the_rows_of_a_store_beside_it_and_leave_nothing(
    stored: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = stored.stores.glob("photos-*")
    train = load_parts(open_store(path), Choice(memory=1))["train"].samples
    kept, write = [], os.pwrite
    monkeypatch.setattr("os.pwrite", lambda *given: kept.append(write(*given)) or kept[-1])
    classes, there = int(train.labels.max()) + 1, sorted(stored.stores.iterdir())
    HEADS["logreg"].fit(train, None, classes, LogregOptions(c=(1e-3,)))
    assert sum(kept) == 2 * train.features.shape[0] * train.features.shape[1]
    assert sorted(stored.stores.iterdir()) == there


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("way", ["in memory", "streamed", "in bfloat16"])
def test_what_a_path_keeps_is_counted_by_how_it_looks(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.heads.head.BASE_BYTES", 0)
    monkeypatch.setattr("probe.heads.logreg.ROUGH_BYTES", 0)
    row, options, (train, val) = HEADS["logreg"], LogregOptions(c=(2e-4, 2e-3, 1e-2)), draw(800, 500, 400)
    in_memory, spare = way == "in memory", way == "in bfloat16"
    if not in_memory:
        train, val = (replace(part, features=Streamed(part.features), spare=spare) for part in (train, val))
    size = FitSize(len(train), len(val), 0, 500, 400)
    said = row.held_bytes(size, options, in_memory=in_memory)
    said += row.spare_bytes(size, options, in_memory=in_memory) if spare else 0
    taken = taken_by(row, train, val, 400, options)
    assert taken < said
    assert said < 1.7 * taken


def test_folds_that_are_streamed_hold_the_logits_of_the_rows_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("probe.heads.head.BASE_BYTES", 0)
    monkeypatch.setattr("probe.heads.head.BLOCK", 1024)
    row, options, (train, val) = (
        HEADS["logreg"],
        LogregOptions(c=(1e-4,), cv=2, tolerance=0.5),
        draw(16_000, 8, 200),
    )
    train, val = (replace(part, features=Streamed(part.features)) for part in (train, val))
    said = row.held_bytes(FitSize(len(train), len(val), 0, 8, 200), options, in_memory=False)
    taken = taken_by(row, train, val, 200, options)
    assert taken < said
    assert said < 2.5 * taken


OF_THE_PROCESS = """
import sys
import numpy as np
from pathlib import Path
from probe.heads import HEADS
from probe.heads.head import BASE_BYTES, FitSize, Samples
from probe.heads.logreg import LogregOptions
class Streamed:
    def __init__(self, features):
        self.features, self.shape = features, features.shape
    def __getitem__(self, rows):
        return np.asarray(self.features[rows], np.float32)
rows, width, classes = 20_000, 1024, 400
features = np.empty((rows, width), np.float16)
rng = np.random.default_rng(0)
for row in features:
    row[:] = rng.random(width, np.float32)
features[np.arange(rows), np.arange(rows) % classes] += 1
options = LogregOptions(c=(1e-3,), tolerance=0.5)
samples = Samples(Streamed(features), np.arange(rows) % classes, spare=False)
HEADS["logreg"].fit(Samples(Streamed(features[:800]), np.arange(800) % 4, spare=False), None, 4, options)
def resident(name):  # what a process was forked from counts in its resource usage
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
before = resident("VmRSS")
HEADS["logreg"].fit(samples, None, classes, options)
grown = resident("VmHWM") - before
said = HEADS["logreg"].held_bytes(FitSize(rows, 0, 0, width, classes), options, in_memory=False)
sys.exit(0 if grown < said + BASE_BYTES else f"{grown:,} bytes where {said:,} and {BASE_BYTES:,} were said")
"""


def test_what_the_process_of_a_streamed_fit_takes_is_what_is_counted() -> None:
    done = subprocess.run([sys.executable, "-c", OF_THE_PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


HELP = {
    "classes": ("logreg", FitSize(1_200_000, 500_000, 500_000, 256, 1000), "fewer classes"),
    "columns": ("ridge", FitSize(100_000, 0, 0, 20_000, 5), "fewer outputs"),
    "rows": ("majority", FitSize(100_000_000, 0, 0, 4, 5), "fewer images"),
}


@pytest.mark.parametrize("what", HELP)
def test_a_refusal_names_what_takes_the_memory(what: str) -> None:
    head, size, advice = HELP[what]
    with pytest.raises(FitOptionError) as caught:
        Need(HEADS[head]).room(size, 4 * size.fitted * size.width, 1 << 20, 300 * size.fitted)
    assert str(caught.value.hint).startswith(f"use {advice}")
    others = {"fewer classes", "fewer outputs"} - {advice}
    assert not any(other in str(caught.value.hint) for other in others)


@pytest.mark.parametrize("classes", [1, 2])
def test_nobody_is_told_to_drop_one_of_two_classes(classes: int) -> None:
    size = FitSize(100_000, 0, 0, 20_000, classes)
    with pytest.raises(FitOptionError) as caught:
        Need(HEADS["logreg"]).room(size, 4 * size.fitted * size.width, 1000)
    assert "classes (" not in str(caught.value.hint)


def test_a_refusal_names_folds_and_curves_that_take_the_memory() -> None:
    size, options = FitSize(200_000, 0, 0, 64, 2000), LogregOptions(cv=10)
    with pytest.raises(FitOptionError) as caught:
        Need(HEADS["logreg"], options, curve=True).room(size, 4 * 64 * 200_000, 1 << 20)
    assert "no folds (--cv 0), or no learning curve" in str(caught.value.hint)
    many = FitSize(250_000, 0, 0, 2000, 5)
    with pytest.raises(FitOptionError) as caught:
        Need(HEADS["knn"]).room(many, 4 * 250_000 * 2000, 1 << 30)
    assert "logreg, which streams features" in str(caught.value.hint)


def jpeg_bytes(side: int, **how: bool) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "jpeg", **how)
    return stream.getvalue()


def with_scans(count: int) -> bytes:
    whole = jpeg_bytes(64, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


def with_segments(count: int) -> bytes:
    whole = jpeg_bytes(64)
    segment = b"\xff\xe1" + (65_002).to_bytes(2, "big") + b"Exif\0\0".ljust(65_000, b"x")
    return whole[:2] + segment * count + whole[2:]


@pytest.mark.parametrize("raw", [with_scans(400), with_segments(300)], ids=["scans", "segments"])
def test_a_jpeg_that_would_be_decoded_for_minutes_is_too_large(raw: bytes) -> None:
    with pytest.raises(decode.ImageError) as caught:
        decode.decode(raw)
    assert caught.value.status == Status.TOO_LARGE


def test_a_jpeg_with_some_scans_and_segments_or_a_film_after_it_is_read() -> None:
    film = np.random.default_rng(0).integers(0, 256, 4 << 20, np.uint8).tobytes()
    for raw in (with_scans(20), with_segments(3), jpeg_bytes(64) + film):
        assert decode.decode(raw).shape == (64, 64, 3)
