"""Parsers fed with what was never written, within a bound of memory: ``python -m tests.faults.fuzz SECONDS``.

Each reads mutants of what it wrote itself for its share of the time. It may read them or refuse them in the
way it promises; anything else is a finding.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.archives import read_arrays
from probe.backbones import side_file
from probe.cli import cli
from probe.commands.settings import read_settings
from probe.config import read_config
from probe.datasets.labels import read_labels
from probe.errors import ProbeError
from probe.heads import HEADS
from probe.heads.head import Samples
from probe.heads.saving import load_head, save_head
from probe.networks.notation import parse
from probe.runs import open_run
from probe.store import LocalFiles, open_store, read_layout, verify_store
from probe.store.commits import read_commits
from probe.studies.baselines import BASELINES
from probe.studies.sweep import parse_grid, plan, read_cell
from tests.faults.processes import PROJECT

MEMORY = 1 << 30
"""Bytes of address space beyond what the process has when it begins."""
FEWEST = 6
"""Mutants that a parser reads, however long it takes."""
TOKENS = (
    *(b"1e400", b"-1", b"1e18", b"999999999999999999999", b"NaN", b"null", b"[]", b"{}", b'"x"', b"true"),
    *(b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"\xff\xfe", b"\0", b"\x1b[2J", b"\n", b",", b'"', b"@"),
    *(b"../..", b"\\u0000", b"]x9"),
)


LABELS = b'path,label,split\na.png,x,train\n"b,c.png",y,test\n'
SIDE = b'{"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "size": 32}'
CELL = b'{"setting": "lr=1", "seed": 0, "history": {"loss": [1.0]}}'


@dataclass(frozen=True)
class Parser:
    """What reads a file (or text, from a file), what it read when it was whole, and how it may refuse."""

    name: str
    seeds: Sequence[bytes]
    file: Path
    read: Callable[[], object]
    refuses: tuple[type[Exception], ...] = (ProbeError,)


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut, repeated, or made something that a parser may stumble over."""
    content = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(len(content) + 1)
        match chance.randrange(6):
            case 0 if content:
                content[place % len(content)] ^= 1 << chance.randrange(8)
            case 1:
                del content[place:]
            case 2:
                content[place:place] = chance.choice(TOKENS)
            case 3:
                stop = min(len(content), place + chance.randrange(1, 30))
                content[place:stop] = chance.choice(TOKENS)
            case 4:
                stop = min(len(content), place + chance.randrange(1, 200))
                content[place:place] = content[place:stop]
            case _:
                digits = [at for at, byte in enumerate(content) if 48 <= byte <= 57]
                if digits:
                    at = chance.choice(digits)
                    content[at : at + 1] = chance.choice(
                        (b"0", b"-1", b"1e400", b"1000000000000", b"1.5", b'"1"')
                    )
    return bytes(content)


def fuzz(parser: Parser, seconds: float, seed: int = 0) -> tuple[int, list[str]]:
    """How many mutants were read in the time, and what went wrong, each kind once."""
    chance, tried, findings, began = random.Random(seed), 0, {}, time.perf_counter()
    while tried < FEWEST or time.perf_counter() - began < seconds:
        content = mutate(chance.choice(parser.seeds), chance)
        parser.file.write_bytes(content)
        one = time.perf_counter()
        try:
            parser.read()
        except parser.refuses:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            findings.setdefault(f"{type(error).__name__}: {str(error)[:80]}", content)
        if time.perf_counter() - one > 5:
            findings.setdefault("took more than five seconds", content)
        tried += 1
    parser.file.write_bytes(parser.seeds[0])
    return tried, list(findings)


def parsers(folder: Path) -> list[Parser]:
    """Those of stores, runs, heads and text; a home for them is made in `folder`."""
    from tests.faults.works import EXTRACT, make_pictures

    home, sets = folder / "home", make_pictures(folder)
    for line in ((*EXTRACT, sets["few"]), ("fit", "centroid", "--quiet")):
        cli.main(["--home", str(home), *line], standalone_mode=False)
    (store,), (run,) = (home / "stores").glob("few-*"), (home / "runs").glob("[!.]*")
    files, layout = LocalFiles(store), read_layout(store)
    (index,) = (store / "index").glob("*.npz")
    head = folder / "head"
    head.mkdir()
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    fitted = HEADS["centroid"].fit(Samples(features, np.arange(20) % 2), None, 2).head
    save_head(fitted, head)
    text = folder / "text"

    def whole_index() -> object:
        found = open_store(store).index
        return found.digest(), found.units(), found.facts()

    def settings() -> object:
        return read_settings(cli, read_config(text), {}).default_map()

    def of_file(name: str, path: Path, read: Callable[[], object], *more: type[Exception]) -> Parser:
        return Parser(name, (path.read_bytes(),), path, read, (ProbeError, *more))

    def of_text(name: str, seeds: Sequence[str], read: Callable[[str], object]) -> Parser:
        return Parser(
            name,
            [seed.encode() for seed in seeds],
            text,
            lambda: read(text.read_text(encoding="utf-8", errors="replace")),
        )

    return [
        of_file("manifest", store / "MANIFEST.json", lambda: verify_store(store)),
        of_file("current index", store / "index" / "CURRENT.json", lambda: open_store(store)),
        of_file("commits", next((store / "commits").glob("*.jsonl")), lambda: read_commits(files, layout)),
        of_file("index", index, whole_index),
        of_file("zarr.json", store / "data.zarr" / "zarr.json", lambda: read_layout(store)),
        of_file("result", run / "result.json", lambda: open_run(run)),
        of_file("predictions", run / "predictions.npz", lambda: open_run(run).predictions),
        of_file("head.json", head / "head.json", lambda: load_head(head)),
        of_file("head.npz", head / "head.npz", lambda: read_arrays(head / "head.npz"), ValueError, OSError),
        of_text("network", ("[C16RB]x2P2RES32/2GAPD10DO.5", "[C8R]+U2bF"), parse),
        of_text(
            "--set", ("lr=0.1,1e-3", "network=C8RFD4", "batch_size=8,16", "augment=flip+zoom=0.2"), _grid
        ),
        Parser("probe.toml", (b"[fit.logreg]\nc = [1, 2.5]\n[extract]\nbatch_size = 3\n",), text, settings),
        Parser("labels", (LABELS,), text, lambda: read_labels(text)),
        Parser("side file", (SIDE,), text, lambda: side_file.read(text)),
        Parser("cell", (CELL,), text, lambda: read_cell(text)),
    ]


def _grid(assignment: str) -> object:
    return plan(BASELINES["cifar10/exp1"], parse_grid([assignment]))


def main(seconds: float) -> dict[str, dict[str, object]]:
    """Every parser for an equal share of the time: name -> mutants read and findings."""
    folder = Path(tempfile.mkdtemp())
    try:
        found = parsers(folder)
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        results = {}
        for parser in found:
            tried, findings = fuzz(parser, seconds / len(found))
            results[parser.name] = {"mutants": tried, "findings": findings}
        return results
    finally:
        shutil.rmtree(folder)


def in_a_process(seconds: float) -> dict[str, Any]:
    """What `main` finds, in a process of its own, which has the bound of memory."""
    line = [sys.executable, "-m", "tests.faults.fuzz", str(seconds)]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(float(sys.argv[1]))) + "\n")
