"""Which arithmetic a backbone is computed in on this machine, decided without importing TensorFlow."""

from __future__ import annotations

from typing import NamedTuple

from probe.backbones.backbone import KERAS, Backbone
from probe.backbones.engines import is_automatic, is_computed
from probe.errors import UsageError, unknown_name
from probe.machine import BF16_FLAGS, Machine, bf16_flag, read_machine

AUTO = "auto"
PRECISIONS = ("fp32", "bf16", "fp16")
TENSOR_CORES_SINCE = 7.0
"""CUDA compute capability from which half precision is faster than single (Volta)."""
BFLOAT_SINCE = 8.0
"""And from which bfloat16 is among it, which has the range of float32 (Ampere)."""


class Precision(NamedTuple):
    """``fp32``, ``bf16`` or ``fp16``, and why, as a sentence for the user."""

    name: str
    reason: str


def choose_precision(
    requested: str = AUTO, row: Backbone | None = None, machine: Machine | None = None
) -> Precision:
    """The precision to compute in: of `row`, or without one of any network.

    Only convolutions and matrix products run low; stored features are float32 whatever the answer.

    Raises
    ------
    UnknownNameError : `requested` is neither ``auto`` nor a precision.
    UsageError : the backbone or the machine cannot compute in `requested`.
    """
    if requested not in (AUTO, *PRECISIONS):
        raise unknown_name("precision", requested, (AUTO, *PRECISIONS))
    if row is not None and row.saved_precision:
        return _as_saved(row, requested)
    if row is not None and not row.is_network:
        return _of_no_network(row, requested)
    if requested == "fp32":
        return Precision("fp32", "as asked for")
    machine = machine or read_machine()
    if requested == AUTO:
        return _automatic(machine, row)
    expect_capable(requested, machine)
    return Precision(requested, "as asked for")


def expect_capable(precision: str, machine: Machine | None = None) -> None:
    """UsageError where the machine cannot compute in a precision."""
    if precision == "fp32":
        return
    machine = machine or read_machine()
    bfloat_gpu = (machine.gpu_capability or 0) >= BFLOAT_SINCE
    if precision == "bf16" and bf16_flag(machine.cpu_flags) is None and not bfloat_gpu:
        raise UsageError(
            "this CPU cannot compute in bfloat16",
            expected=f"one of the CPU flags {', '.join(BF16_FLAGS)}, or a GPU of compute capability 8.0",
            found="none of them in /proc/cpuinfo",
            hint="--precision fp32, or auto",
        )
    if precision == "fp16" and machine.gpu_capability is None:
        raise UsageError(
            "fp16 is computed on a GPU only",
            expected="an NVIDIA GPU and the CUDA libraries (pip install 'probe[gpu]')",
            found="no usable GPU",
            hint="--precision auto",
        )


def _as_saved(row: Backbone, requested: str) -> Precision:
    if requested in (AUTO, row.saved_precision):
        return Precision(row.saved_precision, "as the model was saved")
    raise UsageError(
        f"{row.name} computes in the precision it was saved with",
        expected=f"--precision auto or {row.saved_precision}",
        found=f"--precision {requested}",
    )


def _of_no_network(row: Backbone, requested: str) -> Precision:
    if requested in (AUTO, "fp32"):
        return Precision("fp32", "")
    raise UsageError(f"{row.name} computes nothing that could run in {requested}", hint="--precision fp32")


def _automatic(machine: Machine, row: Backbone | None) -> Precision:
    capability = machine.gpu_capability
    if capability is not None:
        if capability < TENSOR_CORES_SINCE:
            return Precision("fp32", f"the GPU has no tensor cores (compute capability {capability})")
        if row is not None and not is_computed(row, "fp16"):
            return Precision("fp32", f"no engine computes {row.name} in fp16")
        # What is not made by a constructor is lowered to bfloat16 on CPUs alone.
        made_for_it = row is None or row.kind == KERAS
        half = "bf16" if capability >= BFLOAT_SINCE and made_for_it else "fp16"
        return Precision(half, f"the GPU has tensor cores (compute capability {capability})")
    flag = bf16_flag(machine.cpu_flags)
    if flag is not None and row is not None and not row.bf16:
        return Precision("fp32", f"{row.name} gains nothing from bfloat16")
    if flag is not None and row is not None and not is_automatic(row, "bf16"):
        return Precision("fp32", f"no engine is taken for {row.name} in bfloat16 unless it is asked for")
    if flag is not None:
        return Precision("bf16", f"the CPU has {flag}")
    return Precision("fp32", "the CPU has neither " + " nor ".join(BF16_FLAGS))
