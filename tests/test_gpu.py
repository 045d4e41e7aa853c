"""What ``make gpu`` does, on two logical devices of a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.shell import PROJECT

TWO_DEVICES = """
from probe.signals import interrupt_work
interrupt_work()  # processes of our own, as those of the command are: TensorFlow starts in a third less time
from probe.backbones import network
from probe.tensorflow_setup import keras, tf

def small(include_top, weights, input_shape):
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Conv2D(16, 3, activation="relu")]
    return keras.Sequential([keras.Input(input_shape), *layers])

# Here and in the processes that are started: in place of a network of millions of weights.
network.load_object = lambda name: small

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from bench.gpu import main
    main("--networks vgg16 --size 32 --batches 4 --devices CPU:0 CPU:1".split())
"""


def test_its_checks_pass_on_two_devices(tmp_path) -> None:
    (tmp_path / "two.py").write_text(TWO_DEVICES)
    done = subprocess.run(
        [sys.executable, tmp_path / "two.py"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for check in ("shards", "jobs", "place", "devices"):
        assert [check, "ok"] in lines, done.stdout
    assert ["features", "vgg16", "fp32", "ok"] in lines
    assert "images/s" in done.stdout


def test_without_a_gpu_it_says_so() -> None:
    from bench.gpu import main

    with pytest.raises(SystemExit, match="no GPU"):
        main([])
