"""What every measurement shares: the machine's facts, interleaved rounds, tables, JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from probe.machine import cpu_flags, usable_cpus
from probe.versions import versions

RESULTS = Path(__file__).parent / "results"


def interleave(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, a round after the other: on a shared machine both sides see the same weather."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return times


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median over rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def machine() -> dict[str, Any]:
    """Facts that a figure cannot be read without."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
                break
    return {
        "cpu": model,
        "cores": usable_cpus(),
        "low_precision": sorted(cpu_flags() & {"amx_bf16", "avx512_bf16", "avx512f", "avx2"}),
        "blas": _blas(),
        "load_at_start": os.getloadavg()[0],
        "versions": versions(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _blas() -> list[str]:
    """Every BLAS that numpy and scipy have loaded: its version, and the kernels it has chosen."""
    import scipy.linalg  # noqa: F401 - loads the one of scipy

    return [
        f"{found['internal_api']} {found['version']}, {found.get('architecture')}"
        for found in threadpool_info()
        if found["user_api"] == "blas"
    ]


def write_results(name: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> Path:
    """Write ``bench/results/<name>.json``; `facts` is `machine()` as it was before measuring."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"machine": dict(facts), "rows": list(rows)}, indent=1) + "\n", encoding="utf-8"
    )
    return path


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, a column per key of the first."""
    print(f"\n{title}")
    if not rows:
        return
    header = list(rows[0])
    cells = [[_text(row.get(key)) for key in header] for row in rows]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    for line in [header, *cells]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
