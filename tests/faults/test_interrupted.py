"""Killed, told to end, or out of disk at a step: the same command then gives the same bytes.

A sample of the places that ``make faults`` goes through, all of them in turn over the signals and errors.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.works import Homes, works

HOWS = {"kill": (-9,), "term": (143,), "int": (130,), "enospc": (1,), "eio": (1,)}
BROKEN = ("fsync:1:ENOSPC", "fsync:7:EIO", "rename:2:ENOSPC", "rename:5:EIO", "open:4:ENOSPC", "open:9:EIO")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    with Homes(tmp_path_factory.mktemp("faults")) as homes:
        yield homes


def sample() -> list[tuple[str, str]]:
    """(work, failpoint): every place of every work once, and the ways to end in turn.

    Of a training it is a kill after its second time at the first place: of a fine-tuning the first epoch of
    head and network, of a sweep the second cell.
    """
    found = []
    for work in works({"few": "", "more": ""}).values():
        if work.trains:
            found.append((work.name, f"{next(iter(work.points))}:2:kill"))
            continue
        for number, (point, often) in enumerate(work.points.items()):
            how = list(HOWS)[(number + len(found)) % len(HOWS)]
            found.append((work.name, f"{point}:{1 + number % often}:{how}"))
    return found


@pytest.mark.parametrize(("name", "failpoint"), sample())
def test_the_same_command_gives_the_same_bytes(name: str, failpoint: str, homes: Homes) -> None:
    first, wrong = homes.interrupt(homes.works[name], failpoint=failpoint)
    assert not wrong
    assert first.reached
    # After the last rename there is nothing that could fail any more.
    done = (0,) if failpoint.startswith("settle-renamed") else ()
    assert first.code in (*HOWS[failpoint.rpartition(":")[2]], *done), first


@pytest.mark.parametrize(
    ("name", "broken"),
    [*(("extract", broken) for broken in BROKEN), *(("fit", broken) for broken in BROKEN[::2])],
)
def test_a_disk_that_fails_costs_nothing_finished(name: str, broken: str, homes: Homes) -> None:
    first, wrong = homes.interrupt(homes.works[name], broken=broken)
    assert not wrong
    full = any(said in first.error for said in ("disk is full", "No space left"))
    assert "ENOSPC" not in broken or full or not first.reached  # a fit has fewer of these calls
