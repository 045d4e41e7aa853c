"""Every file of a home damaged in every way, and what each command says of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.processes import PROJECT, Ended, Processes
from tests.faults.works import EXTRACT, GRID, TUNE, fingerprint

PHOTO = next((PROJECT / "data" / "samples" / "photos").rglob("*.jpg"))
DRAWING = (
    *(
        "matplotlib.pyplot",
        "matplotlib.backends.backend_agg",
        "plotly.graph_objects",
        "jinja2",
        "pyarrow.parquet",
    ),
    *(
        "probe.report.plots",
        "probe.report.points",
        "probe.report.render",
        "probe.audit.audit",
        "probe.survey.result",
    ),
)
"""What the commands load that look at finished work, once for all of them."""


def _bit(path: Path, other: Path | None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _truncate(path: Path, other: Path | None) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _empty(path: Path, other: Path | None) -> None:
    path.write_bytes(b"")


def _delete(path: Path, other: Path | None) -> None:
    path.unlink()


def _folder(path: Path, other: Path | None) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, other: Path | None) -> None:
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    path.symlink_to(kept)


def _swap(path: Path, other: Path | None) -> None:
    assert other is not None
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGES: Mapping[str, Callable[[Path, Path | None], None]] = {
    "bit": _bit,
    "truncate": _truncate,
    "empty": _empty,
    "delete": _delete,
    "folder": _folder,
    "link": _link,
    "swap": _swap,
}
NOTICED, HARMLESS, NEVER_GIVEN = "noticed", "harmless", "as never given"
ON_ITS_OWN = ("naming.json", ".audit.json")
"""Records that nothing else speaks of: one that is deleted is as one that was never given."""


@dataclass(frozen=True)
class Case:
    """A file, by its place in the home, what is done to it, and with which file it is exchanged."""

    file: str
    damage: str
    other: str | None = None


class Damaged:
    """A home, and what commands say of it while it is whole: two stores with audits, two runs with names.

    Attributes
    ----------
    store, other : the store that is damaged, and the one its files are exchanged with.
    runs : names; the last is the one that is damaged.
    commands : name -> line; ``HOME`` is the home, and what a line writes there is part of its answer.
    """

    def __init__(self, folder: Path, sets: Mapping[str, str], run: Processes) -> None:
        self.home, self._run, self._sets = folder / "whole", run, sets
        self._copy = folder / "damaged"
        self._make()
        self.runs = sorted(path.name for path in (self.home / "runs").glob("[!.]*"))
        self.fingerprint = fingerprint(self.home)
        self._said: dict[str, Any] = {}
        self.commands = self._lines()

    def _make(self) -> None:
        for name in ("more", "few"):
            self._do(*EXTRACT, self._sets[name])
            self._do("fit", "centroid", "--quiet", "--name", f"of-{name}", "--note", "kept")
            self._do("audit", "--quiet")
        (self.store,) = [path.name for path in (self.home / "stores").glob("few-*") if path.is_dir()]
        (self.other,) = [path.name for path in (self.home / "stores").glob("more-*") if path.is_dir()]

    def _do(self, *line: str, failpoint: str = "") -> None:
        ended = self._run(self.home, *line, failpoint=failpoint)
        assert ended.code == (-9 if failpoint else 0), ended

    def _lines(self) -> dict[str, tuple[str, ...]]:
        store, run = self.store, self.runs[-1]
        return {
            "stores ls": ("stores", "ls", "--json"),
            "stores show": ("stores", "show", "--json", store),
            "stores verify": ("stores", "verify", "--full", store),
            "stores export": ("stores", "export", store, "--json", "--output-file", "HOME/out.npy"),
            "stores repair": ("stores", "repair", "--quiet", store),
            "stores rm": ("stores", "rm", store, "--yes"),
            "fit": ("fit", "centroid", "--json", store),
            "extract": (*EXTRACT, self._sets["few"]),
            "audit": ("audit", "--json", store),
            "report of a store": ("report", store, "--output", "HOME/out.html"),
            "plot map": ("plot", "map", store, "--output", "HOME/out.png"),
            "plot samples": ("plot", "samples", store, "--output", "HOME/out.png"),
            "points": ("points", store, "--output", "HOME/out.parquet"),
            "survey": (
                *("survey", "--backbones", "pixels", "--size", "4", "--heads", "centroid", "--json"),
                self._sets["few"],
            ),
            "compare": ("compare", "--json", *self.runs),
            "predict": ("predict", "--json", run, str(PHOTO)),
            **_of_run(run),
        }

    def files(self) -> Iterator[str]:
        """One of every kind of file of the damaged store, the damaged run, beside them, and of caches."""
        for path in sorted(self.home.rglob("*")):
            file = str(path.relative_to(self.home))
            told = file.startswith((f"stores/{self.store}", f"runs/{self.runs[-1]}", "cache"))
            if told and path.is_file() and path.name != ".lock" and "/c/2" not in file:
                yield file

    def cases(self) -> Iterator[Case]:
        for file in self.files():
            for damage in DAMAGES:
                other = self._counterpart(file) if damage == "swap" else None
                if damage != "swap" or other is not None:
                    yield Case(file, damage, other)

    def _counterpart(self, file: str) -> str | None:
        """The file that could be taken for it: of another unit, store or run."""
        for mine, theirs in (
            ("/c/0", "/c/1"),
            ("/c/1", "/c/0"),
            (self.store, self.other),
            (self.runs[1], self.runs[0]),
        ):
            other = file.replace(mine, theirs)
            if other != file and (self.home / other).is_file():
                return other
        place = (self.home / file).parent
        others = [path for path in place.iterdir() if path.name != Path(file).name and path.is_file()]
        alike = [path for path in others if path.suffix == Path(file).suffix]
        return str(alike[0].relative_to(self.home)) if alike else None

    def concerns(self, file: str) -> Sequence[str]:
        """The commands that could be misled by a file."""
        if file.startswith("runs/"):
            return ["compare", "predict", *_of_run("")]
        if file.startswith("cache/"):
            return ["extract", "fit", "survey"]
        if file.endswith(".audit.json"):
            return ["audit", "report of a store", "stores ls", "stores show", "stores rm"]
        of_stores = ("ls", "show", "verify", "export", "repair", "rm")
        looks = ("audit", "report of a store", "plot map", "plot samples", "points", "survey")
        return [*(f"stores {name}" for name in of_stores), "fit", "extract", *looks]

    def pairs(self) -> list[tuple[Case, str]]:
        """Every damage of every file, with every command that it concerns."""
        return [(case, name) for case in self.cases() for name in self.concerns(case.file)]

    def judge(self, case: Case, name: str) -> str:
        """`NOTICED`, `HARMLESS`, or what is wrong, of one command on the damaged home."""
        self._take_copy()
        before = self._said[name] if name in self._said else self._say(name)[1]
        if name not in self._said:
            self._said[name] = before
            self._take_copy()
        DAMAGES[case.damage](self._copy / case.file, self._copy / case.other if case.other else None)
        if case.damage == "delete" and case.file.endswith(ON_ITS_OWN):
            ended, _ = self._say(name)
            return self._is_told(ended) or NEVER_GIVEN
        ended, said = self._say(name)
        if wrong := self._is_told(ended):
            return wrong
        if ended.code:
            return NOTICED
        if name in ("extract", "stores repair"):
            after = {key: value for key, value in fingerprint(self._copy).items() if self.store in key}
            wanted = {key: value for key, value in self.fingerprint.items() if self.store in key}
            same = all(after.get(key) == value for key, value in wanted.items())
            return HARMLESS if same else "WRONG BYTES, exit code 0"
        if said == before:
            return HARMLESS
        told = any(part in ended.error for part in (self.store, *self.runs, Path(case.file).name))
        return NOTICED if told else f"ANOTHER ANSWER, exit code 0: {_difference(said, before)}"

    def _is_told(self, ended: Ended) -> str:
        """What is wrong with the way a command ended; empty for nothing."""
        if "internal error" in ended.error or "Traceback" in ended.error:
            return f"TOLD AS A BUG: {ended.error.strip().splitlines()[-1][:120]}"
        if ended.code < 0:
            return f"DIED of signal {-ended.code}"
        silent = ended.code and not ended.error.strip() and "DAMAGED" not in ended.out
        return "ENDED WITHOUT A WORD" if silent else ""

    def _take_copy(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.home, self._copy)

    def _say(self, name: str) -> tuple[Ended, Any]:
        """How a command ended on the copy, and its answer: what it said, wrote and left."""
        home = self._copy
        ended = self._run(home, *(word.replace("HOME", str(home)) for word in self.commands[name]))
        out = ended.out.replace(str(home), "HOME")
        try:
            value = _timeless(json.loads(out))
        except ValueError:
            value = re.sub(r"[0-9]+-[0-9]{6}-[a-z]+-", "", out)
        left: list[Any] = []
        if name in ("stores rm", "runs rm"):
            left = [sorted(path.name for path in (home / part).glob("[!.]*")) for part in ("stores", "runs")]
        if name in ("runs name", "runs note"):
            left = _named(home / "runs" / self.runs[-1])
        return ended, [value, left, *_written(home)]


def _of_run(run: str) -> dict[str, tuple[str, ...]]:
    """Commands on one run alone."""
    return {
        "runs ls": ("runs", "ls", "--json"),
        "runs show": ("runs", "show", "--json", run),
        "runs name": ("runs", "name", run, "another"),
        "runs note": ("runs", "note", run, "another"),
        "runs rm": ("runs", "rm", run, "--yes"),
        "report": ("report", run, "--output", "HOME/out.html"),
        "plot confusion": ("plot", "confusion", run, "--output", "HOME/out.png"),
        "points of a run": ("points", run, "--output", "HOME/out.parquet"),
    }


class Trained(Damaged):
    """A home with two fine-tuned runs that have names, the store and pixels they were trained from, two
    trainings that were killed after an epoch, and two sweeps."""

    def _make(self) -> None:
        self._tune = (*TUNE, "--backbone", self._sets["network"], self._sets["few"])
        for seed, name in (("0", "of-one"), ("1", "of-two")):
            self._do(*self._tune, "--seed", seed)
            self._do("runs", "name", "latest", name)
        begun: list[str] = []
        for seed in ("2", "3"):
            self._do(*self._tune, "--seed", seed, failpoint="state-written:2:kill")
            found = [path.name for path in (self.home / "cache" / "finetune").iterdir()]
            begun += [name for name in found if name not in begun]
        self.state, self.beside = begun
        self._sweep = (*GRID, "--epochs", "1", "--data", self._sets["few"])
        self._do(*self._sweep, "--set", "batch_size=16,32")
        self._do(*self._sweep, "--set", "batch_size=16,30")
        self.store = next(iter(sorted((self.home / "stores").glob("few-*")))).name
        self.other = ""
        self.sweep, self.neighbour = sorted(
            path.parent.name for path in self.home.glob("sweeps/*/sweep.json")
        )

    def _lines(self) -> dict[str, tuple[str, ...]]:
        return {
            "finetune, finished": (*self._tune, "--seed", "1", "--json"),
            "finetune, begun": (*self._tune, "--seed", "2", "--json"),
            "sweep": (*self._sweep, "--set", "batch_size=16,32", "--json"),
            "plot curves of a sweep": ("plot", "curves", self.sweep, "--output", "HOME/out.png"),
            "predict": ("predict", "--json", self.runs[-1], str(PHOTO)),
            "plot curves": ("plot", "curves", self.runs[-1], "--output", "HOME/out.png"),
            "compare": ("compare", "--json", *self.runs),
            "stores verify": ("stores", "verify", "--full", self.store),
            # It writes by TensorBoard, which loads TensorFlow.
            "runs log": ("runs", "log", self.runs[-1], "tensorboard:HOME/out"),
            **_of_run(self.runs[-1]),
        }

    def files(self) -> Iterator[str]:
        for path in sorted(self.home.rglob("*")):
            file = str(path.relative_to(self.home))
            told = file.startswith((f"stores/{self.store}", f"runs/{self.runs[-1]}", "cache", "sweeps"))
            beside = self.neighbour in file or self.beside in file
            if told and not beside and path.is_file() and path.name not in ("lock", ".lock"):
                yield file

    def _counterpart(self, file: str) -> str | None:
        for mine, theirs in ((self.sweep, self.neighbour), (self.state, self.beside)):
            if mine in file:
                return file.replace(mine, theirs)
        return super()._counterpart(file)

    def concerns(self, file: str) -> Sequence[str]:
        if file.startswith("runs/"):
            return ["predict", "compare", "plot curves", "finetune, finished", "runs log", *_of_run("")]
        if file.startswith("sweeps/"):
            return ["sweep", "plot curves of a sweep"]
        if file.startswith("stores/"):
            return ["finetune, begun", "stores verify"]
        return ["finetune, begun", "sweep"] if "index" in file else ["finetune, begun"]


def _written(home: Path) -> list[str]:
    """Of what a command wrote: hashes, but for the times that a page tells and a log keeps."""
    found = []
    for path in sorted([*home.glob("out*"), *home.glob("out/**/*")]):
        if path.suffix == ".html":
            text = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]+ UTC", "", path.read_text(encoding="utf-8"))
            found.append(hashlib.sha256(text.replace(str(home), "HOME").encode()).hexdigest())
        elif path.is_file() and "tfevents" in path.name:
            found.append(str(path.stat().st_size))
        elif path.is_file():
            found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def _named(run: Path) -> list[Any]:
    """The name and note of a run, as its file has them."""
    path = run / "naming.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return [record.get("name"), record.get("note")]


PASSING = {
    *("used", "run", "created", "seconds", "sequence", "path", "files", "images_per_s", "identity"),
    *("training_seconds", "extraction_seconds", "versions", "folder", "reused"),
}


def _timeless(value: Any) -> Any:
    """A JSON value without what differs from call to call."""
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in PASSING}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = [_difference(a, b) for a, b in zip(one, other, strict=True) if a != b]
        return "; ".join(found)[:160]
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {*one, *other} if one.get(key) != other.get(key)]
        return ", ".join(sorted(keys))[:100]
    return f"{os.fspath(str(one))[:60]} for {str(other)[:60]}"
