"""Large JPEGs decoded at a fraction: close to what they were, and never taken for it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probe.backbones import resolve
from probe.config import Home
from probe.datasets import Dataset, open_dataset
from probe.datasets.sources import FileSource
from probe.extract import ExtractJob, Shard, estimate, extract, training_standardisation
from probe.finetune.headstart import embeddings
from probe.fit import predict
from probe.fit.fit import FitJob, fit
from probe.images.decode import ImageError, decode, decode_to
from probe.images.path import IN_FULL, SCALED_FROM, PixelPath, recorded_path
from probe.jpeg import jpeg_side
from probe.runs import Run
from probe.store import Store, open_store, verify_store
from probe.train.pixels import PictureRows, open_pictures, read_pixels
from tests.shell import Shell

SCALED = PixelPath(scaled=True)
SIZE = 16
SMALLEST = SCALED_FROM * SIZE
"""Shorter side of the smallest picture that is decoded at a fraction for `SIZE`."""


def encode(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(pixels: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def to(raw: Any, size: int, path: PixelPath) -> NDArray[np.int64]:
    return decode_to(raw, size, path)[0].astype(int)


# ---- pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "progressive", "grey", "no subsampling"])
def test_a_photograph_of_12_megapixels_differs_by_three_grey_levels_at_most(
    photographs: dict[str, NDArray[np.uint8]], kind: str
) -> None:
    options: dict[str, Any] = {"progressive": {"progressive": True}, "no subsampling": {"subsampling": 0}}
    image = photo(photographs["coffee"], 4000, 3000)
    raw = encode(image.convert("L") if kind == "grey" else image, quality=90, **options.get(kind, {}))
    difference = np.abs(to(raw, 224, SCALED) - to(raw, 224, IN_FULL))
    assert 0 < difference.max() <= 3
    assert difference.mean() < 0.25


def test_a_sharp_picture_that_is_just_large_enough_differs_little() -> None:
    from skimage import data

    raw = encode(Image.fromarray(data.retina()), quality=90)
    assert jpeg_side(raw) == 1411
    difference = np.abs(to(raw, 224, SCALED) - to(raw, 224, IN_FULL))
    assert 0 < difference.max() <= 4
    assert difference.mean() < 0.25


@pytest.mark.parametrize("sides", [(SMALLEST - 1, SMALLEST - 1), (10 * SMALLEST, SMALLEST - 1), (24, 24)])
def test_a_picture_that_is_small_in_one_direction_keeps_its_bits(
    photographs: dict[str, NDArray[np.uint8]], sides: tuple[int, int]
) -> None:
    raw = encode(photo(photographs["chelsea"], *sides), quality=90)
    np.testing.assert_array_equal(to(raw, SIZE, SCALED), to(raw, SIZE, IN_FULL))


def test_cmyk_and_other_formats_keep_their_bits(photographs: dict[str, NDArray[np.uint8]]) -> None:
    image = photo(photographs["coffee"], 400, 300)
    others = {
        "CMYK": encode(image.convert("CMYK")),
        "PNG": encode(image, "PNG"),
        "WEBP": encode(image, "WEBP"),
        "TIFF": encode(image, "TIFF", compression="jpeg"),
        "array": np.asarray(image),
    }
    for name, raw in others.items():
        assert jpeg_side(raw) == 0, name
        np.testing.assert_array_equal(to(raw, SIZE, SCALED), to(raw, SIZE, IN_FULL), name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_the_picture_and_not_to_its_padding(
    photographs: dict[str, NDArray[np.uint8]], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # At 1/8 the last pixel of both sides stands for one pixel of eight.
    raw = encode(photo(photographs["chelsea"][::50, ::50], 641, 521), exif=exif, quality=95)
    for asked in (True, False):
        path = PixelPath(exif=asked, scaled=True)
        found, turned = decode_to(raw, SIZE, path)
        assert turned == (orientation > 1)
        difference = np.abs(found.astype(int) - to(raw, SIZE, replace(path, scaled=False)))
        assert difference.max() <= 3


def test_the_first_of_several_pictures_of_a_camera_is_scaled(
    photographs: dict[str, NDArray[np.uint8]],
) -> None:
    first, second = (photo(photographs[name], 400, 300) for name in ("coffee", "chelsea"))
    raw = encode(first, "MPO", save_all=True, append_images=[second])
    assert jpeg_side(raw) == 300
    difference = np.abs(to(raw, SIZE, SCALED) - to(encode(first), SIZE, IN_FULL))
    assert 0 < difference.max() <= 4


def test_a_large_file_that_is_cut_off_is_an_error(photographs: dict[str, NDArray[np.uint8]]) -> None:
    raw = encode(photo(photographs["coffee"], 640, 480), quality=90)
    for kept in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError):
            decode_to(raw[: int(kept * len(raw))], SIZE, SCALED)


def test_a_header_says_what_pillow_says_or_nothing(photographs: dict[str, NDArray[np.uint8]]) -> None:
    image = photo(photographs["coffee"], 70, 50)
    raw = encode(image, exif=b"Exif\0\0" + bytes(3000), comment=b"\xff\xc0 words", icc_profile=bytes(90_000))
    assert jpeg_side(raw) == 50
    assert jpeg_side(raw[:2] + b"\xff\xff\xff" + raw[2:]) == 50
    for length in range(0, 95_000, 977):
        assert jpeg_side(raw[:length]) in (0, 50)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(encode(image))
        for place in rng.integers(2, 200, 3):
            damaged[place] = int(rng.integers(256))
        side = jpeg_side(bytes(damaged))
        try:
            pixels = decode(bytes(damaged))
        except ImageError:
            continue
        assert side in (0, min(pixels.shape[:2]))


# ---- stores ----------------------------------------------------------------------------------------------


def before(data: Dataset) -> Dataset:
    """The data set as it was opened when every picture was decoded in full."""
    return replace(data, jpeg_sides=None)


def job_on(data: Dataset, home: Home) -> ExtractJob:
    return ExtractJob(data, resolve("pixels", size=SIZE, home=home), batch_size=4)


def make_folder(root: Path, photographs: dict[str, NDArray[np.uint8]], large: int) -> Path:
    """Twelve photographs in three class folders, split by a folder above; `large` of each class are large."""
    for part, numbers in (("train", range(2)), ("test", range(2, 4))):
        for name, pixels in photographs.items():
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in numbers:
                crop = pixels[i * 20 : i * 20 + 200, i * 20 : i * 20 + 200]
                side = 3 * SMALLEST if i >= 4 - large else SMALLEST - 1
                photo(crop, side + 5, side).save(root / part / name / f"{i}.jpg", quality=90)
    return root


@pytest.fixture
def small(tmp_path: Path, photographs: dict[str, NDArray[np.uint8]]) -> Path:
    return make_folder(tmp_path / "small", photographs, large=0)


@pytest.fixture
def mixed(tmp_path: Path, photographs: dict[str, NDArray[np.uint8]]) -> Path:
    return make_folder(tmp_path / "mixed", photographs, large=1)


def features(store: Store) -> NDArray[np.float32]:
    return store.features().read(np.arange(store.manifest.layout.rows))


def test_a_store_of_small_pictures_is_the_one_it_always_was(small: Path, home: Home) -> None:
    data = open_dataset(str(small), home)
    first = extract(job_on(before(data), home), home)
    again = extract(job_on(data, home), home)
    assert again.reused
    assert again.store == first.store
    pixels = open_store(Path(again.path)).manifest.spec["pixels"]
    assert pixels == {"policy": "pillow-1", "resize": "stretch", "exif": False}


def test_an_older_store_of_large_pictures_is_not_reused(mixed: Path, home: Home) -> None:
    data = open_dataset(str(mixed), home)
    assert not estimate(job_on(data, home), home).exists
    old = extract(job_on(before(data), home), home)
    new = extract(job_on(data, home), home)
    assert not new.reused
    # Of the small ones the rows are the same.
    assert (new.rows_computed, new.rows_copied, new.rows_resumed) == (3, 9, 0)
    assert estimate(job_on(data, home), home).exists
    stores = [open_store(Path(result.path)) for result in (old, new)]
    assert [store.manifest.spec["pixels"]["policy"] for store in stores] == ["pillow-1", "pillow-2"]
    for store in stores:
        assert verify_store(store.path, full=True).ok
    difference = np.abs(features(stores[0]) - features(stores[1])).max(axis=1) * 255
    large = data.jpeg_sides >= SMALLEST
    assert large.sum() == 3
    assert (difference[~large] == 0).all()
    assert (difference[large] > 0).all()
    assert difference.max() <= 8


def test_large_pictures_decide_for_the_rows_that_are_taken(mixed: Path, home: Home) -> None:
    data = open_dataset(str(mixed), home)
    rows = np.flatnonzero(data.jpeg_sides < SMALLEST)
    assert job_on(data, home).pixels.scaled
    assert not job_on(data.take(rows), home).pixels.scaled
    # At another size of the network other pictures are large.
    job = job_on(data, home)
    assert not replace(job, backbone=replace(job.backbone, size=4 * SIZE)).pixels.scaled


def test_shards_and_what_was_resumed_give_the_same_store(mixed: Path, tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("whole", "parts")]
    jobs = [job_on(open_dataset(str(mixed), home), home) for home in homes]
    whole = extract(jobs[0], homes[0])
    for number in (1, 0):
        part = extract(jobs[1], homes[1], shard=Shard(number, 2))
    assert part.finished
    assert part.key == whole.key
    first, second = (open_store(Path(result.path)) for result in (whole, part))
    np.testing.assert_array_equal(features(first), features(second))


def test_stores_that_differ_in_nothing_else_are_told_apart(mixed: Path, shell: Shell) -> None:
    home = Home(shell.home)
    data = open_dataset(str(mixed), home)
    for each in (before(data), data):
        extract(job_on(each, home), home)
    shell("stores", "show", "mixed-pixels", code=2)
    assert "decoding pillow-1" in shell.error
    assert "decoding pillow-2" in shell.error


# ---- what is remembered of files -------------------------------------------------------------------------


def test_headers_are_remembered_and_an_older_memory_is_not_believed(
    mixed: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in mixed.rglob("*.jpg"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    first = open_dataset(str(mixed), home)
    sides = [min(decode(first.source.read(row)).shape[:2]) for row in range(len(first))]
    assert first.jpeg_sides is not None
    assert first.jpeg_sides.tolist() == sides
    reads = []
    read = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, row: reads.append(row) or read(self, row))
    np.testing.assert_array_equal(open_dataset(str(mixed), home).jpeg_sides, sides)
    assert reads == []
    (file,) = (home.cache / "index").iterdir()
    with np.load(file) as stored:
        older = {name: stored[name] for name in stored.files if name != "sides"}
    np.savez(file, **older)
    np.testing.assert_array_equal(open_dataset(str(mixed), home).jpeg_sides, sides)
    assert len(reads) == 12


# ---- runs ------------------------------------------------------------------------------------------------


def fitted(data: Dataset, home: Home) -> Run:
    store = open_store(Path(extract(job_on(data, home), home).path))
    return fit(FitJob(store), home)


def way(run: Run) -> PixelPath:
    """Of new pictures to the network of a run."""
    return recorded_path(run.record.pixels, run.record.pixel_policy)


def distance(run: Run, home: Home, folder: Path) -> float:
    """Between what the run recorded of its test images and what it predicts of their files."""
    recorded = zip(run.predictions.ids.tolist(), run.predictions.probabilities, strict=True)
    found = predict(run, home, [folder / name for name in run.predictions.ids.tolist()])
    gaps = [
        max(abs(dict(said.top5)[label] - row[i]) for i, label in enumerate(run.result["classes"]))
        for said, (_, row) in zip(found, recorded, strict=True)
    ]
    return float(max(gaps))


@pytest.mark.parametrize("older", [True, False])
def test_a_run_predicts_by_the_pixels_of_its_own_store(mixed: Path, home: Home, older: bool) -> None:
    data = open_dataset(str(mixed), home)
    run = fitted(before(data) if older else data, home)
    result = dict(run.result)
    if older:
        # What wrote such stores knew of no other way.
        del result["pixel_policy"]
    run = replace(run, result=result)
    assert way(run) == PixelPath(scaled=not older)
    assert distance(run, home, mixed) < 2e-6
    other = replace(run, result={**result, "pixel_policy": "pillow-2" if older else "pillow-1"})
    vars(other)["predictions"] = run.predictions
    assert distance(other, home, mixed) > 2e-6


def test_a_run_on_small_pictures_sees_large_ones_as_the_maker_of_its_store_did(
    small: Path, home: Home
) -> None:
    data = open_dataset(str(small), home)
    run = fitted(data, home)
    assert run.result["pixels"]["policy"] == "pillow-1"
    assert way(run).scaled
    (file,) = home.stores.glob("*/MANIFEST.json")
    manifest = json.loads(file.read_text())
    del manifest["facts"]["pixel_policy"], manifest["sha256"]
    file.write_text(json.dumps(manifest))
    assert extract(job_on(data, home), home).reused
    assert not way(fitted(data, home)).scaled


# ---- training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_pixels_of_a_training_are_known_by_how_they_were_decoded(
    mixed: Path, small: Path, home: Home, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr("probe.train.pixels.MEMORY_BYTES", 0)
    for folder in (mixed, small):
        data = open_dataset(str(folder), home)
        old, new = (read_pixels(each, SIZE, home.cache).data for each in (before(data), data))
        same = folder == small
        assert (old.digest() == new.digest()) == same
        assert np.array_equal(old.train.inputs, new.train.inputs)
        assert old.test is not None
        assert new.test is not None
        assert np.array_equal(old.test.inputs, new.test.inputs) == same


def test_fine_tuning_sees_the_pixels_that_stores_are_made_of(mixed: Path, home: Home) -> None:
    data = open_dataset(str(mixed), home)
    store = open_store(Path(extract(job_on(data, home), home).path))
    _, pictures = open_pictures(data, np.arange(len(data)), SIZE, exif=False)
    expected = features(store).reshape(pictures.shape) * 255
    np.testing.assert_allclose(pictures, expected, atol=1e-3)
    on_demand = PictureRows(data, np.arange(len(data)), SIZE, exif=False)
    np.testing.assert_array_equal(on_demand[np.arange(len(data))], pictures)


def test_the_head_does_not_start_from_an_older_store_of_large_pictures(
    mixed: Path, small: Path, home: Home
) -> None:
    for folder in (mixed, small):
        data = open_dataset(str(folder), home)
        old = extract(job_on(before(data), home), home)
        found = embeddings(job_on(data, home), home)
        assert (found.name == old.store) == (folder == small)


def test_numbers_to_standardise_by_are_those_of_the_pixels_that_are_seen(mixed: Path, home: Home) -> None:
    data = open_dataset(str(mixed), home)
    data = replace(data, splits=np.full(len(data), "train"))
    pictures = np.stack([to(data.source.read(row), SIZE, SCALED) for row in range(len(data))])
    said = training_standardisation(data, SIZE).split(":")[1].split(",")
    np.testing.assert_allclose([float(mean) for mean in said], pictures.mean(axis=(0, 1, 2)), atol=1e-3)
    assert training_standardisation(before(data), SIZE) != training_standardisation(data, SIZE)
