"""``make faults``: kill, break and damage at every step, and print what came of every case.

The test suite does a sample of each table (``tests/faults``); here all of them are tried, or about one of N
with ``--every N``. A case that is not as promised is listed under its table, and in ``bench/results``.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.common import machine, print_table, write_results
from tests.faults import fuzz
from tests.faults.damage import Damaged
from tests.faults.processes import PROJECT, Processes
from tests.faults.works import Homes, Work, make_pictures

HOWS = ("kill", "term", "int", "enospc", "eio")
BOTH = ("ENOSPC", "EIO")
CALLS = {"write": BOTH, "fsync": BOTH, "rename": BOTH, "read": ("EIO",)}
DISK_WORKS = ("extract", "append", "fit")
NOT_REACHED = 3
"""Calls in turn that were not hit, after which there are no more."""
FUZZ_SECONDS = 300.0

Row = dict[str, Any]
CaseT = TypeVar("CaseT")


def main(every: int = 1) -> int:
    """All tables, of about one in `every` cases; how many are not as promised."""
    facts, folder = machine() | {"every": every}, Path(tempfile.mkdtemp())
    try:
        tables: dict[str, Callable[[], Iterator[tuple[str, str, str]]]] = {
            "interrupted": lambda: _interrupted(folder / "interrupted", every),
            "disk": lambda: _disk(folder / "disk", every),
            "damaged": lambda: _damaged(folder / "damaged", every),
            "fuzzed": lambda: _fuzzed(FUZZ_SECONDS / every),
        }
        rows: list[Row] = []
        wrong: list[Row] = []
        for name, cases in tables.items():
            found = list(cases())
            part = _counted(name, found)
            print_table(f"{name}: {len(found)} cases", part)
            for group, case, verdict in found:
                if not _is_promised(verdict):
                    wrong.append({"table": name, "of": group, "case": case, "not as promised": verdict})
                    print(f"  NOT AS PROMISED  {group}  {case}: {verdict}", flush=True)
            rows += part
            write_results("faults", [*rows, *wrong], facts)
        return len(wrong)
    finally:
        shutil.rmtree(folder)


def _one_of(every: int, cases: list[CaseT]) -> list[CaseT]:
    """Some of the cases, in order: every N-th would always be the same way to end, or the same damage."""
    places = random.Random(0).sample(range(len(cases)), -(-len(cases) // every))
    return [cases[place] for place in sorted(places)]


def _is_promised(verdict: str) -> bool:
    return verdict in ("same bytes", "noticed", "harmless", "not reached", "refused or read")


def _counted(table: str, cases: list[tuple[str, str, str]]) -> list[Row]:
    """A row for every group of cases: how often each verdict."""
    counts: dict[str, Counter[str]] = {}
    for group, _, verdict in cases:
        counts.setdefault(group, Counter())[verdict if _is_promised(verdict) else "not as promised"] += 1
    verdicts = sorted({verdict for found in counts.values() for verdict in found})
    return [
        {"table": table, "of": group, **{verdict: found.get(verdict, 0) for verdict in verdicts}}
        for group, found in counts.items()
    ]


def _interrupted(folder: Path, every: int) -> Iterator[tuple[str, str, str]]:
    """Every place of every work, each time that it is reached, in every way."""
    with Homes(folder) as homes:
        cases = [
            (work, f"{point}:{number}:{how}")
            for work in homes.works.values()
            for point, often in work.points.items()
            for number in range(1, often + 1)
            for how in HOWS
        ]
        for work, failpoint in _one_of(every, cases):
            code, verdict = _tried(homes, work, failpoint=failpoint)
            yield work.name, failpoint, "not reached" if verdict == "same bytes" and code == 0 else verdict


def _disk(folder: Path, every: int) -> Iterator[tuple[str, str, str]]:
    """The n-th call of each kind fails, for every n until there are no more."""
    library = folder.with_name("disk.so")
    source = PROJECT / "tests" / "faults" / "disk.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    with Homes(folder, library) as homes:
        for name in DISK_WORKS:
            for call, errors in CALLS.items():
                for error in errors:
                    yield from _until_none(homes, homes.works[name], call, error, every)


def _until_none(
    homes: Homes, work: Work, call: str, error: str, every: int
) -> Iterator[tuple[str, str, str]]:
    missed, number = 0, 1
    while missed < NOT_REACHED:
        code, verdict = _tried(homes, work, broken=f"{call}:{number}:{error}")
        missed = missed + 1 if code == 0 else 0
        yield f"{work.name}, {call}", f"{number}:{error}", verdict
        number += every


def _tried(homes: Homes, work: Work, *, failpoint: str = "", broken: str = "") -> tuple[int, str]:
    """The exit code of the disturbed command, and the verdict after it was repeated."""
    first, wrong = homes.interrupt(work, failpoint=failpoint, broken=broken)
    return first.code, wrong or "same bytes"


def _damaged(folder: Path, every: int) -> Iterator[tuple[str, str, str]]:
    """Every file, every damage, every command that could be misled by it."""
    folder.mkdir()
    with Processes() as run:
        damaged = Damaged(folder, make_pictures(folder), run)
        cases = [(case, name) for case in damaged.cases() for name in damaged.concerns(case.file)]
        for case, name in _one_of(every, cases):
            yield f"{case.damage}, {name}", case.file, damaged.judge(case, name)


def _fuzzed(seconds: float) -> Iterator[tuple[str, str, str]]:
    """Mutants of what each parser reads, in a process of its own with a bound of memory."""
    for name, found in fuzz.in_a_process(seconds).items():
        for finding in found["findings"]:
            yield name, f"{found['mutants']} mutants", finding
        if not found["findings"]:
            yield name, f"{found['mutants']} mutants", "refused or read"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="about one case of N")
    os.chdir(PROJECT)
    sys.exit(main(parser.parse_args().every) > 0)
