"""Images in, embeddings out: identity, resume, unreadable images. The pixels backbone keeps it quick."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probe import backbones
from probe.backbones import BackboneSpec, resolve
from probe.backbones.backbone import Extractor, Features
from probe.config import Home
from probe.datasets import Dataset, DatasetOptions, open_dataset
from probe.extract import ExtractJob, Shard, estimate, extract
from probe.store import LocalFiles, find_store, open_store, read_manifest, verify_store

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, np.ndarray]) -> Path:
    """Twelve crops of real photographs in three class folders."""
    root = tmp_path / "photos"
    for name, pixels in photographs.items():
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(pixels[i * 20 : i * 20 + 120, :150]).save(root / name / f"{i}.png")
    return root


def pixels_job(folder: Path, home: Home, **changes: object) -> ExtractJob:
    dataset = open_dataset(str(folder), home, DatasetOptions())
    return replace(ExtractJob(dataset, resolve("pixels", size=16, home=home), batch_size=4), **changes)


def test_features_are_those_of_each_image_in_its_row(folder: Path, home: Home) -> None:
    job = pixels_job(folder, home)
    result = extract(job, home)
    store = find_store(home, result.store)
    for row, name in enumerate(store.index.ids):
        picture = Image.open(folder / name).resize((16, 16), Image.Resampling.BILINEAR)
        expected = np.asarray(picture, np.float32).ravel() / 255
        np.testing.assert_allclose(store.features().read(np.array([row]))[0], expected, atol=1e-6)
    assert (result.rows, result.rows_computed, result.rows_resumed, result.unreadable) == (12, 12, 0, 0)


def test_a_second_extract_reuses_the_store_without_loading_the_backbone(
    folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(pixels_job(folder, home), home)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was loaded")

    monkeypatch.setattr(backbones, "load", forbidden)
    second = extract(pixels_job(folder, home), home)
    assert second.reused
    assert (second.store, second.rows_computed, second.rows_resumed) == (first.store, 0, 12)


class OnADevice:
    """Pixels, as from an engine that computes beside the program; `events` are what was asked of it."""

    def __init__(self, extractor: Extractor) -> None:
        self.batch_size, self.shapes = extractor.batch_size, extractor.shapes
        self._extractor, self.events = extractor, list[str]()

    def __call__(self, pixels: NDArray[np.uint8]) -> Features:
        return self.dispatch(pixels)()

    def dispatch(self, pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        number = sum(event.startswith("begin") for event in self.events)
        self.events.append(f"begin {number}")

        def fetch() -> Features:
            self.events.append(f"fetch {number}")
            return self._extractor(pixels)

        return fetch


@pytest.mark.parametrize("unit", [4, 8])
def test_the_next_batch_is_with_the_device_before_one_is_fetched(
    folder: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int
) -> None:
    monkeypatch.setattr("probe.extract.run.unit_rows", lambda *_: unit)
    plain = extract(pixels_job(folder, home), home)
    device, load = [], backbones.load
    monkeypatch.setattr(
        backbones, "load", lambda *args, **named: device.append(OnADevice(load(*args, **named))) or device[0]
    )
    other = Home(tmp_path / "other")
    beside = extract(pixels_job(folder, other), other)
    assert device[0].events == ["begin 0", "begin 1", "fetch 0", "begin 2", "fetch 1", "fetch 2"]
    one, two = (read_manifest(LocalFiles(Path(result.path))) for result in (plain, beside))
    assert one.digest == two.digest


def other_backbone(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, name="other"))


def other_weights(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, weights="sha256:" + 64 * "0"))


def other_size(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, size=17))


def other_preprocess(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, preprocess="tf"))


def other_output(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, outputs=("pixels:map",)))


def other_precision(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, precision="bf16"))


def other_engine(job: ExtractJob) -> ExtractJob:
    return replace(job, backbone=replace(job.backbone, engine="another"))


def other_exif(job: ExtractJob) -> ExtractJob:
    return replace(job, exif=True)


def other_dtype(job: ExtractJob) -> ExtractJob:
    return replace(job, dtype="float16")


def one_image_changed(job: ExtractJob) -> ExtractJob:
    hashes = job.dataset.hashes.copy()
    hashes[3] = 64 * "0"
    return replace(job, dataset=replace(job.dataset, hashes=hashes))


def one_image_renamed(job: ExtractJob) -> ExtractJob:
    ids = np.array(["renamed.png" if row == 3 else name for row, name in enumerate(job.dataset.ids)])
    return replace(job, dataset=replace(job.dataset, ids=ids))


def one_image_fewer(job: ExtractJob) -> ExtractJob:
    return replace(job, dataset=job.dataset.take(np.arange(11)))


def another_order(job: ExtractJob) -> ExtractJob:
    return replace(job, dataset=job.dataset.take(np.arange(12)[::-1]))


KEYED = [
    other_backbone,
    other_weights,
    other_size,
    other_preprocess,
    other_output,
    other_precision,
    other_engine,
    other_exif,
    other_dtype,
    one_image_changed,
    one_image_renamed,
    one_image_fewer,
    another_order,
]


@pytest.mark.parametrize("change", KEYED, ids=lambda change: change.__name__)
def test_whatever_changes_the_features_changes_the_key(folder: Path, home: Home, change: object) -> None:
    job = pixels_job(folder, home)
    assert change(job).spec().key != job.spec().key  # type: ignore[operator]


def test_every_field_of_a_backbone_is_in_the_key_but_path_reason_and_wish(home: Home) -> None:
    spec = resolve("pixels", home=home)
    fields = set(BackboneSpec.__dataclass_fields__) - {"asked_engine", "weights_path", "precision_reason"}
    assert set(replace(spec, engine="another").key_part()) == fields
    # Stores from before engines had names are keyed without one.
    assert set(spec.key_part()) == fields - {"engine"}


@pytest.mark.parametrize("field", ["labels", "splits", "batch"])
def test_labels_splits_and_batch_do_not_change_the_key(folder: Path, home: Home, field: str) -> None:
    job = pixels_job(folder, home)
    data: Dataset = job.dataset
    other = {
        "labels": replace(job, dataset=replace(data, labels=data.labels[::-1].copy())),
        "splits": replace(job, dataset=replace(data, splits=data.splits[::-1].copy())),
        "batch": replace(job, batch_size=7),
    }[field]
    assert other.spec().key == job.spec().key


def test_relabelling_reuses_the_features_and_takes_the_new_labels(folder: Path, home: Home) -> None:
    first = extract(pixels_job(folder, home), home)
    labels = folder.parent / "labels.csv"
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    labels.write_text("path,label\n" + "".join(f"{n},{'ab'[i % 2]}\n" for i, n in enumerate(names)))
    relabelled = open_dataset(str(folder), home, DatasetOptions(labels=labels))
    second = extract(replace(pixels_job(folder, home), dataset=relabelled), home)
    assert second.reused
    assert second.store == first.store
    assert find_store(home, None).index.classes.tolist() == ["a", "b"]


def test_odd_files_keep_their_rows_and_are_listed(folder: Path, home: Home) -> None:
    whole = (folder / "chelsea/0.png").read_bytes()
    (folder / "chelsea/1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "coffee/2.png").unlink()
    (folder / "coffee/text.jpg").write_text("this is no picture")
    alpha = np.zeros((20, 20, 4), np.uint8)
    Image.fromarray(alpha, "RGBA").save(folder / "astronaut/0.png")
    result = extract(pixels_job(folder, home), home)
    store = open_store(home.stores / result.store)
    assert result.rows == 12
    assert set(store.manifest.unreadable) == {"chelsea/1.png", "coffee/text.jpg"}
    features = store.features().read()
    unread = np.isin(store.index.ids, list(store.manifest.unreadable))
    assert np.isnan(features[unread]).all()
    assert np.isfinite(features[~unread]).all()
    np.testing.assert_array_equal(features[store.index.ids == "astronaut/0.png"], 1.0)  # alpha is over white
    assert verify_store(store.path, full=True).ok


def test_a_batch_of_which_nothing_can_be_read_is_a_batch_like_any_other(folder: Path, home: Home) -> None:
    for picture in (folder / "coffee").iterdir():
        picture.write_bytes(b"\x89PNG and no more")
    result = extract(pixels_job(folder, home), home)
    store = open_store(home.stores / result.store)
    assert len(store.manifest.unreadable) == 4
    assert len(store.rows()) == 8
    assert verify_store(store.path, full=True).ok
    everything = open_dataset(str(folder / "coffee"), home, DatasetOptions())
    result = extract(replace(pixels_job(folder, home), dataset=everything), home)
    assert len(open_store(home.stores / result.store).rows()) == 0


def test_an_image_that_changes_after_indexing_is_not_used(folder: Path, home: Home) -> None:
    job = pixels_job(folder, home)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "coffee/1.png")
    result = extract(job, home)
    assert result.unreadable == 1
    reason = find_store(home, None).manifest.unreadable["coffee/1.png"][1]
    assert "changed" in reason


def test_a_damaged_finished_store_is_repaired_by_the_same_command(folder: Path, home: Home) -> None:
    job = pixels_job(folder, home)
    result = extract(job, home)
    store = home.stores / result.store
    chunk = store / "data.zarr/features/pixels/c/0/0"
    before = chunk.read_bytes()
    chunk.unlink()
    again = extract(job, home)
    assert not again.reused
    assert again.rows_computed == 12
    assert chunk.read_bytes() == before
    assert verify_store(store, full=True).ok


def test_an_estimate_writes_nothing_and_counts_the_bytes_that_come(folder: Path, home: Home) -> None:
    job = pixels_job(folder, home)
    plan = estimate(job, home)
    assert not home.stores.exists()
    result = extract(job, home)
    written = sum(
        f.stat().st_size for f in (home.stores / result.store / "data.zarr").rglob("c/**/*") if f.is_file()
    )
    assert plan.bytes == written
    assert estimate(job, home).exists


def test_kill_minus_nine_then_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    """The real thing: a process killed while it writes, over several units."""
    rng = np.random.default_rng(0)
    npz = tmp_path / "many.npz"
    parts = {}
    for split, count in (("train", 1500), ("val", 250), ("test", 250)):
        parts[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        parts[f"{split}_labels"] = rng.integers(0, 2, (count, 1), np.uint8)
    np.savez(npz, **parts)

    def start(home: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "probe", "--home", str(home), "extract", "--backbone", "pixels"]
        return subprocess.Popen([*command, "--size", "96", str(npz)], cwd=PROJECT, stdout=subprocess.DEVNULL)

    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    assert start(undisturbed).wait() == 0
    process = start(disturbed)
    deadline = time.monotonic() + 60
    while not list(disturbed.glob("stores/*/data.zarr/features/pixels/c/1/0")):
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    home = Home(disturbed)
    assert not list(disturbed.glob("stores/*/MANIFEST.json"))
    result = extract(ExtractJob(open_dataset(str(npz), home), resolve("pixels", size=96, home=home)), home)
    assert 0 < result.rows_resumed < 2000
    assert result.rows_resumed + result.rows_computed == 2000
    (one,), (other,) = undisturbed.glob("stores/*"), disturbed.glob("stores/*")
    files = sorted(p.relative_to(one) for p in (one / "data.zarr").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in (other / "data.zarr").rglob("*") if p.is_file())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_turned_images_are_counted_in_the_store_whoever_computed_them(
    folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.extract.run.unit_rows", lambda *_: 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b", "c"):
        Image.new("RGB", (30, 20), "red").save(folder / "coffee" / f"{name}.jpg", exif=exif)
    job = pixels_job(folder, home)
    first = extract(job, home, shard=Shard(0, 2))
    assert not first.finished
    result = extract(job, home, shard=Shard(1, 2))
    assert result.turned == 3
    assert any("3 images with an EXIF orientation: it was ignored" in line for line in result.lines())
    assert find_store(home, None).manifest.facts["exif_turned"] == 3
    again = extract(job, home)
    assert (again.reused, again.turned) == (True, 3)
    turned = extract(replace(job, exif=True), home)
    assert turned.key != result.key
    assert any("they were turned" in line for line in turned.lines())
