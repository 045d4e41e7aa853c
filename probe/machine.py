"""What this machine has, and what of it this process may use; asked without importing any framework."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
"""How much a container may have, in bytes, or ``max``."""
MMAP_THRESHOLD = -3
"""What ``mallopt`` calls the size from which memory is mapped, in ``malloc.h``."""
LARGE_BUFFER = 1 << 20
VISIBLE = "CUDA_VISIBLE_DEVICES"
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Flags of CPUs that multiply in bfloat16, the faster one first."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process sees, or one part of a GPU that is divided (MIG).

    Attributes
    ----------
    device : what ``CUDA_VISIBLE_DEVICES`` calls it.
    capability : CUDA compute capability, such as 8.0; None where the driver does not say.
    """

    device: str
    capability: float | None = None


@dataclass(frozen=True)
class Machine:
    """What the choice of a precision depends on: the CPU's flags, and the lowest compute capability among the
    GPUs that can be computed on, None without one."""

    cpu_flags: frozenset[str]
    gpu_capability: float | None = None


def read_machine() -> Machine:
    """This machine. On systems without /proc no flag is known, and fp32 follows."""
    return Machine(cpu_flags(), _gpu_capability())


def usable_cpus() -> int:
    """Processors this process may run on: fewer than the machine has under a scheduler or in a container."""
    return len(processors()) or os.cpu_count() or 1


def processors() -> list[int]:
    """The numbers of those processors; none where the system does not tell processes apart by them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def memory_bytes() -> int:
    """Memory of the machine, or what its container may have of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_MEMORY.read_text(encoding="ascii").strip() if CGROUP_MEMORY.exists() else ""
    return min(whole, int(limit)) if limit.isdecimal() else whole


def return_large_buffers() -> None:
    """Have every buffer of a megabyte or more go back to the system as soon as it is freed.

    By itself the C library (glibc) raises that limit to 32 MB once buffers of such sizes come and go, and
    keeps what is smaller, and TensorFlow keeps all that it ever had: a training then holds a quarter more
    than it uses. Pages that are new each time cost time. Another C library is left as it is, and so is a
    TensorFlow that was imported before.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, LARGE_BUFFER)


def cpu_flags() -> frozenset[str]:
    """The CPU's instruction sets as Linux names them; none on other systems."""
    if not CPUINFO.exists():
        return frozenset()
    with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return frozenset(value.split())
    return frozenset()


def bf16_flag(flags: frozenset[str]) -> str | None:
    """The flag among a CPU's by which it multiplies in bfloat16; None where it does not."""
    return next((flag for flag in BF16_FLAGS if flag in flags), None)


def has_module(name: str) -> bool:
    """Whether a module can be imported; one that has been imported is there, whoever did it."""
    return name in sys.modules or importlib.util.find_spec(name) is not None


def visible_gpus() -> list[Gpu]:
    """NVIDIA GPUs that the driver lists and ``CUDA_VISIBLE_DEVICES`` does not hide, in its order.

    CUDA takes the parts of a divided GPU (MIG) for devices, and the GPU itself for none. What the variable
    names stays spelled as it is: CUDA may number GPUs in another order than the driver does. As for CUDA, the
    first name that is none ends the list.
    """
    listed = _listed_gpus()
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        return [part for parts in listed for part in parts]
    found = []
    for name in filter(None, (name.strip() for name in wanted.split(","))):
        gpu = _named(name, listed)
        if gpu is None:
            break
        found.append(gpu)
    return found


def _named(name: str, listed: list[list[Gpu]]) -> Gpu | None:
    """The GPU that one name in ``CUDA_VISIBLE_DEVICES`` means: its number, or the start of its UUID."""
    if name.isdecimal():
        parts = listed[int(name)] if int(name) < len(listed) else []
        return Gpu(name, parts[0].capability) if parts else None
    known = (part for parts in listed for part in parts if part.device.startswith(name))
    found = next(known, None)
    return Gpu(name, found.capability) if found else None


def _listed_gpus() -> list[list[Gpu]]:
    """GPU by GPU what CUDA would call a device: the GPU, or the parts it is divided into."""
    capabilities = dict(
        re.findall(r"^(\S+), *([\d.]+)$", _ask("--query-gpu=uuid,compute_cap", "--format=csv,noheader"), re.M)
    )
    listed: list[list[Gpu]] = []
    capability: float | None = None
    for line in _ask("--list-gpus").splitlines():
        named = re.search(r"\(UUID: ((GPU|MIG)-[^)]+)\)", line)
        if named is None:
            continue
        if named[2] == "GPU":
            capability = float(capabilities[named[1]]) if named[1] in capabilities else None
            listed.append([Gpu(named[1], capability)])
        elif listed:
            whole = [gpu for gpu in listed[-1] if gpu.device.startswith("MIG")]
            listed[-1] = [*whole, Gpu(named[1], capability)]
    return listed


def _ask(*question: str) -> str:
    """The answer of nvidia-smi, empty where there is no driver to ask."""
    query = shutil.which("nvidia-smi")
    if query is None:
        return ""
    answer = subprocess.run([query, *question], capture_output=True, text=True, check=False)
    return answer.stdout if answer.returncode == 0 else ""


def _gpu_capability() -> float | None:
    """Lowest compute capability of the GPUs TensorFlow will be able to use: it needs cuDNN.

    Which is looked for where there is a GPU, and nowhere else: Python asks compiler and linker for it.
    """
    known = [gpu.capability for gpu in visible_gpus() if gpu.capability is not None]
    return min(known) if known and _has_cudnn() else None


def _has_cudnn() -> bool:
    packaged = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.cudnn")
    return bool(packaged) or ctypes.util.find_library("cudnn") is not None
