"""What notebooks and programs call: the verbs of a workspace, with the options of the commands."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import probe
from probe.cli import cli
from probe.errors import FitOptionError, UnknownNameError, UsageError
from probe.runs import Run
from probe.store import Store, open_store, put_index, verify_store
from tests.shell import PHOTOS, PROJECT, Shell

SAMPLE = "fashion-sample"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> probe.Workspace:
    return probe.Workspace(tmp_path_factory.mktemp("space") / "home", quiet=True)


@pytest.fixture(scope="module")
def store(space: probe.Workspace) -> Store:
    return space.extract(SAMPLE, backbone="pixels", size=8, limit=300)


@pytest.fixture(scope="module")
def run(space: probe.Workspace, store: Store) -> Run:
    return space.fit("logreg", store, c=[0.1])


def test_importing_costs_nothing() -> None:
    code = "import sys, probe\ndir(probe)\nprint(len({'numpy', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "0", done.stderr


def test_a_workspace_is_imported_without_tensorflow() -> None:
    code = "import sys, probe\nprobe.Workspace('x')\nprint(len({'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "0", done.stderr


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Workbench'"):
        probe.Workbench  # noqa: B018


def test_the_home_is_the_one_of_the_environment_or_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_HOME", "/somewhere/else")
    assert probe.Workspace().home == Path("/somewhere/else")
    assert probe.Workspace("here").home == Path("here")
    monkeypatch.delenv("PROBE_HOME")
    assert probe.Workspace().home == Path("data")


def test_a_store_is_reused(space: probe.Workspace, store: Store) -> None:
    again = space.extract(SAMPLE, backbone="pixels", size=8, limit=300)
    assert again.path == store.path
    assert again.manifest.facts["created"] == store.manifest.facts["created"]


def test_a_run_is_the_one_of_the_command(
    space: probe.Workspace, store: Store, run: Run, shell: Shell
) -> None:
    shell.home = space.home
    told = shell.json("fit", "logreg", store.name, "--c", "0.1")
    for name in ("test", "val", "options", "store_key", "index", "output"):
        assert told[name] == run.result[name], name
    assert run.result["options"]["c"] == [0.1]


def test_runs_are_compared_by_themselves_or_by_name(space: probe.Workspace, store: Store, run: Run) -> None:
    other, third = space.fit("majority", store), space.fit("centroid", store)
    done = space.compare(run, other.name)
    low, high = done.interval
    assert low < done.difference < high
    assert done.shown
    assert run.name in done.verdict
    assert "test images in common" in repr(done)
    assert len(space.compare(run, other, third).comparisons) == 3
    with pytest.raises(UsageError, match="nothing to compare"):
        space.compare(run)
    with pytest.raises(UsageError, match="named twice"):
        space.compare(run, run.name)


def test_what_lies_in_the_home_is_a_list_that_is_never_out_of_date(
    space: probe.Workspace, store: Store, run: Run
) -> None:
    runs, before = space.runs, len(space.runs)
    newer = space.fit("centroid", store)
    assert len(runs) == before + 1
    assert runs.latest().path == runs[0].path == newer.path
    assert runs.latest(2).path == runs[1].path
    assert runs[run.name].path == run.path
    assert [found.path for found in space.stores][-1] == store.path
    assert space.stores["fashion"].path == space.stores.latest().path == store.path
    assert space.data[SAMPLE].classes == 10
    with pytest.raises(UnknownNameError):
        space.runs.latest(1000)
    with pytest.raises(IndexError):
        space.stores[1000]


def test_data_sets_are_opened_with_the_options_of_commands(space: probe.Workspace) -> None:
    data = space.data.open(PHOTOS, limit=8, split=(0.5, 0.25, 0.25))
    assert len(data) == 8
    with pytest.raises(UsageError, match="limit is too small"):
        space.data.open(PHOTOS, limit=0)
    with pytest.raises(UsageError, match="split_seed is too small"):
        space.data.open(PHOTOS, split_seed=-1)


def test_new_images_are_predicted_with_all_probabilities(
    space: probe.Workspace, run: Run, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    pictures = sorted(PHOTOS.rglob("*.jpg"))[:2]
    found = space.predict(run, [*pictures, broken])
    assert found.ids == [str(path) for path in (*pictures, broken)]
    assert found.labels[0] in run.result["classes"]
    assert found.labels[2] is None
    assert list(found.problems) == [str(broken)]
    assert found.probabilities.shape == (3, 10)
    assert np.allclose(found.probabilities[:2].sum(axis=1), 1, atol=1e-5)
    assert np.isnan(found.probabilities[2]).all()
    assert found.classes[int(found.probabilities[0].argmax())] == found.labels[0]
    assert len(space.predict(run.name, pictures[0])) == len(found[:1]) == 1
    with pytest.raises(UsageError, match="no file or folder"):
        space.predict(run, ["nowhere.jpg"])


def test_arrays_are_those_that_a_head_is_fitted_on(store: Store) -> None:
    X, y = store.arrays("pixels", split="train")
    assert X.dtype == np.float32
    assert X.shape == (len(y), 8 * 8 * 3)
    rows = store.rows("train")
    assert np.array_equal(X, store.features().read(rows))
    assert np.array_equal(y, store.index.labels[rows])
    assert len(store.arrays()[1]) == 300
    with pytest.raises(UnknownNameError, match="no split called 'training'"):
        store.arrays(split="training")
    with pytest.raises(UnknownNameError, match="no output of"):
        store.arrays("avg_pool")


@pytest.fixture(scope="module")
def grouped(space: probe.Workspace) -> Store:
    """A store with two unlabelled rows and with groups."""
    store = space.extract(SAMPLE, backbone="pixels", size=8, limit=40)
    labels, groups = store.index.labels.copy(), np.array([f"<g{row % 7}>" for row in range(40)])
    labels[:2] = -1
    put_index(store.path, replace(store.index, labels=labels, groups=groups))
    return open_store(store.path)


def test_rows_without_a_label_are_left_out_of_arrays_alone(grouped: Store) -> None:
    X, y = grouped.arrays()
    assert len(X) == len(y) == 38
    assert (y >= 0).all()
    frame = grouped.to_pandas()
    assert len(frame) == 40
    assert frame["label"].isna().sum() == 2
    nothing = replace(grouped.index, labels=np.full(40, -1, np.int32))
    put_index(grouped.path, nothing)
    try:
        with pytest.raises(probe.ProbeError, match="has no labels"):
            open_store(grouped.path).arrays()
    finally:
        put_index(grouped.path, grouped.index)


def test_a_store_is_a_frame_of_pandas(grouped: Store) -> None:
    frame = grouped.to_pandas(split="train")
    rows = grouped.rows("train")
    assert frame.index.name == "id"
    assert frame.index.tolist() == grouped.index.ids[rows].tolist()
    assert list(frame.columns[:4]) == ["label", "split", "group", "f0"]
    assert frame["split"].unique().tolist() == ["train"]
    assert frame["group"].tolist() == [f"<g{row % 7}>" for row in rows]
    assert np.array_equal(frame.filter(regex="^f[0-9]").to_numpy(), grouped.features().read(rows))


def test_a_store_is_a_dataset_of_xarray(grouped: Store) -> None:
    data = grouped.to_xarray()
    assert data["pixels"].dims == ("image", "pixels_feature")
    assert data.sizes["image"] == 40
    assert data["image"].values.tolist() == grouped.index.ids.tolist()
    assert data.attrs["key"] == grouped.key
    train = data["pixels"].where(data["split"] == "train", drop=True)
    assert np.array_equal(train.values, grouped.features().read(grouped.rows("train")))
    one = data.sel(image=grouped.index.ids[5])
    assert (str(one["label"].values), str(one["group"].values)) == (
        grouped.index.classes[grouped.index.labels[5]],
        "<g5>",
    )


def test_xarray_opens_the_arrays_themselves(grouped: Store) -> None:
    import xarray

    place = grouped.path / "data.zarr"
    data = xarray.open_zarr(place, group="features", consolidated=False)
    assert data["pixels"].dims == ("image", "pixels_feature")
    assert np.array_equal(data["pixels"].values, grouped.features().read())
    assert xarray.open_zarr(place, consolidated=False)["status"].dims == ("image",)


def test_a_store_from_before_there_were_names_is_the_same_store(
    space: probe.Workspace, grouped: Store
) -> None:
    """Names of dimensions are no part of a store's identity: it verifies, is resumed, and keeps its bytes."""
    import json

    records = sorted(grouped.path.glob("data.zarr/**/zarr.json"))
    named = [path.read_text() for path in records]
    for path, text in zip(records, named, strict=True):
        record = json.loads(text)
        record.pop("dimension_names", None)
        path.write_text(json.dumps(record))
    (grouped.path / "MANIFEST.json").unlink()
    chunks = {path: path.read_bytes() for path in grouped.path.glob("data.zarr/**/c/**/*") if path.is_file()}
    lost = next(iter(chunks))
    lost.unlink()
    again = space.extract(SAMPLE, backbone="pixels", size=8, limit=40)
    assert again.path == grouped.path
    assert verify_store(again.path, full=True).ok
    assert {path: path.read_bytes() for path in chunks} == chunks
    assert np.array_equal(again.to_xarray()["pixels"].values, again.features().read())
    put_index(grouped.path, grouped.index)


WRONG: dict[str, tuple[Callable[[probe.Workspace], object], type[probe.ProbeError], str]] = {
    "no such option": (
        lambda w: w.extract(SAMPLE, bakbone="pixels"),
        UnknownNameError,
        "did you mean 'backbone'",
    ),
    "no backbone": (lambda w: w.extract(SAMPLE), UsageError, "backbone has to be given"),
    "a text for a number": (
        lambda w: w.extract(SAMPLE, backbone="pixels", size="8"),
        UsageError,
        "a whole number or None",
    ),
    "a number too small": (
        lambda w: w.extract(SAMPLE, backbone="pixels", batch_size=0),
        UsageError,
        "at least 1",
    ),
    "a seed that no record takes": (
        lambda w: w.audit(w.stores.latest(), seed=1 << 63),
        UsageError,
        "below 9223372036854775808",
    ),
    "no such precision": (
        lambda w: w.extract(SAMPLE, backbone="pixels", precision="fp64"),
        UnknownNameError,
        "fp32",
    ),
    "no such layout": (
        lambda w: w.extract(SAMPLE, backbone="pixels", layout="clases"),
        UnknownNameError,
        "'classes'",
    ),
    "no split": (lambda w: w.extract(SAMPLE, backbone="pixels", split="a,b"), UsageError, "0.6,0.2,0.2"),
    "two fractions": (
        lambda w: w.extract(SAMPLE, backbone="pixels", split=[0.5, 0.5]),
        UsageError,
        "numbers",
    ),
    "no head": (lambda w: w.fit("logrek"), UnknownNameError, "did you mean 'logreg'"),
    "one fold": (lambda w: w.fit("logreg", cv=1), FitOptionError, "at least 2 folds"),
    "a text for folds": (lambda w: w.fit("logreg", cv="5"), UsageError, "a whole number"),
    "truth for a number": (lambda w: w.fit("logreg", cv=True), UsageError, "a whole number"),
    "no class weight": (lambda w: w.fit("logreg", class_weight="rare"), UsageError, "'balanced' or None"),
    "a number for a list": (lambda w: w.fit("logreg", c=0.1), UsageError, "a list of numbers"),
    "no size": (lambda w: w.fit("logreg", memory="much"), UsageError, "500MB"),
    "another head's option": (lambda w: w.fit("knn", cv=3), UnknownNameError, "no option called 'cv'"),
    "no epochs": (lambda w: w.finetune(epochs=0), UsageError, "at least 1"),
    "no network": (
        lambda w: w.finetune(w.stores.latest(), unfreeze="all"),
        probe.ProbeError,
        "pixels",
    ),
    "no number of processes": (
        lambda w: w.predict(w.runs.latest(), ["a.jpg"], jobs="2"),
        UsageError,
        "a whole number",
    ),
    "no format": (lambda w: w.export(w.runs.latest(), "pickle"), UnknownNameError, "keras"),
    "no store": (lambda w: w.fit("knn", "nothing"), UnknownNameError, "no store called"),
}


@pytest.mark.usefixtures("store", "run")
@pytest.mark.parametrize(("call", "kind", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_errors_for_people(
    space: probe.Workspace,
    call: Callable[[probe.Workspace], object],
    kind: type[probe.ProbeError],
    said: str,
) -> None:
    with pytest.raises(kind) as stop:
        call(space)
    assert said in str(stop.value)


def options_of(*words: str) -> dict[str, Any]:
    """Option of a command, as the flag is spelt with underscores -> its default."""
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {max(o.opts, key=len).lstrip("-").replace("-", "_"): o.default for o in options}


ELSEWHERE = {"json", "quiet", "dry_run", "shard", "show_augment", "csv", "markdown", "latex", "figure", "log"}
"""Options of what a command prints, draws or logs, and of one part of several: no keywords of a workspace."""

VERBS = {
    "extract": ["extract"],
    "fit": ["fit", "majority"],
    "survey": ["survey"],
    "finetune": ["finetune"],
    "predict": ["predict"],
    "export": ["export"],
    "audit": ["audit"],
    "report": ["report"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_keywords_are_the_options_with_their_defaults(space: probe.Workspace, verb: str) -> None:
    options = {
        {"from": "source"}.get(name, name): default for name, default in options_of(*VERBS[verb]).items()
    }
    parameters = inspect.signature(getattr(space, verb)).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    assert set(options) - set(keywords) <= ELSEWHERE
    unset = (None, False, (), inspect.Parameter.empty)
    for name in set(options) & set(keywords):
        given = None if options[name].__class__.__name__ == "Sentinel" else options[name]
        assert given == keywords[name] or (given in unset and keywords[name] in unset), name


def test_nothing_from_outside_reaches_a_notebook_unescaped(tmp_path: Path) -> None:
    """Names of classes, files and folders are text, whatever they look like."""
    from PIL import Image

    for label in ("<b>one", "<i>two"):
        for number in range(6):
            folder = tmp_path / "pic&tures" / label
            folder.mkdir(parents=True, exist_ok=True)
            shade = 40 * number + (100 if "two" in label else 0)
            Image.new("RGB", (8, 8), (shade % 256, number, 9)).save(folder / f"{number}<u>.png")
    space = probe.Workspace(tmp_path / "<s>home", quiet=True)
    store = space.extract(tmp_path / "pic&tures", backbone="pixels", size=4)
    first, second = space.fit("centroid"), space.fit("majority")
    pictures = [tmp_path / "pic&tures" / "<i>two" / "1<u>.png"]
    shown = [space, store, first, space.stores, space.runs, space.data]
    shown += [space.compare(first, second), space.predict(first, pictures)]
    for thing in shown:
        html = thing._repr_html_()
        assert html.startswith("<div>"), thing
        assert not {"<b>", "<i>", "<u>", "<s>"} & set(re.findall("<[a-z]+>", html)), html
        assert repr(thing).count(" at 0x") == 0
    assert "&lt;i&gt;two" in store._repr_html_()
    assert store.name in repr(store)
    assert "\n" not in repr(store)
    assert store.name in repr(space.stores)
    assert f"test accuracy {first.test.accuracy:.4f}" in repr(first)
