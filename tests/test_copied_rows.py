"""Rows are computed once: what another store of the home has is copied, and the result is the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probe import backbones
from probe.backbones import resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.extract import ExtractJob, Shard, extract, extract_in_processes
from probe.extract.background import BackgroundWriter
from probe.extract.compute import UnitContent
from probe.store import open_store, remove_store, verify_store

from .shell import Shell

ROOT = Path(__file__).parents[1]
WORDS = ("extract", "--backbone", "pixels", "--size", "16", "--batch-size", "4")
WIDE = 256
"""Side of pixels that are so many that a unit has 20 rows by itself."""


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.extract.run.unit_rows", lambda *_: 20)


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8))


def make_folder(root: Path, numbers: range) -> Path:
    for number in numbers:
        folder = root / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:03d}.png")
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "photos", range(54))


def chunks(store: Path) -> dict[str, bytes]:
    data = store / "data.zarr"
    return {
        path.relative_to(data).as_posix(): path.read_bytes()
        for path in data.rglob("*/c/**/*")
        if path.is_file()
    }


def expect_undisturbed(result: dict[str, Any], dataset: Path, shell: Shell, *words: object) -> None:
    """The store is the one that a home without any other store gets: key, bits and facts."""
    here, shell.home = shell.home, shell.home.with_name("alone")
    shutil.rmtree(shell.home, ignore_errors=True)
    expected = shell.json(*WORDS, *words, dataset, code=4 if result["unreadable"] else 0)
    shell.home = here
    one, other = Path(result["path"]), Path(expected["path"])
    assert result["key"] == expected["key"]
    assert expected["rows_copied"] == 0
    assert chunks(one) == chunks(other)
    first, second = open_store(one).manifest, open_store(other).manifest
    assert (first.layout, first.digest, first.unreadable) == (second.layout, second.digest, second.unreadable)
    assert first.facts["exif_turned"] == second.facts["exif_turned"]
    assert verify_store(one, full=True).ok


def counts(result: dict[str, Any]) -> tuple[int, int, int]:
    return result["rows_computed"], result["rows_copied"], result["rows_resumed"]


def test_one_picture_more_is_one_picture_computed(photos: Path, shell: Shell, tmp_path: Path) -> None:
    first = shell.json(*WORDS, photos)
    assert counts(first) == (54, 0, 0)
    make_folder(photos, range(54, 55))
    said = shell(*WORDS, photos)
    assert "rows    55: 1 computed at" in said
    assert "54 copied" in said
    assert f"copied  54 rows of {first['store']}" in said
    again = shell.json(*WORDS, photos)
    assert again["reused"]
    assert counts(again) == (0, 0, 55)
    expect_undisturbed(again, photos, shell)


@pytest.mark.parametrize("reverse", [False, True])
def test_limits_in_either_direction(photos: Path, shell: Shell, tmp_path: Path, reverse: bool) -> None:
    """A part of what is there needs no network at all."""
    first, second = (("--limit", 54), ("--limit", 20)) if reverse else (("--limit", 20), ("--limit", 54))
    shell.json(*WORDS, *first, photos)
    result = shell.json(*WORDS, *second, photos)
    assert counts(result) == ((0, 20, 0) if reverse else (34, 20, 0))
    expect_undisturbed(result, photos, shell, *second)


def test_a_selection_of_a_store_loads_no_backbone(
    photos: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(photos, home)
    extract(job, home)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was loaded")

    monkeypatch.setattr(backbones, "load", forbidden)
    part = extract(replace(job, dataset=job.dataset.take(np.arange(30, 10, -1))), home)
    assert (part.rows_computed, part.rows_copied, part.reused) == (0, 20, False)


def small_job(dataset: Path, home: Home, size: int = 16, **changes: Any) -> ExtractJob:
    data = open_dataset(str(dataset), home)
    return replace(ExtractJob(data, resolve("pixels", size=size, home=home), batch_size=4), **changes)


def features(result: Any, output: str | None = None, view: int = 0) -> NDArray[np.float32]:
    return open_store(Path(result.path)).features(output, view).read()


def test_pictures_moved_renamed_relabelled_and_twice(photos: Path, shell: Shell, tmp_path: Path) -> None:
    shell.json(*WORDS, photos)
    other = tmp_path / "other"
    (other / "birds").mkdir(parents=True)
    (other / "fish").mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))[::-1]):
        shutil.copy(path, other / ("birds", "fish")[number % 2] / f"x{number:02d}.png")
    for name in ("copy", "again"):
        shutil.copy(photos / "cats" / "000.png", other / "fish" / f"{name}.png")
    make_folder(other, range(60, 62))
    result = shell.json(*WORDS, other)
    assert counts(result) == (2, 56, 0)
    expect_undisturbed(result, other, shell)


def test_rows_of_several_stores_and_of_one_that_is_gone(photos: Path, shell: Shell, tmp_path: Path) -> None:
    parts = [
        make_folder(tmp_path / f"part{number}", range(20 * number, 20 * number + 20)) for number in range(3)
    ]
    stores = [shell.json(*WORDS, part)["store"] for part in parts]
    shell("stores", "rm", stores[1], "--yes")
    result = shell.json(*WORDS, photos)
    assert counts(result) == (20, 34, 0)
    assert result["copied_from"] == {stores[0]: 20, stores[2]: 14}
    expect_undisturbed(result, photos, shell)


def test_a_store_whose_labels_have_changed_serves(photos: Path, shell: Shell, tmp_path: Path) -> None:
    shell.json(*WORDS, photos)
    labels = tmp_path / "labels.csv"
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    labels.write_text(
        "path,label,group\n" + "".join(f"{n},{'ab'[i % 2]},{i // 3}\n" for i, n in enumerate(names))
    )
    assert shell.json(*WORDS, "--labels", labels, photos)["reused"]
    make_folder(photos, range(54, 56))
    assert counts(shell.json(*WORDS, photos)) == (2, 54, 0)


def test_unreadable_pictures_are_tried_again(photos: Path, shell: Shell, tmp_path: Path) -> None:
    (photos / "cats" / "000.png").write_bytes(b"no picture")
    (photos / "dogs" / "zzz.png").write_bytes(b"none either")
    shell.json(*WORDS, photos, code=4)
    make_folder(photos, range(54, 55))
    result = shell.json(*WORDS, photos, code=4)
    assert counts(result) == (3, 53, 0)
    assert result["unreadable"] == 2
    expect_undisturbed(result, photos, shell)


def test_turned_pictures_are_counted_where_they_are_copied(
    photos: Path, shell: Shell, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(5):
        picture(number).resize((30, 20)).save(photos / "cats" / f"turned{number}.jpg", exif=exif)
    shell.json(*WORDS, photos)
    make_folder(photos, range(54, 55))
    result = shell.json(*WORDS, "--limit", 45, photos)
    assert result["rows_copied"] >= 44
    expect_undisturbed(result, photos, shell, "--limit", 45)


def test_which_pictures_were_turned_is_not_known_of_older_stores(photos: Path, shell: Shell) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).resize((30, 20)).save(photos / "cats" / "turned.jpg", exif=exif)
    store = Path(shell.json(*WORDS, photos)["path"])
    log = store / "commits/0of1.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        del line["turned_rows"], line["line"]
    log.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    (turned,) = (line for line in lines if line["turned"])
    make_folder(photos, range(54, 55))
    result = shell.json(*WORDS, photos)
    first, stop = turned["rows"]
    assert result["rows_computed"] == stop - first + 1
    assert open_store(Path(result["path"])).manifest.facts["exif_turned"] == 1


# ---- what must not be copied ------------------------------------------------------------------------------


OTHER: dict[str, tuple[str, ...]] = {
    "size": ("--size", "15"),
    "preprocessing": ("--preprocess", "tf"),
    "precision of the store": ("--store-dtype", "float16"),
    "orientation": ("--exif",),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_code_path_is_another_row(photos: Path, shell: Shell, name: str) -> None:
    shell.json(*WORDS, photos)
    make_folder(photos, range(54, 55))
    assert counts(shell.json(*WORDS, *OTHER[name], photos)) == (55, 0, 0)


def test_nothing_is_copied_where_bits_depend_on_the_batch(
    photos: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.backbones import engines
    from probe.registry import Registry

    rows = [replace(engine, bit_stable=False) for engine in engines.ENGINES.values()]
    monkeypatch.setattr(engines, "ENGINES", Registry("engine", rows))
    job = small_job(photos, home)
    extract(job, home)
    part = extract(replace(job, dataset=job.dataset.take(np.arange(30))), home)
    assert (part.rows_computed, part.rows_copied) == (30, 0)


class Shifted:
    """A backbone that is called the same and computes something else, as after an update."""

    def __init__(self, real: Any) -> None:
        self._real, self.batch_size, self.shapes = real, real.batch_size, real.shapes

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {
            name: np.nextafter(values, 2, dtype=np.float32) for name, values in self._real(pixels).items()
        }


def test_rows_that_would_come_out_otherwise_today_are_not_copied(
    photos: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = extract(small_job(photos, home), home)
    make_folder(photos, range(54, 55))
    load = backbones.load
    monkeypatch.setattr(backbones, "load", lambda *args, **named: Shifted(load(*args, **named)))
    new = extract(small_job(photos, home), home)
    assert (new.rows_computed, new.rows_copied) == (55, 0)
    assert "not the bits" in new.passed_over[old.store]
    alone = Home(tmp_path / "alone")
    assert chunks(Path(new.path)) == chunks(Path(extract(small_job(photos, alone), alone).path))


def test_a_small_picture_is_the_same_row_under_both_ways_of_decoding(tmp_path: Path, shell: Shell) -> None:
    """A large JPEG makes the set another one, and is decoded at a fraction; the small ones are not."""
    folder = make_folder(tmp_path / "photos", range(10))
    shell.json(*WORDS, folder)
    picture(99).resize((300, 200)).save(folder / "cats" / "large.jpg")
    result = shell.json(*WORDS, folder)
    assert counts(result) == (1, 10, 0)
    assert open_store(Path(result["path"])).manifest.spec["pixels"]["policy"] == "pillow-2"
    expect_undisturbed(result, folder, shell)
    (folder / "dogs" / "001.png").unlink()
    assert counts(shell.json(*WORDS, folder)) == (0, 10, 0)


# ---- several outputs, prefix caches ------------------------------------------------------------------------


def test_outputs_are_taken_from_a_store_that_has_more(photos: Path, shell: Shell, tmp_path: Path) -> None:
    small = ("--outputs",)
    more = shell.json(*WORDS, *small, "pixels,pixels:map", photos)
    one = shell.json(*WORDS, *small, "pixels:map", photos)
    assert counts(one) == (0, 54, 0)
    expect_undisturbed(one, photos, shell, *small, "pixels:map")
    shell("stores", "rm", more["store"], "--yes")
    assert counts(shell.json(*WORDS, *small, "pixels,pixels:map", photos)) == (54, 0, 0)


def test_engines_say_whether_an_output_depends_on_the_others(
    photos: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.backbones import engines
    from probe.registry import Registry

    rows = [replace(engine, separate_outputs=False) for engine in engines.ENGINES.values()]
    job = small_job(photos, home)
    both = replace(job, backbone=replace(job.backbone, outputs=("pixels", "pixels:map")))
    extract(both, home)
    monkeypatch.setattr(engines, "ENGINES", Registry("engine", rows))
    assert extract(job, home).rows_copied == 0
    assert extract(replace(both, dataset=both.dataset.take(np.arange(9))), home).rows_copied == 9


def test_prefix_caches_are_copied_from_one_another(photos: Path, home: Home) -> None:
    job = small_job(photos, home, dtype="float16", internal=True)
    extract(job, home)
    make_folder(photos, range(54, 56))
    result = extract(small_job(photos, home, dtype="float16", internal=True), home)
    assert (result.rows_computed, result.rows_copied) == (2, 54)
    assert open_store(Path(result.path)).manifest.layout.internal


# ---- damage, kills, workers -------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def swap(store: Path) -> None:
    one, other = (store / f"data.zarr/features/pixels/c/{unit}/0" for unit in (0, 1))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


def link(store: Path) -> None:
    chunk = store / "data.zarr/features/pixels/c/1/0"
    outside = store.parent.parent / "outside"
    shutil.move(chunk, outside)
    chunk.symlink_to(outside)


def change_line(store: Path) -> None:
    log = store / "commits/0of1.jsonl"
    line, *rest = log.read_text().splitlines(keepends=True)
    record = json.loads(line)
    record["chunks"]["status"] = 64 * "0"
    log.write_text("".join([json.dumps(record) + "\n", *rest]))


DAMAGE: dict[str, tuple[Callable[[Path], object], int]] = {
    "bit": (lambda s: flip(s / "data.zarr/features/pixels/c/1/0", 1000), 20),
    "status": (lambda s: flip(s / "data.zarr/status/c/2", 3), 14),
    "cut": (lambda s: (s / "data.zarr/features/pixels/c/0/0").write_bytes(b"short"), 20),
    "gone": (lambda s: (s / "data.zarr/features/pixels/c/0/0").unlink(), 20),
    "swapped": (swap, 40),
    "link": (link, 54),
    "line": (change_line, 54),
    "index": (lambda s: next((s / "index").glob("*.npz")).write_bytes(b"PK"), 54),
    "other index": (
        lambda s: np.savez(next((s / "index").glob("*.npz")), ids=["a"] * 54, hashes=["b"] * 54),
        54,
    ),
}
"""What is done to a store, and how many of its rows are computed then."""


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_rows_are_computed_and_whole_ones_copied(
    photos: Path, shell: Shell, tmp_path: Path, name: str
) -> None:
    store = Path(shell.json(*WORDS, photos)["path"])
    damage, lost = DAMAGE[name]
    damage(store)
    make_folder(photos, range(90, 91))
    result = shell.json(*WORDS, photos)
    assert counts(result) == (lost + 1, 54 - lost, 0)
    assert list(result["passed_over"]) == [store.name]
    expect_undisturbed(result, photos, shell)


def test_a_source_that_vanishes_on_the_way_costs_no_finished_unit(
    photos: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes its files past all locks, after the first rows were copied."""
    source = extract(small_job(photos, home), home)
    make_folder(photos, range(90, 91))
    job = small_job(photos, home)
    put = BackgroundWriter.put

    def put_and_delete(writer: BackgroundWriter, content: UnitContent) -> None:
        shutil.rmtree(Path(source.path) / "data.zarr/features", ignore_errors=True)
        put(writer, content)

    monkeypatch.setattr(BackgroundWriter, "put", put_and_delete)
    result = extract(job, home)
    assert (result.rows_computed, result.rows_copied) == (55 - 20, 20)
    assert source.store in result.passed_over
    alone = Home(tmp_path / "alone")
    assert chunks(Path(result.path)) == chunks(Path(extract(small_job(photos, alone), alone).path))


def test_a_store_is_not_removed_while_rows_are_copied_from_it(photos: Path, shell: Shell) -> None:
    home = Home(shell.home)
    source = extract(small_job(photos, home), home)
    from probe.extract.copies import Copies, find_candidates
    from probe.store.locks import alone

    job = small_job(photos, home)
    part = replace(job, dataset=job.dataset.take(np.arange(9)))
    with Copies(part) as copies:
        copies.find(find_candidates(part, home, home.stores / "none"), np.arange(9))
        shell("stores", "rm", source.store, "--yes", code=1)
        assert "in use" in shell.error
    with alone(Path(source.path)):
        result = extract(part, home)
    assert (result.rows_computed, result.rows_copied) == (9, 0)
    assert "in use" in result.passed_over[source.store]
    remove_store(home, source.store)


def test_shards_and_processes_give_the_same_bytes(photos: Path, home: Home, tmp_path: Path) -> None:
    homes = [home, Home(tmp_path / "jobs"), Home(tmp_path / "alone")]
    for each in homes[:2]:
        extract(small_job(photos, each, WIDE), each)
    make_folder(photos, range(54, 60))
    shards = [extract(small_job(photos, home, WIDE), home, shard=Shard(number, 2)) for number in (1, 0)]
    together = extract_in_processes(small_job(photos, homes[1], WIDE), homes[1], 2)
    expected = chunks(Path(extract(small_job(photos, homes[2], WIDE), homes[2]).path))
    assert sum(shard.rows_copied for shard in shards) == together.rows_copied == 54
    assert sum(shard.rows_computed for shard in shards) == together.rows_computed == 6
    assert list(together.copied_from.values()) == [54]
    assert chunks(Path(shards[1].path)) == chunks(Path(together.path)) == expected


@pytest.mark.parametrize("source_stays", [True, False])
def test_kill_minus_nine_while_rows_are_copied(tmp_path: Path, shell: Shell, source_stays: bool) -> None:
    """A process killed while it copies; the same command goes on, with the source or without."""
    photos = make_folder(tmp_path / "photos", range(160))
    home, words = shell.home, (*WORDS, "--size", str(WIDE), str(photos))
    source = shell.json(*words)
    make_folder(photos, range(160, 165))
    command = [sys.executable, "-m", "probe", "--home", str(home), *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(home.glob("stores/*/data.zarr/features/pixels/c/1/0"))) < 2:
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(home.glob("stores/*/MANIFEST.json"))) == 1
    if not source_stays:
        remove_store(Home(home), source["store"])
    done = shell.json(*words)
    computed, copied, resumed = counts(done)
    assert computed + copied + resumed == 165
    assert resumed > 0
    assert (copied > 0) == source_stays
    expect_undisturbed(done, photos, shell, "--size", WIDE)


def test_a_trial_run_says_what_would_be_copied(photos: Path, shell: Shell) -> None:
    shell.json(*WORDS, photos)
    make_folder(photos, range(54, 56))
    plan = shell.json(*WORDS, "--dry-run", photos)
    assert (plan["images"], plan["rows_copied"]) == (56, 54)
    assert "54 of them are copied" in shell(*WORDS, "--dry-run", photos)
    assert counts(shell.json(*WORDS, photos)) == (2, 54, 0)
