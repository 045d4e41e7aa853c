"""What a large store costs to list, show, verify, read and fit: 10,000 to 2,000,000 rows of 512 values.

Features are drawn around class means, in float16; every command is a process of its own, of which the time
and the largest memory are taken. ``--quick`` leaves out the two largest.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import machine, print_table, write_results
from probe.config import Home
from probe.images.status import Status
from probe.store import (
    Index,
    Layout,
    StoreSpec,
    StoreWriter,
    create,
    images_digest,
    put_index,
    store_path,
    unit_rows,
)

SIZES = (10_000, 100_000, 1_000_000, 2_000_000)
WIDTH, CLASSES = 512, 10
COMMANDS = {
    "ls": ("stores", "ls"),
    "show": ("stores", "show"),
    "verify": ("stores", "verify"),
    "ridge": ("fit", "ridge", "--memory", "2GB", "--quiet"),
    "logreg": ("fit", "logreg", "--memory", "2GB", "--c", "0.01", "--no-refit", "--quiet"),
}
READ = """
import sys
from pathlib import Path
from probe.store import open_store
store = open_store(Path(sys.argv[1]))
store.features().read(store.rows("test"))
"""


def main(quick: bool = False) -> None:
    facts, rows = machine(), []
    for size in SIZES[: 2 if quick else None]:
        folder = Path(tempfile.mkdtemp())
        try:
            path = _make(Home(folder), size)
            base = {"rows": size, "index_bytes_a_row": round(_index_bytes(path) / size, 1)}
            for name, line in COMMANDS.items():
                rows.append(base | {"what": name} | _cost("-m", "probe", "--home", str(folder), *line))
                print(rows[-1], flush=True)
            rows.append(base | {"what": "one split read"} | _cost("-c", READ, str(path)))
        finally:
            shutil.rmtree(folder)
    print_table(f"stores of {WIDTH} columns", rows)
    write_results("load", rows, facts)


def _make(home: Home, count: int) -> Path:
    """A finished store of so many rows."""
    rng = np.random.default_rng(0)
    ids = np.char.add(np.char.zfill(np.arange(count).astype(np.str_), 9), ".jpg")
    hashes = np.array([hashlib.sha256(b"%d" % row).hexdigest() for row in range(count)])
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    splits = np.array(["train", "val", "test"])[rng.choice(3, count, p=(0.8, 0.1, 0.1))]
    backbone = {
        "name": "drawn",
        "weights": "none",
        "size": 32,
        "preprocess": "none",
        "outputs": ["f"],
        "precision": "fp32",
    }
    spec = StoreSpec(backbone, {"policy": "none"}, None, "float16", images_digest(ids, hashes))
    layout = Layout(spec.key, count, unit_rows(count, 256, 2 * WIDTH), 256, {"f": (WIDTH,)}, "float16")
    path = store_path(home, "drawn", "drawn", spec.key)
    create(path, spec, layout)
    means = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    with StoreWriter(path) as writer:
        for unit in writer.pending_units():
            start, stop = layout.unit_range(unit)
            values = means[labels[start:stop]] + 4 * rng.normal(size=(stop - start, WIDTH)).astype(np.float32)
            status = np.full(stop - start, Status.READ, np.uint8)
            writer.write_unit(unit, {"features/f": values.astype(np.float16), "status": status}, {})
        put_index(path, Index(ids, hashes, labels, splits, np.array([f"c{n}" for n in range(CLASSES)])))
        writer.seal(spec, ids, {"dataset": "drawn"})
    return path


def _index_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "index").glob("*.npz"))


def _cost(*line: str) -> dict[str, Any]:
    """Seconds and largest megabytes of a process."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *line], stdout=subprocess.DEVNULL)
    # Of this very child: the largest of all children would be that of an earlier one.
    _, status, usage = _wait(process)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "megabytes": round(usage.ru_maxrss / 1024),
        "exit_code": status,
    }


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    import os

    number, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return number, process.returncode, usage
