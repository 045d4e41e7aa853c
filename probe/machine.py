"""What this process may use of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess


def usable_cpus() -> int:
    """Processors this process may run on: fewer than the machine has under a scheduler or in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """NVIDIA GPUs the driver lists, 0 without one; asked of nvidia-smi, so no framework is imported."""
    query = shutil.which("nvidia-smi")
    if query is None:
        return 0
    answer = subprocess.run([query, "--list-gpus"], capture_output=True, text=True, check=False)
    return len(answer.stdout.splitlines()) if answer.returncode == 0 else 0
