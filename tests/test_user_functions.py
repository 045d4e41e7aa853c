"""``--backbone module:function``: a user's own code makes the network, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from probe.cli import cli
from probe.errors import UsageError
from probe.store import open_store
from probe.tensorflow_setup import keras

MODELS = """
import keras

def features(side=12):
    picture = keras.Input((side, side, 3))
    values = keras.layers.Conv2D(4, 3, activation="relu")(picture)
    return keras.Model(picture, keras.layers.GlobalAveragePooling2D()(values))

class Mine(keras.layers.Layer):
    def call(self, values):
        return values

def foreign():
    picture = keras.Input((12, 12, 3))
    return keras.Model(picture, keras.layers.GlobalAveragePooling2D()(Mine()(picture)))

def fails():
    raise FileNotFoundError("no weights.npz")

def nothing():
    return None

number = 3
"""
EXTRACT = ("extract", "--json", "--preprocess", "unit", "--precision", "fp32", "--backbone")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``my_models.py`` and twelve pictures of two classes."""
    generator = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    (tmp_path / "my_models.py").write_text(MODELS)
    (tmp_path / "broken_models.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    for name in ("my_models", "broken_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def probe(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["--home", "home", *arguments])


def extract(name: str, *arguments: str) -> Any:
    return probe(*EXTRACT, name, *arguments, "photos")


def test_features_are_those_of_the_model_and_the_run_needs_the_function_no_more(here: Path) -> None:
    done = extract("my_models:features", "--split", "0.5,0,0.5")
    assert done.exit_code == 0, done.output
    assert "my_models:features was called" in done.stderr
    store = open_store(Path(json.loads(done.stdout)["path"]))
    (kept,) = (here / "home" / "weights" / "functions").glob("*/my_models.features.keras")
    pictures = np.stack([np.asarray(Image.open(here / "photos" / name)) for name in store.index.ids])
    expected = keras.models.load_model(kept).predict(pictures / 255.0, verbose=0)
    np.testing.assert_allclose(store.features("avg_pool").read(store.rows()), expected, atol=1e-3)
    assert str(here) not in sys.path

    (here / "my_models.py").unlink()
    assert probe("fit", "ridge").exit_code == 0
    predicted = probe("predict", "latest", "photos/a/0.png", "--json")
    assert predicted.exit_code == 0, predicted.output


def test_the_same_model_is_the_same_store_in_another_process_and_home(here: Path) -> None:
    first = json.loads(extract("my_models:features").stdout)
    again = subprocess.run(
        [sys.executable, "-m", "probe", "--home", "other", *EXTRACT, "my_models:features", "photos"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(json.loads(again.stdout)["path"]).name == Path(first["path"]).name
    assert json.loads(extract("my_models:features").stdout)["reused"]


def test_another_model_under_the_same_name_leaves_the_first_where_it_was(here: Path) -> None:
    first = json.loads(extract("my_models:features", "--split", "0.5,0,0.5").stdout)
    assert probe("fit", "ridge").exit_code == 0
    # Of another length: Python takes a file of the same second and length for the one it has compiled.
    (here / "my_models.py").write_text(MODELS.replace("Conv2D(4", "Conv2D(12"))
    del sys.modules["my_models"]
    second = json.loads(extract("my_models:features").stdout)
    assert second["path"] != first["path"]
    assert probe("predict", "latest", "photos/a/0.png").exit_code == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:features", "No module named 'no_such_module'"),
        ("broken_models:features", "No module named 'no_such_package'"),
        ("my_models:missing", "has no function missing"),
        ("my_models:number", "has no function number"),
        ("my_models:fails", "FileNotFoundError: no weights.npz"),
        ("my_models:nothing", "NoneType"),
        ("my_models:foreign", "Mine"),
    ],
)
def test_what_makes_no_backbone_is_one_message(here: Path, name: str, says: str) -> None:
    done = extract(name)
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)
    assert not (here / "home" / "stores").exists()
