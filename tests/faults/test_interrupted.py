"""Killed, told to end, or out of disk at a step: the same command then gives the same bytes.

A sample of the places that ``make faults`` goes through, all of them in turn over the signals and errors.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Processes
from tests.faults.works import Work, fingerprint, interrupt, leftovers, make_pictures, works

HOWS = {"kill": (-9,), "term": (143,), "int": (130,), "enospc": (1,), "eio": (1,)}
BROKEN = ("fsync:1:ENOSPC", "fsync:7:EIO", "rename:2:ENOSPC", "rename:5:EIO", "open:3:ENOSPC", "open:9:EIO")


@pytest.fixture(scope="module")
def run() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


class Bench:
    """Homes as they are before and after each piece of work, made once."""

    def __init__(self, folder: Path, run: Processes) -> None:
        self.folder, self.run = folder, run
        self.works = works(make_pictures(folder))
        self._made: dict[str, tuple[Path, dict[str, str]]] = {}

    def undisturbed(self, work: Work) -> tuple[Path, dict[str, str]]:
        """The home before, and what there is after."""
        if work.name not in self._made:
            before, after = self.folder / f"{work.name} before", self.folder / f"{work.name} after"
            work.prepare(before, self.run)
            if before.exists():
                shutil.copytree(before, after)
            done = self.run(after, *work.command(after))
            assert done.code == 0, done
            assert not leftovers(after)
            self._made[work.name] = before, fingerprint(after)
        return self._made[work.name]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, run: Processes) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"), run)


def sample() -> list[tuple[str, str]]:
    """(work, failpoint): every place of every work once, the ways to end dealt out in turn."""
    found = []
    for work in works({"few": "", "more": ""}).values():
        for number, (point, often) in enumerate(work.points.items()):
            how = list(HOWS)[(number + len(found)) % len(HOWS)]
            found.append((work.name, f"{point}:{1 + number % often}:{how}"))
    return found


@pytest.mark.parametrize(("name", "failpoint"), sample())
def test_the_same_command_gives_the_same_bytes(
    name: str, failpoint: str, bench: Bench, tmp_path: Path
) -> None:
    work = bench.works[name]
    before, wanted = bench.undisturbed(work)
    home = tmp_path / "home"
    first, wrong = interrupt(work, before, home, bench.run, failpoint=failpoint)
    assert not wrong
    assert first.code in HOWS[failpoint.rpartition(":")[2]], (first, "the place was not reached")
    assert fingerprint(home) == wanted
    assert not leftovers(home)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", ["extract", "fit"])
def test_a_disk_that_fails_costs_nothing_finished(
    name: str, broken: str, bench: Bench, tmp_path: Path
) -> None:
    work = bench.works[name]
    before, wanted = bench.undisturbed(work)
    home = tmp_path / "home"
    first, wrong = interrupt(work, before, home, bench.run, broken=broken)
    assert not wrong
    if first.code == 0:  # a fit has fewer of these calls
        return
    assert "ENOSPC" not in broken or any(said in first.error for said in ("disk is full", "No space left"))
    assert fingerprint(home) == wanted
