"""Any order of extracting, killing, sharing out, damaging, mending, removing and relabelling.

The model is a dictionary: what each store is said to be. Whatever has happened, extracting again gives the
bytes of an undisturbed home.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.faults.processes import Ended, Processes
from tests.faults.works import EXTRACT, fingerprint, make_pictures

SETS = ("few", "more")
ABSENT, BEGUN, WHOLE, DAMAGED = "absent", "begun", "whole", "damaged"
LABELS = {"plain": (), "parted": ("--drop-duplicates",)}
POINTS = ("unit-written", "line-written", "unit-committed", "seal-begun", "settle-renamed", "use-counted")


class World:
    """The processes and pictures of all examples, and what undisturbed homes hold; made when first needed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.run = Processes().__enter__()
        self.sets = make_pictures(self.folder)
        self.right: dict[str, dict[str, str]] = {}
        for name in SETS:
            home = self.folder / f"right {name}"
            assert self.run(home, *EXTRACT, self.sets[name]).code == 0
            self.right[name] = fingerprint(home)

    def close(self) -> None:
        self.run.__exit__(None, None, None)
        shutil.rmtree(self.folder)


world: list[World] = []


class Stores(RuleBasedStateMachine):
    """One home."""

    def __init__(self) -> None:
        super().__init__()
        if not world:
            world.append(World())
        self.world = world[0]
        self.home = Path(tempfile.mkdtemp(dir=self.world.folder)) / "home"
        self.model = dict.fromkeys(SETS, ABSENT)

    def run(self, *line: str, **how: Any) -> Ended:
        ended = self.world.run(self.home, *line, **how)
        assert "internal error" not in ended.error
        assert "Traceback" not in ended.error
        return ended

    def folder(self, name: str) -> Path:
        return next(iter((self.home / "stores").glob(f"{name}-*")))

    @rule(name=st.sampled_from(SETS), labels=st.sampled_from(sorted(LABELS)))
    def extract(self, name: str, labels: str) -> None:
        """Also reuses, resumes, mends, relabels, and copies rows from the other store."""
        assert self.run(*EXTRACT, *LABELS[labels], self.world.sets[name]).code == 0
        self.model[name] = WHOLE

    @rule(name=st.sampled_from(SETS), point=st.sampled_from(POINTS), number=st.integers(1, 4))
    def kill(self, name: str, point: str, number: int) -> None:
        ended = self.run(*EXTRACT, self.world.sets[name], failpoint=f"{point}:{number}:kill")
        assert ended.code in (0, -9)
        if not ended.code:
            self.model[name] = WHOLE
        elif self.model[name] == ABSENT and not list((self.home / "stores").glob(f"{name}-*")):
            pass
        elif self.model[name] != WHOLE:
            self.model[name] = BEGUN

    @rule(name=st.sampled_from(SETS), part=st.sampled_from(["0/2", "1/2"]))
    def shard(self, name: str, part: str) -> None:
        assert self.run(*EXTRACT, "--shard", part, self.world.sets[name]).code == 0
        if self.model[name] != WHOLE:
            self.model[name] = BEGUN

    @rule(
        name=st.sampled_from(SETS),
        unit=st.integers(0, 2),
        place=st.integers(0, 5000),
        how=st.sampled_from(("bit", "empty", "delete")),
    )
    def corrupt(self, name: str, unit: int, place: int, how: str) -> None:
        if self.model[name] not in (WHOLE, DAMAGED):
            return
        chunk = self.folder(name) / "data.zarr" / "features" / "pixels" / "c" / str(unit) / "0"
        if not chunk.exists():
            return
        content = bytearray(chunk.read_bytes())
        if how == "delete":
            chunk.unlink()
        elif how == "empty":
            chunk.write_bytes(b"")
        elif content:
            content[place % len(content)] ^= 1
            chunk.write_bytes(content)
        self.model[name] = DAMAGED

    @rule(name=st.sampled_from(SETS))
    def verify(self, name: str) -> None:
        if self.model[name] == ABSENT:
            return
        code = self.run("stores", "verify", "--full", self.folder(name).name).code
        # Two flips of one bit are none; what was begun may have been finished by the last part.
        allowed = {WHOLE: (0,), DAMAGED: (0, 1, 3), BEGUN: (0, 1, 3)}[self.model[name]]
        assert code in allowed, self.model

    @rule(name=st.sampled_from(SETS))
    def repair(self, name: str) -> None:
        if self.model[name] == ABSENT:
            return
        ended = self.run("stores", "repair", "--quiet", self.folder(name).name)
        assert ended.code in ((0,) if self.model[name] == WHOLE else (0, 1)), ended
        if not ended.code:
            self.model[name] = WHOLE

    @rule(name=st.sampled_from(SETS))
    def rm(self, name: str) -> None:
        if self.model[name] == ABSENT:
            return
        assert self.run("stores", "rm", "--yes", self.folder(name).name).code == 0
        self.model[name] = ABSENT

    @rule()
    def ls(self) -> None:
        assert self.run("stores", "ls", "--json").code == 0

    def teardown(self) -> None:
        """Whatever has happened, the same command gives what it gives in an empty home."""
        for name in SETS:
            assert self.run(*EXTRACT, self.world.sets[name]).code == 0
            found = {key: value for key, value in fingerprint(self.home).items() if f"{name}-" in key}
            assert found == self.world.right[name], name
        shutil.rmtree(self.home.parent)


def teardown_module() -> None:
    while world:
        world.pop().close()


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=4,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
