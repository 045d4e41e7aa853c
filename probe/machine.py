"""What this process may use of the machine."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Processors this process may run on: fewer than the machine has under a scheduler or in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
