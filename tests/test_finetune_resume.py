"""Fine-tuning that was finished before, or runs on two devices; `tests.faults` has one that is killed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.finetune.run import finetune
from probe.train.one_pass import LARGE
from tests.tiny_tuning import tiny_job, trained, with_large_pictures


@pytest.fixture(scope="module")
def folder(tiny):
    return tiny


@pytest.fixture
def home(begun):
    return begun


PROJECT = Path(__file__).parents[1]


def test_a_finished_training_is_not_repeated_when_it_is_resumed(folder, home):
    job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    first, said = finetune(job, home), []
    assert finetune(job, home, resume=True, say=said.append).name == first.name
    assert "not repeated" in said[-1]
    assert finetune(job, home).name != first.name
    longer = replace(job, settings=replace(job.settings, epochs=2))
    assert len(finetune(longer, home, resume=True).result["history"]["loss"]) == 2


def test_a_training_whose_pictures_were_decoded_in_full_is_another(folder, home):
    job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
    first = finetune(job, home)
    large = replace(job, dataset=with_large_pictures(job.dataset))
    second = finetune(large, home, resume=True)
    assert second.name != first.name
    assert [run.result["pixels"]["policy"] for run in (first, second)] == ["pillow-1", "pillow-2"]
    assert finetune(large, home, resume=True).name == second.name
    assert finetune(job, home, resume=True).name == first.name


def test_in_bfloat16_it_ends_with_the_bits_of_one_that_was_not_interrupted(folder, home):
    """With a layer so large that its update is compiled."""
    job = tiny_job(folder, home, unfreeze="conv3", head="F D128 R", head_epochs=0, keep="last", batch_size=30)
    job = replace(job, backbone=replace(job.backbone, precision="bf16"))

    def interrupt(epoch, figures):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(job, home, on_epoch=interrupt)
    resumed, whole = (trained(finetune(job, home, resume=resume)) for resume in (True, False))
    assert max(weight.size for weight in whole.get_weights()) >= LARGE
    for mine, expected in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, expected)


MIRRORED = """
import sys
from pathlib import Path
from probe.signals import interrupt_work
interrupt_work()  # a process of our own, as the command is: TensorFlow starts in a third less time
from probe.tensorflow_setup import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from probe.config import Home
from probe.finetune.run import finetune
from tests.tiny_tuning import tiny_job
folder, home = Path(sys.argv[1]), Home(Path(sys.argv[2]))
devices = ["CPU:0", "CPU:1"]
job = tiny_job(folder, home, unfreeze="conv3", epochs=1)
print(*finetune(job, home, devices=devices).result["history"]["val_loss"])
# Sixty pictures in batches of 59: a device without a row would make batch normalisation NaN. And validation
# on 60 pictures in batches of 59 begins with one that cannot be halved.
odd = tiny_job(folder, home, unfreeze="conv3", epochs=1, batch_size=59, train_bn=True)
print(*finetune(odd, home, devices=devices).result["history"]["val_loss"])
"""


def test_two_devices_train_one_network(folder, home):
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(folder), str(home.root)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    together, odd = ([float(value) for value in line.split()] for line in done.stdout.splitlines())
    assert np.isfinite(odd).all()
    alone = finetune(tiny_job(folder, home, unfreeze="conv3", epochs=1), home).result["history"]["val_loss"]
    np.testing.assert_allclose(together, alone, rtol=1e-3)
