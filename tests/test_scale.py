"""One store from several writers, and several views from one pass."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from probe.backbones import resolve
from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import DataError, UsageError
from probe.extract import (
    ExtractJob,
    Shard,
    Views,
    extract,
    extract_in_processes,
    extract_on_cluster,
)
from probe.images.augment import draw, parse_augment, transform_pixels, view_seed
from probe.store import find_store, open_store, verify_store

PROJECT = Path(__file__).parents[1]


def make_npz(path: Path, train: int, val: int, test: int, side: int = 8) -> Path:
    rng = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        parts[f"{split}_images"] = rng.integers(0, 256, (count, side, side, 3), np.uint8)
        parts[f"{split}_labels"] = rng.integers(0, 2, (count, 1), np.uint8)
    np.savez(path, **parts)
    return path


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_npz(tmp_path_factory.mktemp("npz") / "set.npz", 700, 150, 150)


def job_on(npz: Path, home: Home, size: int = 16, **changes: object) -> ExtractJob:
    job = ExtractJob(open_dataset(str(npz), home), resolve("pixels", size=size, home=home))
    return replace(job, **changes)


@pytest.fixture(scope="module")
def single(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("single"))
    return Path(extract(job_on(npz, home), home).path)


def assert_same_bytes(one: Path, other: Path) -> None:
    files = sorted(p.relative_to(one) for p in (one / "data.zarr").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in (other / "data.zarr").rglob("*") if p.is_file())
    assert [f for f in files if (one / f).read_bytes() != (other / f).read_bytes()] == []


def test_shards_fill_one_store_and_the_last_seals_it(npz: Path, home: Home, single: Path) -> None:
    job = job_on(npz, home)
    first = extract(job, home, shard=Shard(1, 3))
    assert not first.finished
    assert first.rows_computed == 256
    assert not extract(job, home, shard=Shard(0, 3)).finished
    last = extract(job, home, shard=Shard(2, 3))
    assert last.finished
    assert_same_bytes(single, Path(last.path))
    assert verify_store(Path(last.path), full=True).ok


def test_local_processes_give_the_same_bytes_as_one(npz: Path, home: Home, single: Path) -> None:
    result = extract_in_processes(job_on(npz, home), home, 2)
    assert result.finished
    assert result.rows_computed == 1000
    assert_same_bytes(single, Path(result.path))
    assert extract_in_processes(job_on(npz, home), home, 2).reused


def test_a_network_gives_the_same_bytes_in_shards_and_beside_copied_rows(npz: Path, tmp_path: Path) -> None:
    """In the arithmetic this machine would choose, which is where bits could differ."""
    alone, home = Home(tmp_path / "alone"), Home(tmp_path / "home")
    data = open_dataset(str(npz), home).take(np.arange(300))
    job = ExtractJob(data, resolve("vgg16", size=32, weights="random", home=home), batch_size=32)
    extract(replace(job, dataset=data.take(np.arange(7, 300))), alone)
    grown = extract(job, alone)
    assert (grown.rows_computed, grown.rows_copied, grown.passed_over) == (7, 293, {})
    extract(job, home, shard=Shard(1, 2))
    assert_same_bytes(Path(grown.path), Path(extract(job, home, shard=Shard(0, 2)).path))


def start_worker(address: str) -> subprocess.Popen[bytes]:
    options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, *options]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_dask_worker_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    from distributed import LocalCluster

    npz = make_npz(tmp_path / "many.npz", 2500, 250, 250)
    alone, home = Home(tmp_path / "alone"), Home(tmp_path / "home")
    expected = Path(extract(job_on(npz, alone, size=96), alone).path)
    job = job_on(npz, home, size=96)
    with LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as cluster:
        workers = [start_worker(cluster.scheduler_address) for _ in range(2)]
        try:
            deadline = time.monotonic() + 60
            while len(cluster.scheduler.workers) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            results = []
            thread = Thread(
                target=lambda: results.append(extract_on_cluster(job, home, cluster.scheduler_address))
            )
            thread.start()
            while not list(home.root.glob("stores/*/commits/1of2.jsonl")):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(workers[1].pid, signal.SIGKILL)
            assert not list(home.root.glob("stores/*/MANIFEST.json")), "finished before the worker was killed"
            thread.join(timeout=120)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    (result,) = results
    assert result.finished
    assert_same_bytes(expected, Path(result.path))


def test_no_scheduler_is_one_clear_message(npz: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.cluster.CONNECT_S", 0.2)
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        extract_on_cluster(job_on(npz, home), home, "tcp://127.0.0.1:1")


def test_another_program_in_the_scheduler_s_place_is_one_clear_message(npz: Path, home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            taken, _ = server.accept()
            with taken:
                taken.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        Thread(target=answer, daemon=True).start()
        with pytest.raises(UsageError, match="no Dask scheduler answers"):
            extract_on_cluster(job_on(npz, home), home, f"tcp://127.0.0.1:{server.getsockname()[1]}")


VIEWS = Views(3, parse_augment("flip,rotate=20,zoom=0.2"), seed=5)


@pytest.fixture(scope="module")
def viewed(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home(tmp_path_factory.mktemp("viewed"))
    return Path(extract(job_on(npz, home, views=VIEWS), home).path)


def test_views_are_of_the_training_part_and_the_plain_view_of_every_image(viewed: Path, single: Path) -> None:
    store, plain = open_store(viewed), open_store(single)
    assert store.view_count == 3
    np.testing.assert_array_equal(store.features().read(), plain.features().read())
    train = store.rows("train")
    assert np.flatnonzero(store.viewed).tolist() == train.tolist()
    views = store.features(view=2).read()
    assert np.isfinite(views[train]).all()
    assert np.isnan(np.delete(views, train, axis=0)).all()
    assert verify_store(viewed, full=True).ok


def test_a_view_is_that_of_its_own_seed_whatever_batch_it_was_in(viewed: Path, npz: Path, home: Home) -> None:
    store = open_store(viewed)
    job = job_on(npz, home, views=VIEWS)
    row = int(store.rows("train")[123])
    from probe.images.decode import resize

    pixels = resize(np.asarray(job.dataset.source.read(row)), 16)[None]
    seed = np.array([view_seed(5, str(job.dataset.hashes[row]), 3)], np.uint64)
    expected = transform_pixels(pixels, draw(VIEWS.augment, seed), VIEWS.augment.fill).numpy() / 255
    found = store.features(view=3).read(np.array([row]))
    np.testing.assert_allclose(found[0], expected.ravel(), atol=1e-6)
    assert not np.allclose(found, store.features(view=2).read(np.array([row])))


def test_shards_give_the_same_views_as_one_process(npz: Path, home: Home, viewed: Path) -> None:
    job = job_on(npz, home, views=VIEWS)
    extract(job, home, shard=Shard(0, 2))
    assert_same_bytes(viewed, Path(extract(job, home, shard=Shard(1, 2)).path))


@pytest.mark.parametrize(
    "other",
    [
        replace(VIEWS, count=2),
        replace(VIEWS, seed=6),
        replace(VIEWS, augment=parse_augment("flip")),
        replace(VIEWS, everywhere=True),
        None,
    ],
)
def test_every_part_of_the_views_is_in_the_key(npz: Path, home: Home, other: Views | None) -> None:
    job = job_on(npz, home, views=VIEWS)
    assert replace(job, views=other).spec().key != job.spec().key


def test_the_rows_that_have_views_are_in_the_key(npz: Path, home: Home) -> None:
    job = job_on(npz, home, views=VIEWS)
    splits = job.dataset.splits.copy()
    splits[np.flatnonzero(splits == "train")[:10]] = "test"
    moved = replace(job, dataset=replace(job.dataset, splits=splits))
    assert moved.spec().key != job.spec().key
    assert replace(moved, views=None).spec().key == replace(job, views=None).spec().key


def test_views_need_a_training_part(npz: Path, home: Home) -> None:
    job = job_on(npz, home)
    nothing = replace(job.dataset, splits=np.full(1000, ""))
    with pytest.raises(DataError, match="no training part"):
        replace(job, dataset=nothing, views=VIEWS)


def test_features_can_be_kept_in_half_precision(npz: Path, home: Home, single: Path) -> None:
    extract(job_on(npz, home, dtype="float16"), home)
    half, full = find_store(home, None), open_store(single)
    assert half.features().read().dtype == np.float32
    np.testing.assert_allclose(half.features().read(), full.features().read(), atol=5e-4)
    assert half.manifest.layout.total_bytes() < 0.6 * full.manifest.layout.total_bytes()


def test_views_are_copied_with_their_rows(npz: Path, home: Home, tmp_path: Path) -> None:
    """A view depends on neither the part nor the number of views; a row that never had any is computed."""
    job, alone = job_on(npz, home, views=VIEWS), Home(tmp_path / "alone")
    data = job.dataset.take(np.r_[0:300, 700:1000])
    extract(replace(job, dataset=data.take(np.arange(590))), home)
    splits = np.where(np.arange(600) % 3 == 0, "train", "val")
    for changed, known in (
        (replace(job, dataset=data), 590),
        (replace(job, dataset=data, views=replace(VIEWS, count=2)), 600),
        (replace(job, dataset=replace(data, splits=splits)), 100 + 400),
        (replace(job, dataset=data, views=None), 600),
        (replace(job, dataset=data, views=replace(VIEWS, seed=6)), 300),
    ):
        result = extract(changed, home)
        assert (result.rows_copied, result.rows_computed) == (known, 600 - known)
        assert_same_bytes(Path(extract(changed, alone).path), Path(result.path))
        shutil.rmtree(alone.root)
