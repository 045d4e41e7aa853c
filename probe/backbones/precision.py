"""Which arithmetic this machine should compute in, decided without importing TensorFlow."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from probe.backbones.backbone import Backbone
from probe.errors import UsageError
from probe.registry import unknown_name

PRECISIONS = ("fp32", "bf16", "fp16")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
TENSOR_CORES_SINCE = 7.0
"""CUDA compute capability from which half precision is faster than single (Volta)."""


@dataclass(frozen=True)
class Machine:
    """What matters of a machine: its CPU's flags and the lowest compute capability among its usable GPUs."""

    cpu_flags: frozenset[str]
    gpu_capability: float | None = None


def read_machine() -> Machine:
    """This machine. On systems without /proc no flag is known, and fp32 follows."""
    return Machine(_cpu_flags(Path("/proc/cpuinfo")), _gpu_capability())


def choose_precision(
    requested: str = "auto", row: Backbone | None = None, machine: Machine | None = None
) -> tuple[str, str]:
    """The precision to compute in and the reason, as a sentence for the user.

    Only convolutions and matrix products run low; stored features are float32 whatever the answer.

    Raises
    ------
    UnknownNameError : `requested` is neither ``auto`` nor a precision.
    UsageError : the machine cannot compute in `requested`.
    """
    if requested not in ("auto", *PRECISIONS):
        raise unknown_name("precision", requested, ("auto", *PRECISIONS))
    if requested == "fp32":
        return "fp32", "as asked for"
    machine = machine or read_machine()
    if requested == "auto":
        return _automatic(machine, row)
    if requested == "bf16" and _bf16_flag(machine) is None:
        raise UsageError(
            "this CPU cannot compute in bfloat16",
            expected="one of the CPU flags " + ", ".join(BF16_FLAGS),
            found="none of them in /proc/cpuinfo",
            hint="--precision fp32, or auto",
        )
    if requested == "fp16" and machine.gpu_capability is None:
        raise UsageError(
            "fp16 is computed on a GPU only",
            expected="an NVIDIA GPU and the CUDA libraries (pip install 'probe[gpu]')",
            found="no usable GPU",
            hint="--precision auto",
        )
    return requested, "as asked for"


def _automatic(machine: Machine, row: Backbone | None) -> tuple[str, str]:
    capability = machine.gpu_capability
    if capability is not None:
        if capability >= TENSOR_CORES_SINCE:
            return "fp16", f"the GPU has tensor cores (compute capability {capability})"
        return "fp32", f"the GPU has no tensor cores (compute capability {capability})"
    flag = _bf16_flag(machine)
    if flag is not None and row is not None and not row.bf16:
        return "fp32", f"{row.name} gains nothing from bfloat16"
    if flag is not None:
        return "bf16", f"the CPU has {flag}"
    return "fp32", "the CPU has neither " + " nor ".join(BF16_FLAGS)


def _bf16_flag(machine: Machine) -> str | None:
    return next((flag for flag in BF16_FLAGS if flag in machine.cpu_flags), None)


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.exists():
        return frozenset()
    with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return frozenset(value.split())
    return frozenset()


def _gpu_capability() -> float | None:
    """Lowest compute capability of the GPUs TensorFlow will be able to use, None without one.

    A GPU counts when the driver is loaded, it is not hidden by CUDA_VISIBLE_DEVICES, and cuDNN is there.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    query = shutil.which("nvidia-smi")
    if hidden or query is None or not Path("/proc/driver/nvidia/version").exists() or not _has_cudnn():
        return None
    command = [query, "--query-gpu=compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    capabilities = [float(line) for line in answer.stdout.split() if line.replace(".", "", 1).isdigit()]
    return min(capabilities, default=None)


def _has_cudnn() -> bool:
    packaged = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.cudnn")
    return bool(packaged) or ctypes.util.find_library("cudnn") is not None
