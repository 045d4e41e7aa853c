"""A run on new images: the same network, the same head, or a refusal."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from probe.cli import main
from probe.config import Home
from probe.fit.predict import load_predictor
from probe.runs import find_run
from probe.store import find_store
from tests.shell import PHOTOS, Shell


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with real ImageNet features of some of the sample, and logistic regression on them."""
    home = tmp_path_factory.mktemp("lite0")
    for line in (
        "extract --backbone efficientnet-lite0 --size 64 --limit 400 fashion-sample",
        "fit logreg --c 0.001,0.01",
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--home", str(home), *line.split(), "--quiet"])
        assert stop.value.code == 0
    return home


@pytest.fixture
def on_lite0(lite0: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(lite0, capsys)


def test_prediction_on_the_stored_images_equals_the_run(lite0: Path, on_lite0: Shell) -> None:
    from probe.datasets import open_dataset
    from probe.images.decode import resize

    home = Home(lite0)
    run = find_run(home, None)
    predictor = load_predictor(run, home)
    data = open_dataset("fashion-sample", home)
    row_of = {name: row for row, name in enumerate(data.ids.tolist())}
    rows = [row_of[name] for name in run.predictions.ids[:32].tolist()]
    pixels = np.stack([resize(np.asarray(data.source.read(row)), 64) for row in rows])
    np.testing.assert_allclose(predictor(pixels), run.predictions.probabilities[:32], atol=1e-4)


def test_csv_and_json_say_the_same(on_lite0: Shell) -> None:
    rows = list(csv.DictReader(io.StringIO(on_lite0("predict", "latest", PHOTOS))))
    assert len(rows) == 10
    lines = [json.loads(line) for line in on_lite0("predict", "latest", "--json", PHOTOS).splitlines()]
    assert [line["class"] for line in lines] == [row["class"] for row in rows]
    classes = find_store(Home(on_lite0.home), None).index.classes.tolist()
    for line in lines:
        assert line["class"] in classes
        assert len(line["top5"]) == 5
        assert line["top5"][0] == [line["class"], line["probability"]]
        assert Path(line["id"]).exists()


def test_a_head_of_another_run_is_refused(shell: Shell) -> None:
    shell("extract", "--backbone", "pixels", "--size", 4, "--limit", 100, "fashion-sample")
    runs = [shell.home / "runs" / shell.json("fit", head)["run"] for head in ("centroid", "knn")]
    for name in ("head.json", "head.npz"):
        shutil.copyfile(runs[1] / name, runs[0] / name)
    for words in (("predict", runs[0].name, PHOTOS), ("export", runs[0].name)):
        shell(*words, code=1)
        assert "head.json was changed" in shell.error


def test_several_processes_say_what_one_does(shell: Shell, tmp_path: Path) -> None:
    shell("extract", "--backbone", "pixels", "--size", 8, "--limit", 100, "fashion-sample")
    shell("fit", "centroid")
    pictures = tmp_path / "pictures"
    for number in range(4):
        shutil.copytree(PHOTOS, pictures / str(number))
    (pictures / "0" / "bad.jpg").write_text("no picture")
    one = shell("predict", "latest", "--quiet", pictures, code=4)
    said = shell.error
    assert shell("predict", "latest", "--quiet", "--jobs", 2, pictures, code=4) == one
    assert shell.error == said
    assert len(one.splitlines()) == 42
    run = find_run(Home(shell.home), None)
    next(run.path.glob("head*")).unlink()
    shell("predict", "latest", "--jobs", 2, pictures, code=1)


def test_images_that_cannot_be_read_are_named_and_the_others_predicted(
    on_lite0: Shell, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    shutil.copy(PHOTOS / "animals" / "chelsea.jpg", tmp_path / "good.jpg")
    out = on_lite0("predict", "latest", "--json", tmp_path, code=4)
    bad, good = (json.loads(line) for line in out.splitlines())
    assert bad["problem"]
    assert bad["class"] is None
    assert good["class"]
    assert "bad.jpg" in on_lite0.error


def test_other_weights_are_refused(on_lite0: Shell, lite0: Path, tmp_path: Path) -> None:
    run = find_run(Home(lite0), None)
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    record = json.loads((copy / "result.json").read_text())
    record["backbone"]["weights"] = "sha256:" + 64 * "0"
    del record["files"]["result.json"]
    (copy / "result.json").write_text(json.dumps(record))
    on_lite0("predict", copy, PHOTOS, code=1)
    assert "not those that made the features" in on_lite0.error


def test_nothing_to_predict_is_a_usage_error(on_lite0: Shell, tmp_path: Path) -> None:
    on_lite0("predict", "latest", tmp_path, code=2)
    assert "no images" in on_lite0.error
    on_lite0("predict", "latest", tmp_path / "missing", code=2)
    assert "no file or folder" in on_lite0.error
