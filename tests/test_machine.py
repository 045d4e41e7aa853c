"""What the machine has, and the shares of it that worker processes take."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from joblib import Parallel, delayed

from probe.machine import Gpu, memory_bytes, read_machine, usable_cpus, visible_gpus
from probe.workers import joblib_workers, process_pool

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 3g.20gb     Device  0: (UUID: MIG-b0)
  MIG 3g.20gb     Device  1: (UUID: MIG-b1)
GPU 2: Tesla P100 (UUID: GPU-cccc)
"""
CAPABILITIES = "GPU-aaaa, 8.0\nGPU-bbbb, 8.0\nGPU-cccc, 6.0\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three GPUs, the second of them divided."""
    (tmp_path / "listed").write_text(LISTED)
    (tmp_path / "capabilities").write_text(CAPABILITIES)
    query = tmp_path / "nvidia-smi"
    answers = f"--list-gpus) cat {tmp_path}/listed;; *) cat {tmp_path}/capabilities;;"
    query.write_text(f'#!/bin/sh\ncase "$1" in {answers} esac\n')
    query.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("driver")
def test_the_parts_of_a_divided_gpu_are_counted_and_it_is_not() -> None:
    assert visible_gpus() == [
        Gpu("GPU-aaaa", 8.0),
        Gpu("MIG-b0", 8.0),
        Gpu("MIG-b1", 8.0),
        Gpu("GPU-cccc", 6.0),
    ]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("", []),
        ("-1", []),
        ("2,0", [("2", 6.0), ("0", 8.0)]),
        ("0,7,2", [("0", 8.0)]),
        ("MIG-b1", [("MIG-b1", 8.0)]),
        ("GPU-cc,MIG-b0", [("GPU-cc", 6.0), ("MIG-b0", 8.0)]),
        ("1", [("1", 8.0)]),
    ],
)
def test_hidden_gpus_are_not_there(
    visible: str, devices: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == [Gpu(*device) for device in devices]


def test_a_machine_without_a_driver_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\necho 'has failed because it could not reach the driver'\nexit 9\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == []


def test_cudnn_is_looked_for_where_there_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(name: str) -> None:
        raise AssertionError("compiler and linker were asked")

    monkeypatch.setattr("ctypes.util.find_library", asked)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_machine().gpu_capability is None


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("library", "capability"), [("libcudnn.so.9", 6.0), (None, None)])
def test_a_gpu_counts_where_cudnn_is(
    library: str | None, capability: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: library)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert read_machine().gpu_capability == capability


def test_memory_is_some() -> None:
    assert memory_bytes() > 1 << 28


def share(_: int) -> tuple[list[int], str, str | None]:
    time.sleep(0.5)  # so that the other worker takes the other task
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    return sorted(os.sched_getaffinity(0)), threads, os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("how", ["pool", "joblib"])
@pytest.mark.parametrize("visible", ["2,0", "MIG-b1"])
def test_workers_share_processors_and_gpus(how: str, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if how == "pool":
        with process_pool(2) as pool:
            first, second = pool.map(share, range(2))
    else:
        with joblib_workers(2):
            first, second = Parallel(n_jobs=2)(delayed(share)(number) for number in range(2))
    mine = sorted(os.sched_getaffinity(0))
    if usable_cpus() >= 2:
        assert sorted(first[0] + second[0]) == mine
        assert int(first[1]) + int(second[1]) == len(mine)
    devices = visible.split(",")
    assert {first[2], second[2]} == set(devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_one_worker_is_this_process() -> None:
    with joblib_workers(1):
        assert Parallel(n_jobs=1)([delayed(os.getpid)()]) == [os.getpid()]
