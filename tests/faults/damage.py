"""Every file of a home damaged in every way, and what each command says of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.processes import PROJECT, Ended, Processes
from tests.faults.works import EXTRACT, fingerprint

PHOTO = next((PROJECT / "data" / "samples" / "photos").rglob("*.jpg"))


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


@dataclass(frozen=True)
class Case:
    """A file, by its place in the home, what is done to it, and with which file it is exchanged."""

    file: str
    damage: str
    other: str | None = None


class Damaged:
    """A home with two stores and two runs, and what commands say of it while it is whole."""

    def __init__(self, folder: Path, sets: Mapping[str, str], run: Processes) -> None:
        self.home, self._run, self._sets = folder / "whole", run, sets
        self._copy = folder / "damaged"
        for name in ("more", "few"):
            assert run(self.home, *EXTRACT, sets[name]).code == 0
            assert run(self.home, "fit", "centroid", "--quiet").code == 0
        (self.store,) = [path.name for path in (self.home / "stores").glob("few-*")]
        (self.other,) = [path.name for path in (self.home / "stores").glob("more-*")]
        self.runs = sorted(path.name for path in (self.home / "runs").glob("[!.]*"))
        self.fingerprint = fingerprint(self.home)
        self.said = {name: self._say(name, self.home)[1] for name in self.commands}

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        return {
            "stores ls": ("stores", "ls", "--json"),
            "stores show": ("stores", "show", "--json", self.store),
            "stores verify": ("stores", "verify", "--full", self.store),
            "stores export": ("stores", "export", self.store, "--json", "--output-file", f"HOME/{EXPORTED}"),
            "stores repair": ("stores", "repair", "--quiet", self.store),
            "fit": ("fit", "centroid", "--json", self.store),
            "extract": (*EXTRACT, self._sets["few"]),
            "runs ls": ("runs", "ls", "--json"),
            "runs show": ("runs", "show", "--json", self.runs[-1]),
            "compare": ("compare", "--json", *self.runs),
            "predict": ("predict", "--json", self.runs[-1], str(PHOTO)),
        }

    def files(self) -> Iterator[str]:
        """One of every kind of file of the damaged store, the damaged run and the caches."""
        for root in (f"stores/{self.store}", f"runs/{self.runs[-1]}", "cache"):
            for path in sorted((self.home / root).rglob("*")):
                if path.is_file() and path.name != ".lock" and "/c/2" not in str(path):
                    yield str(path.relative_to(self.home))

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

    def concerns(self, file: str) -> list[str]:
        """The commands that could be misled by a file."""
        if file.startswith("runs/"):
            return ["runs ls", "runs show", "compare", "predict"]
        if file.startswith("cache/"):
            return ["extract", "fit"]
        stores = ("ls", "show", "verify", "export", "repair")
        return [*(f"stores {name}" for name in stores), "fit", "extract"]

    def judge(self, case: Case, name: str) -> str:
        """``noticed``, ``harmless``, or what is wrong, of one command on the damaged home."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.home, self._copy)
        DAMAGES[case.damage](self._copy / case.file, self._copy / case.other if case.other else None)
        ended, said = self._say(name, self._copy)
        if "internal error" in ended.error or "Traceback" in ended.error:
            return f"TOLD AS A BUG: {ended.error.strip().splitlines()[-1][:120]}"
        if ended.code < 0:
            return f"DIED of signal {-ended.code}"
        if ended.code:
            return "noticed" if ended.error.strip() or "DAMAGED" in ended.out else "ENDED WITHOUT A WORD"
        if name in ("extract", "stores repair"):
            after = {key: value for key, value in fingerprint(self._copy).items() if self.store in key}
            wanted = {key: value for key, value in self.fingerprint.items() if self.store in key}
            same = all(after.get(key) == value for key, value in wanted.items())
            return "harmless" if same else "WRONG BYTES, exit code 0"
        if said == self.said[name]:
            return "harmless"
        told = any(part in ended.error for part in (self.store, *self.runs, Path(case.file).name))
        return "noticed" if told else f"ANOTHER ANSWER, exit code 0: {_difference(said, self.said[name])}"

    def _say(self, name: str, home: Path) -> tuple[Ended, Any]:
        ended = self._run(home, *(word.replace("HOME", str(home)) for word in self.commands[name]))
        out, exported = ended.out.replace(str(home), "HOME"), home / EXPORTED
        try:
            value = _timeless(json.loads(out))
        except ValueError:
            value = out
        if exported.exists():
            value = [value, hashlib.sha256(exported.read_bytes()).hexdigest()]
            exported.unlink()
        return ended, value


EXPORTED = "exported.npy"
PASSING = {"used", "run", "created", "seconds", "sequence", "path", "files", "images_per_s", "identity"}


def _timeless(value: Any) -> Any:
    """A JSON value without what differs from call to call."""
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in PASSING}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {*one, *other} if one.get(key) != other.get(key)]
        return ", ".join(sorted(keys))[:100]
    return f"{os.fspath(str(one))[:60]} for {str(other)[:60]}"
