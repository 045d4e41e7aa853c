"""What a network computes does not depend on the user's settings of Keras and TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones import load, resolve
from probe.config import Home
from probe.heads import HEADS
from probe.heads.dense import DenseOptions
from probe.heads.head import Samples
from probe.tensorflow_setup import keras, pin

HOME = Home(Path("no-such-home"))
SCRIPT = """
import sys
import numpy as np
from tests.test_settings import features, trained

np.savez(sys.argv[1], features=features(), trained=trained())
"""
HOSTILE = {
    "KERAS_BACKEND": "torch",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE": "Conv2D",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "1",
}


def features() -> NDArray[np.float32]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    # Four convolutions of it: what a setting would change, it changes in the first.
    spec = resolve("vgg16", size=32, weights="random", precision="fp32", outputs=["block2"], home=HOME)
    return load(spec, batch_size=2)(pixels)["block2"]


def trained() -> NDArray[np.float32]:
    """(24, 2) probabilities of a small dense head after five epochs."""
    generator = np.random.default_rng(0)
    samples = Samples(generator.normal(size=(24, 3)).astype(np.float32), np.arange(24) % 2)
    options = DenseOptions(hidden=(4,), epochs=5, batch_size=8)
    head = HEADS["dense"].fit(samples, samples, 2, options, refit=False).head
    return head.predict_proba(samples.features)


@pytest.fixture(scope="module")
def expected() -> dict[str, NDArray[np.float32]]:
    """What is computed where nobody has set anything."""
    return {"features": features(), "trained": trained()}


@pytest.fixture
def own_settings(expected: dict[str, NDArray[np.float32]]) -> Iterator[None]:
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(1e-2)
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.config.set_max_epochs(1)
    yield
    pin()


@pytest.mark.usefixtures("own_settings")
def test_settings_made_in_the_same_process_change_nothing(expected: dict[str, NDArray[np.float32]]) -> None:
    np.testing.assert_array_equal(features(), expected["features"])
    keras.config.set_max_epochs(1)
    np.testing.assert_array_equal(trained(), expected["trained"])


def test_settings_of_the_user_change_nothing(
    tmp_path: Path, expected: dict[str, NDArray[np.float32]]
) -> None:
    settings = {"floatx": "float16", "image_data_format": "channels_first", "epsilon": 1e-2, "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    script = tmp_path / "compute.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parent.parent
    environment = {**os.environ, **HOSTILE, "KERAS_HOME": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "found.npz")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("before", "settings", "environment", "says"),
    [
        ("pass", '{"floatx": "int8"}', {}, "keras.json"),
        ("sys.modules['tensorflow'] = None", "{}", {"TF_ENABLE_ONEDNN_OPTS": "0"}, "TF_ENABLE_ONEDNN_OPTS"),
    ],
    ids=["refused by Keras", "read by TensorFlow before"],
)
def test_settings_that_cannot_be_put_right_are_named(
    tmp_path: Path, before: str, settings: str, environment: dict[str, str], says: str
) -> None:
    (tmp_path / "keras.json").write_text(settings)
    call = "main(['extract', '--backbone', 'vgg16', '--outputs', 'list', 'photos'])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from probe.cli import main; {before}; {call}"],
        env={**os.environ, **environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "internal error" not in done.stderr


def test_a_process_of_our_own_starts_without_what_keras_can_do_without() -> None:
    code = (
        "import sys\n"
        "from probe.signals import interrupt_work\n"
        "interrupt_work()\n"
        "from probe.tensorflow_setup import keras\n"
        "left_out = {'IPython', 'matplotlib', 'pandas', 'scipy', 'sklearn'}\n"
        "assert not left_out & set(sys.modules)\n"
        "import matplotlib, pandas, scipy, sklearn\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
