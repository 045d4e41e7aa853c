"""What a large store costs to list, show, verify, read and fit: 10,000 to 2,000,000 rows of 512 values.

Features are drawn around class means that overlap, in float16; every command is a process of its own, of
which the time, the processor time and the largest memory are taken. ``--quick`` leaves out the two largest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
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
WIDTH, CLASSES, APART = 512, 10, 0.3
"""Values a row, classes, and how far their means are apart for noise of 4: four of five rows can be told."""
LOGREG = ("--c", "0.01", "--no-refit", "--tolerance", "0.01")
"""One value of C, roughly: what a look at all rows costs is to be seen, and not how many are needed."""
DENSE = ("--epochs", "1", "--hidden", "64", "--batch-size", "1024")
"""One pass over all rows by a small network."""
COMMANDS = {
    "ls": ("stores", "ls"),
    "show": ("stores", "show"),
    "verify": ("stores", "verify"),
    "ridge": ("fit", "ridge", "--memory", "2GB", "--quiet"),
    "logreg": ("fit", "logreg", *LOGREG, "--memory", "2GB", "--quiet"),
    "dense": ("fit", "dense", *DENSE, "--memory", "2GB", "--quiet"),
}
SPLIT = "one split read"
READ = """
import sys
from pathlib import Path
from probe.store import open_store
store = open_store(Path(sys.argv[1]))
store.features().read(store.rows("test"))
"""


MEASURED = """
import json, os, resource, subprocess, sys, time
began = time.perf_counter()
ended = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(ended.pid, 0)
print(json.dumps({
    "seconds": round(time.perf_counter() - began, 2),
    "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
    "megabytes": round(usage.ru_maxrss / 1024),
    "exit_code": os.waitstatus_to_exitcode(status),
}))
"""
"""A process of its own starts what is measured: a child counts the memory of its parent as its own."""


def main(quick: bool = False) -> None:
    facts, rows = machine(), []
    for size in SIZES[: 2 if quick else None]:
        folder = Path(tempfile.mkdtemp())
        try:
            path = make(Home(folder), size)
            for name in (*COMMANDS, SPLIT):
                rows.append(measure(path, size, name))
                print(rows[-1], flush=True)
        finally:
            shutil.rmtree(folder)
    print_table(f"stores of {WIDTH} columns", rows)
    write_results("load", rows, facts)


def measure(path: Path, size: int, name: str) -> dict[str, Any]:
    """What one of the commands, or reading a split, costs on a store."""
    home = str(path.parents[1])
    line = ("-c", READ, str(path)) if name == SPLIT else ("-m", "probe", "--home", home, *COMMANDS[name])
    done = subprocess.run([sys.executable, "-c", MEASURED, *line], capture_output=True, text=True, check=True)
    index_bytes = sum(file.stat().st_size for file in (path / "index").glob("*.npz"))
    base = {"rows": size, "index_bytes_a_row": round(index_bytes / size, 1), "what": name}
    return base | json.loads(done.stdout)


def make(home: Home, count: int) -> Path:
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
    means = APART * rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    with StoreWriter(path) as writer:
        for unit in writer.pending_units():
            start, stop = layout.unit_range(unit)
            values = means[labels[start:stop]] + 4 * rng.standard_normal((stop - start, WIDTH), np.float32)
            status = np.full(stop - start, Status.READ, np.uint8)
            writer.write_unit(unit, {"features/f": values.astype(np.float16), "status": status}, {})
        put_index(path, Index(ids, hashes, labels, splits, np.array([f"c{n}" for n in range(CLASSES)])))
        writer.seal(spec, ids, {"dataset": "drawn"})
    return path
