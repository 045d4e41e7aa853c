"""``make faults``: kill, break and damage at every step, and print what came of every case.

The test suite does a sample of each table (``tests/faults``); here all of them are tried, or about one of N
with ``--every N``, or some of the tables. Two processes at once try them, each in homes of its own. What is
found stands in ``bench/results`` as it goes; a case that is not as promised is listed there and under its
table.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench.common import machine, print_table, write_results
from tests.faults import fuzz
from tests.faults.damage import DRAWING, HARMLESS, NEVER_GIVEN, NOTICED, Damaged, Trained
from tests.faults.processes import LOADED, PROJECT, TRAINING, Processes
from tests.faults.works import Homes, Work, make_pictures, works

HOWS = ("kill", "term", "int", "enospc", "eio")
BOTH = ("ENOSPC", "EIO")
CALLS = {"write": BOTH, "fsync": BOTH, "rename": BOTH, "read": ("EIO",)}
STEPS = {"finetune": 7, "sweep": 7}
"""Works of which only every so-manieth call fails: they take seconds each."""
NOT_REACHED = 3
"""Calls in turn that were not hit, after which there are no more."""
FUZZ_SECONDS = 300.0
AT_ONCE = 2
SAVED_EVERY = 20.0
"""Seconds between one writing of what was found so far and the next."""
SAME, READ, MISSED = "same bytes", "refused or read", "NOT REACHED: no such place"

Row = dict[str, Any]
Found = tuple[str, str, str]
"""Group, case and verdict."""
T = TypeVar("T")


def main(every: int = 1, only: Sequence[str] = ()) -> int:
    """All tables or `only` some, of about one in `every` cases; how many are not as promised."""
    facts, folder = machine() | {"every": every}, Path(tempfile.mkdtemp())
    tables: dict[str, Callable[[], Iterator[Found]]] = {
        "interrupted": lambda: _interrupted(folder / "interrupted", every),
        "disk": lambda: _disk(folder / "disk", every),
        "damaged": lambda: _damaged(folder / "damaged", every),
        "damaged, trained": lambda: _damaged_trained(folder / "trained", every),
        "fuzzed": lambda: _fuzzed(FUZZ_SECONDS / every),
    }
    done: list[Row] = []
    wrong = 0
    try:
        for name, cases in tables.items():
            if only and name not in only:
                continue
            found, saved, began = [], time.monotonic(), time.monotonic()
            for case in cases():
                found.append(case)
                if not _is_promised(case[2]):
                    print(f"  NOT AS PROMISED  {name}: {case[0]}  {case[1]}: {case[2]}", flush=True)
                if time.monotonic() - saved > SAVED_EVERY:
                    write_results("faults", [*done, *_rows(name, found)], facts)
                    print(f"  {name}: {len(found):,} cases so far", file=sys.stderr, flush=True)
                    saved = time.monotonic()
            rows = _rows(name, found)
            seconds = time.monotonic() - began
            print_table(f"{name}: {len(found):,} cases in {seconds:,.0f} s", _counted(name, found))
            for row in rows[len(_counted(name, found)) :]:
                print(f"  NOT AS PROMISED  {row['of']}  {row['case']}: {row['not as promised']}", flush=True)
                wrong += 1
            done += rows
            write_results("faults", done, facts)
        return wrong
    finally:
        shutil.rmtree(folder)


def _rows(table: str, cases: Sequence[Found]) -> list[Row]:
    """A row for every group of cases, and one for every case that is not as promised."""
    wrong = [
        {"table": table, "of": group, "case": case, "not as promised": verdict}
        for group, case, verdict in cases
        if not _is_promised(verdict)
    ]
    return [*_counted(table, cases), *wrong]


def _is_promised(verdict: str) -> bool:
    return verdict in (SAME, NOTICED, HARMLESS, NEVER_GIVEN, READ)


def _counted(table: str, cases: Sequence[Found]) -> list[Row]:
    """A row for every group of cases: how often each verdict."""
    counts: dict[str, Counter[str]] = {}
    for group, _, verdict in cases:
        counts.setdefault(group, Counter())[verdict if _is_promised(verdict) else "not as promised"] += 1
    verdicts = sorted({verdict for found in counts.values() for verdict in found})
    return [
        {"table": table, "of": group, **{verdict: found.get(verdict, 0) for verdict in verdicts}}
        for group, found in counts.items()
    ]


def _one_of(every: int, cases: list[T]) -> list[T]:
    """Some of the cases, in order: every N-th would always be the same way to end, or the same damage."""
    places = random.Random(0).sample(range(len(cases)), -(-len(cases) // every))
    return [cases[place] for place in sorted(places)]


def _at_once(
    folder: Path, todo: Sequence[T], work: Callable[[Path, Iterator[T]], Iterator[Found]]
) -> Iterator[Found]:
    """What `work` finds in a folder of its own with some of `todo`, by threads that wait for processes."""
    folder.mkdir()
    left, out = deque(todo), queue.SimpleQueue[Found | BaseException | None]()

    def taken() -> Iterator[T]:
        while True:
            try:
                yield left.popleft()
            except IndexError:
                return

    def run(number: int) -> None:
        try:
            for found in work(folder / str(number), taken()):
                out.put(found)
            out.put(None)
        except BaseException as error:  # noqa: BLE001 - told by whoever reads
            out.put(error)

    for number in range(AT_ONCE):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    running = AT_ONCE
    while running:
        found = out.get()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            running -= 1
        else:
            yield found


def _interrupted(folder: Path, every: int) -> Iterator[Found]:
    """Every place of every work, each time that it is reached, in every way."""
    cases = [
        (work.name, f"{point}:{number}:{how}")
        for work in works({"few": "", "more": ""}).values()
        for point, often in work.points.items()
        for number in range(1, often + 1)
        for how in HOWS
    ]

    def tried(own: Path, todo: Iterator[tuple[str, str]]) -> Iterator[Found]:
        with Homes(own) as homes:
            for name, failpoint in todo:
                first, wrong = homes.interrupt(homes.works[name], failpoint=failpoint)
                yield name, failpoint, wrong or (SAME if first.reached else MISSED)

    return _at_once(folder, _one_of(every, cases), tried)


def _disk(folder: Path, every: int) -> Iterator[Found]:
    """The n-th call of each kind fails, for every n until there are no more."""
    library = folder.with_name("disk.so")
    source = PROJECT / "tests" / "faults" / "disk.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    groups = [
        (name, call, error)
        for name, work in works({"few": "", "more": ""}).items()
        for call, errors in CALLS.items()
        for error in errors
    ]

    def tried(own: Path, todo: Iterator[tuple[str, str, str]]) -> Iterator[Found]:
        with Homes(own, library) as homes:
            for name, call, error in todo:
                yield from _until_none(homes, homes.works[name], call, error, every)

    return _at_once(folder, groups, tried)


def _until_none(homes: Homes, work: Work, call: str, error: str, every: int) -> Iterator[Found]:
    step = STEPS.get(work.name, 1)
    group = f"{work.name}, {call}" + (f" (every {step}th)" if step > 1 else "")
    missed, number = 0, 1
    while missed < NOT_REACHED:
        first, wrong = homes.interrupt(work, broken=f"{call}:{number}:{error}")
        missed = 0 if first.reached else missed + 1
        if first.reached or wrong:
            yield group, f"{number}:{error}", wrong or SAME
        number += step * every


def _damaged(folder: Path, every: int) -> Iterator[Found]:
    """Every file of stores, runs and caches, every damage, every command that could be misled by it."""
    return _judged(folder, every, Damaged, (*LOADED, *DRAWING))


def _damaged_trained(folder: Path, every: int) -> Iterator[Found]:
    """The same of fine-tuned runs, begun trainings and sweeps."""
    return _judged(folder, every, Trained, (*TRAINING, *DRAWING))


def _judged(folder: Path, every: int, kind: type[Damaged], loaded: Sequence[str]) -> Iterator[Found]:
    def tried(own: Path, todo: Iterator[int]) -> Iterator[Found]:
        own.mkdir()
        with Processes(loaded=loaded) as run:
            sets = make_pictures(own) | {"network": str(own / "network.keras")}
            if kind is Trained:
                run.make("tests.faults.works:save_network", Path(sets["network"]))
            damaged = kind(own, sets, run)
            pairs = _one_of(every, damaged.pairs())
            for place in todo:
                if place >= len(pairs):
                    return
                case, name = pairs[place]
                yield f"{case.damage}, {name}", case.file, damaged.judge(case, name)

    # How many there are is known once a home is made.
    return _at_once(folder, range(1 << 20), tried)


def _fuzzed(seconds: float) -> Iterator[Found]:
    """Mutants of what each parser reads, in a process of its own with a bound of memory."""
    for name, found in fuzz.in_a_process(seconds).items():
        for finding in found["findings"]:
            yield name, f"{found['mutants']} mutants", finding
        if not found["findings"]:
            yield name, f"{found['mutants']} mutants", READ


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="about one case of N")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TABLE",
        help="just this table, which the results then have alone",
    )
    os.chdir(PROJECT)
    chosen = parser.parse_args()
    sys.exit(main(chosen.every, chosen.only) > 0)
