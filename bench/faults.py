"""``make faults``: kill, break and damage at every step, and print what came of every case.

The test suite does a sample of each table (``tests/faults``); here all of them are tried. A case that is not
as promised is listed under its table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.common import machine, print_table, write_results
from tests.faults import fuzz
from tests.faults.damage import Damaged
from tests.faults.processes import PROJECT, Processes
from tests.faults.works import Work, fingerprint, interrupt, leftovers, make_pictures, works

HOWS = ("kill", "term", "int", "enospc", "eio")
BOTH = ("ENOSPC", "EIO")
CALLS = {"write": BOTH, "fsync": BOTH, "rename": BOTH, "read": ("EIO",)}
DISK_WORKS = ("extract", "append", "fit")
NOT_REACHED = 3
"""Calls in turn that were not hit, after which there are no more."""
FUZZ_SECONDS = 300.0

Row = dict[str, Any]


def main(quick: bool = False) -> int:
    """All tables; how many cases are not as promised."""
    facts, folder = machine(), Path(tempfile.mkdtemp())
    step = 10 if quick else 1
    try:
        tables: dict[str, Callable[[], Iterator[tuple[str, str, str]]]] = {
            "interrupted": lambda: _interrupted(folder / "interrupted", step),
            "disk": lambda: _disk(folder / "disk", step),
            "damaged": lambda: _damaged(folder / "damaged", step),
            "fuzzed": lambda: _fuzzed(FUZZ_SECONDS / step),
        }
        rows, wrong = [], 0
        for name, cases in tables.items():
            found = list(cases())
            part = _counted(name, found)
            print_table(f"{name}: {len(found)} cases", part)
            for group, case, verdict in found:
                if not _is_promised(verdict):
                    wrong += 1
                    print(f"  NOT AS PROMISED  {group}  {case}: {verdict}", flush=True)
            rows += part
        write_results("faults", rows, facts)
        return wrong
    finally:
        shutil.rmtree(folder)


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


class _Homes:
    """Homes as they are before and after each work, made once."""

    def __init__(self, folder: Path, run: Processes) -> None:
        folder.mkdir()
        self.folder, self.run, self.works = folder, run, works(make_pictures(folder))
        self._after: dict[str, dict[str, str]] = {}

    def tried(self, work: Work, *, failpoint: str = "", broken: str = "") -> tuple[int, str]:
        """The exit code of the disturbed command, and the verdict after it was repeated."""
        before, after = self.folder / f"{work.name} before", self.folder / f"{work.name} after"
        if work.name not in self._after:
            work.prepare(before, self.run)
            if before.exists():
                shutil.copytree(before, after)
            assert self.run(after, *work.command(after)).code == 0
            self._after[work.name] = fingerprint(after)
        home = self.folder / "home"
        first, wrong = interrupt(work, before, home, self.run, failpoint=failpoint, broken=broken)
        if wrong:
            return first.code, wrong
        if fingerprint(home) != self._after[work.name] and not (first.code == 0 and work.name == "fit"):
            return first.code, "other results than undisturbed"
        left = leftovers(home)
        return first.code, f"left behind: {left[0]}" if left else "same bytes"


def _interrupted(folder: Path, step: int) -> Iterator[tuple[str, str, str]]:
    """Every place of every work, each time that it is reached, in every way."""
    with Processes() as run:
        homes = _Homes(folder, run)
        cases = [
            (work, f"{point}:{number}:{how}")
            for work in homes.works.values()
            for point, often in work.points.items()
            for number in range(1, often + 1)
            for how in HOWS
        ]
        for work, failpoint in cases[::step]:
            code, verdict = homes.tried(work, failpoint=failpoint)
            yield work.name, failpoint, "not reached" if verdict == "same bytes" and code == 0 else verdict


def _disk(folder: Path, step: int) -> Iterator[tuple[str, str, str]]:
    """The n-th call of each kind fails, for every n until there are no more."""
    library = folder.with_name("disk.so")
    source = PROJECT / "tests" / "faults" / "disk.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    with Processes(preload=library) as run:
        homes = _Homes(folder, run)
        for name in DISK_WORKS:
            for call, errors in CALLS.items():
                for error in errors:
                    yield from _until_none(homes, homes.works[name], call, error, step)


def _until_none(
    homes: _Homes, work: Work, call: str, error: str, step: int
) -> Iterator[tuple[str, str, str]]:
    missed, number = 0, 1
    while missed < NOT_REACHED:
        code, verdict = homes.tried(work, broken=f"{call}:{number}:{error}")
        missed = missed + 1 if code == 0 else 0
        yield f"{work.name}, {call}", f"{number}:{error}", verdict
        number += step


def _damaged(folder: Path, step: int) -> Iterator[tuple[str, str, str]]:
    """Every file, every damage, every command that could be misled by it."""
    folder.mkdir()
    with Processes() as run:
        damaged = Damaged(folder, make_pictures(folder), run)
        for case in list(damaged.cases())[::step]:
            for name in damaged.concerns(case.file):
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
    parser.add_argument("--quick", action="store_true", help="every tenth case")
    os.chdir(PROJECT)
    sys.exit(main(parser.parse_args().quick) > 0)
