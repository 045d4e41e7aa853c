"""An engine whose bits change is another one: work by the earlier one is used, continued and never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones import BACKBONES, BackboneSpec, by_any_engine, engines, resolve, respecify, row_of
from probe.backbones.backbone import KERAS, KERAS_FILE, Backbone
from probe.backbones.engines import ENGINES, Engine, choose_engine, named_engine
from probe.config import Home
from probe.datasets import open_dataset
from probe.errors import UsageError
from probe.extract import ExtractJob, Shard, estimate, extract, settle_engine
from probe.finetune.run import finetune
from probe.fit.fit import FitJob, fit
from probe.fit.predict import recorded_backbone
from probe.registry import Registry
from probe.store import Store, open_store
from tests.shell import Shell
from tests.tiny_tuning import tiny_job, write_material

IMAGES = 300
"""More than one unit of rows."""


class Means:
    """The mean colour of every picture, and what tells the engine that computed it."""

    shift = 0.0

    def __init__(self, row: Backbone, spec: BackboneSpec, batch_size: int, home: Home | None) -> None:
        self.batch_size = batch_size
        self.shapes: Mapping[str, tuple[int, ...]] = dict.fromkeys(spec.outputs, (3,))

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {output: pixels.mean((1, 2), dtype=np.float32) + self.shift for output in self.shapes}


class ShiftedMeans(Means):
    shift = 1000.0


def row(name: str, kind: type[Means], needs: tuple[str, ...] = ()) -> Engine:
    served = {KERAS: ("fp32", "bf16"), KERAS_FILE: ("fp32",)}
    return Engine(name, f"{__name__}:{kind.__name__}", served, needs, bit_stable=True)


EARLIER, LATER = row("means", Means), row("means-2", ShiftedMeans)


def table_of(monkeypatch: pytest.MonkeyPatch, *rows: Engine) -> None:
    monkeypatch.setattr(engines, "ENGINES", Registry("engine", [*rows, *ENGINES.values()]))


@pytest.fixture
def two_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    table_of(monkeypatch, LATER, EARLIER)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    splits = {"train": slice(0, 200), "test": slice(200, IMAGES)}
    arrays = {f"{part}_images": pixels[rows] for part, rows in splits.items()}
    arrays |= {f"{part}_labels": np.arange(IMAGES)[rows] % 2 for part, rows in splits.items()}
    np.savez(tmp_path / "pictures.npz", **arrays)
    return tmp_path / "pictures.npz"


def job_of(pictures: Path, home: Home, engine: str = "auto") -> ExtractJob:
    spec = resolve("efficientnet-lite0", size=32, weights="random", precision="fp32", home=home)
    if engine != "auto":
        spec = replace(spec, engine=engine, asked_engine="")
    return ExtractJob(open_dataset(str(pictures), home), spec, batch_size=32)


def stores(home: Home) -> list[Store]:
    return [open_store(path) for path in sorted(home.stores.glob("*-*"))]


def by_later(store: Store) -> bool:
    return bool(store.features().read().min() >= ShiftedMeans.shift)


@pytest.mark.usefixtures("two_versions")
def test_new_work_is_by_the_later_version(pictures: Path, home: Home) -> None:
    assert resolve("resnet50", weights="random", precision="fp32", home=home).engine == "means-2"
    asked = resolve("resnet50", weights="random", precision="fp32", engine="means", home=home)
    assert asked.engine == "means-2"
    assert [spec.engine for spec in by_any_engine(row_of(asked), asked)] == ["means-2", "means"]
    extract(job_of(pictures, home), home)
    assert by_later(stores(home)[0])


@pytest.mark.usefixtures("two_versions")
def test_a_record_means_the_engine_it_names(home: Home) -> None:
    lite0 = resolve("efficientnet-lite0", precision="fp32", home=home)
    for name in ("means", "means-2", "tensorflow"):
        spec = BackboneSpec.from_json(replace(lite0, engine=name).key_part())
        assert spec.engine == name
        assert by_any_engine(row_of(spec), spec) == [spec]
        again = respecify(replace(spec, weights_path=lite0.weights_path), precision="fp32")
        assert (again.engine, by_any_engine(row_of(again), again)) == (name, [again])


def test_an_engine_that_does_not_compute_another_precision_is_not_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_only = replace(EARLIER, name="halves", serves={KERAS: ("bf16",)})
    table_of(monkeypatch, half_only)
    spec = resolve("efficientnet-lite0", precision="fp32", home=home)
    assert respecify(replace(spec, engine="halves"), precision="fp32").engine == spec.engine


@pytest.mark.usefixtures("two_versions")
def test_a_finished_store_of_the_earlier_version_is_not_computed_anew(pictures: Path, home: Home) -> None:
    earlier = extract(job_of(pictures, home, "means"), home)
    assert estimate(job_of(pictures, home), home).exists
    again = extract(job_of(pictures, home), home)
    assert (again.reused, again.path) == (True, earlier.path)
    assert len(stores(home)) == 1


@pytest.mark.usefixtures("two_versions")
def test_features_of_another_precision_are_not_taken(pictures: Path, home: Home) -> None:
    extract(job_of(pictures, home, "means"), home)
    job = job_of(pictures, home)
    half = replace(job, backbone=replace(job.backbone, precision="bf16"))
    assert settle_engine(half, home).backbone.engine == "means-2"
    assert settle_engine(job, home).backbone.engine == "means"


@pytest.mark.usefixtures("two_versions")
def test_one_engine_meant_is_that_engine(pictures: Path, home: Home) -> None:
    earlier, later = (extract(job_of(pictures, home, name), home) for name in ("means", "means-2"))
    assert not later.reused
    assert later.path != earlier.path
    # With both there, the first choice of the table is taken.
    assert extract(job_of(pictures, home), home).path == later.path


@pytest.mark.usefixtures("two_versions")
def test_an_unfinished_store_goes_on_by_the_engine_that_began_it(
    pictures: Path, home: Home, tmp_path: Path
) -> None:
    extract(job_of(pictures, home, "means"), home, shard=Shard(0, 2))
    result = extract(job_of(pictures, home), home)
    assert (result.rows_resumed, result.rows_computed) == (256, IMAGES - 256)
    whole = Home(tmp_path / "whole")
    extract(job_of(pictures, whole, "means"), whole)
    (mixed,), (undisturbed,) = stores(home), stores(whole)
    np.testing.assert_array_equal(mixed.features().read(), undisturbed.features().read())


@pytest.mark.usefixtures("two_versions")
def test_what_is_finished_goes_before_what_is_begun(pictures: Path, home: Home) -> None:
    extract(job_of(pictures, home, "means-2"), home, shard=Shard(0, 2))
    extract(job_of(pictures, home, "means"), home, shard=Shard(1, 2))
    assert settle_engine(job_of(pictures, home), home).backbone.engine == "means-2"
    extract(job_of(pictures, home, "means"), home)
    assert settle_engine(job_of(pictures, home), home).backbone.engine == "means"


def test_an_engine_that_is_not_installed_serves_by_what_it_finished_alone(
    pictures: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table_of(monkeypatch, EARLIER, LATER)
    begun = Home(tmp_path / "begun")
    extract(job_of(pictures, home, "means-2"), home)
    extract(job_of(pictures, begun, "means-2"), begun, shard=Shard(0, 2))
    table_of(monkeypatch, EARLIER, replace(LATER, needs=("no_such_module",)))
    assert extract(job_of(pictures, home), home).reused
    assert extract(job_of(pictures, begun), begun).rows_computed == IMAGES


@pytest.mark.usefixtures("two_versions")
def test_the_command_says_which_engine_it_uses(
    pictures: Path, shell: Shell, tmp_path: Path, home: Home
) -> None:
    extract(job_of(pictures, home, "means"), home)
    line = f"extract --backbone efficientnet-lite0 --size 32 --weights random --precision fp32 {pictures}"
    assert "reused" in shell(*line.split())
    assert "features by the engine means are here and used; new ones would be by means-2" in shell.error


@pytest.mark.usefixtures("two_versions")
def test_a_run_predicts_by_the_engine_of_its_store(pictures: Path, home: Home) -> None:
    store = open_store(Path(extract(job_of(pictures, home, "means"), home).path))
    run = fit(FitJob(store, head="majority"), home)
    assert recorded_backbone(run, home).engine == "means"


def test_fine_tuning_goes_on_with_the_engine_it_was_begun_with(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run is known again, and its cache used, when a later version comes first in the table."""
    folder = write_material(tmp_path)
    job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    first = finetune(job, home)
    table_of(monkeypatch, LATER)
    later = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    assert later.backbone.engine == "means-2"
    assert finetune(later, home, resume=True).name == first.name
    said: list[str] = []
    anew = finetune(later, home, say=said.append)
    assert any("here and used" in line for line in said)
    assert anew.record.backbone == first.record.backbone
    assert len(stores(home)) == 2  # the embeddings and the cache, neither twice


def test_what_no_engine_computes_keeps_its_identity(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_material(tmp_path)
    choices: dict[str, Any] = {"unfreeze": "conv3", "epochs": 1, "prefix_cache": False}
    first = finetune(tiny_job(folder, home, **choices), home)
    table_of(monkeypatch, LATER)
    assert finetune(tiny_job(folder, home, **choices), home, resume=True).name == first.name


@pytest.mark.usefixtures("two_versions")
def test_names_of_engines() -> None:
    lite0 = BACKBONES["efficientnet-lite0"]
    assert named_engine(lite0, "fp32", "means").name == "means"
    assert choose_engine(lite0, "fp32", "means").name == "means-2"
    assert choose_engine(lite0, "fp32", "means-2").name == "means-2"
    with pytest.raises(UsageError, match="the engine means-2 does not compute"):
        named_engine(lite0, "fp16", "means-2")
