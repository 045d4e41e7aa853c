"""What is interrupted: pieces of work, what has to be there before them, and what they leave."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.processes import Ended, Processes

ROWS = 560
"""Three units of 256 rows."""
EXTRACT = ("extract", "--backbone", "pixels", "--size", "4", "--quiet")


@dataclass(frozen=True)
class Work:
    """One command.

    Attributes
    ----------
    before : commands that make the home it is run in.
    line : the command; ``{store}`` is the name of the only store.
    points : the places it passes, each with how often.
    damage : done to the home before it.
    again : exit codes that the same command may end with where it had been done already.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    line: tuple[str, ...]
    points: dict[str, int]
    damage: Callable[[Path], None] | None = None
    again: tuple[int, ...] = (0,)

    def prepare(self, home: Path, run: Processes) -> None:
        """Make the home as it is before the command."""
        for line in self.before:
            done = run(home, *line)
            assert done.code == 0, done
        if self.damage is not None:
            self.damage(home)

    def command(self, home: Path) -> list[str]:
        """The line, with the name of the store."""
        names = [path.name for path in sorted((home / "stores").glob("[!.]*"))] if home.exists() else []
        return [word.replace("{store}", names[0] if names else "none") for word in self.line]


def make_pictures(folder: Path) -> dict[str, str]:
    """Two sets of tiny pictures as ``.npz``, of which the second has a few more; name -> path."""
    rng, places = np.random.default_rng(0), {}
    pictures = rng.integers(0, 256, (ROWS + 20, 4, 4, 3), np.uint8)
    labels = (np.arange(ROWS + 20) % 4).astype(np.int64)
    for name, count in (("few", ROWS), ("more", ROWS + 20)):
        parts = {
            "train": slice(0, count - 160),
            "val": slice(count - 160, count - 80),
            "test": slice(count - 80, count),
        }
        arrays: dict[str, Any] = {f"{part}_images": pictures[rows] for part, rows in parts.items()}
        arrays |= {f"{part}_labels": labels[rows][:, None] for part, rows in parts.items()}
        np.savez(folder / f"{name}.npz", **arrays)
        places[name] = str(folder / f"{name}.npz")
    return places


def _flip(home: Path) -> None:
    """One bit of one chunk."""
    (chunk,) = home.glob("stores/*/data.zarr/features/pixels/c/1/0")
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)


def works(sets: dict[str, str]) -> dict[str, Work]:
    """All pieces of work, by name."""
    few, more = (*EXTRACT, sets["few"]), (*EXTRACT, sets["more"])
    filling = {"unit-chunk": 6, "unit-written": 3, "unit-synced": 3, "line-written": 3, "unit-committed": 3}
    sealing = {"rows-filled": 1, "index-written": 1, "use-counted": 2, "seal-begun": 1, "seal-done": 1}
    settling = {"scratch-made": 5, "settle-written": 5, "settle-synced": 5, "settle-renamed": 5}
    mending = {"mend-metadata": 1, "mend-chunk": 1, "mend-index": 1, "mend-unsealed": 1}
    labels = (*few, "--drop-duplicates")
    found = [
        Work("extract", (), few, filling | sealing | settling),
        Work("append", (few,), more, filling | sealing),
        Work("reuse", (few,), few, {"use-counted": 1, "settle-written": 1, "settle-renamed": 1}),
        Work("relabel", (few,), labels, {"use-counted": 1}),
        Work("extract over damage", (few,), few, {"reuse-damaged": 1} | mending | {"unit-chunk": 2}, _flip),
        Work("repair", (few,), ("stores", "repair", "{store}", "--quiet"), mending | sealing, _flip),
        Work(
            "rm",
            (few,),
            ("stores", "rm", "{store}", "--yes"),
            {"rm-renamed": 1, "scratch-made": 1},
            again=(0, 2),
        ),
        Work(
            "fit",
            (few,),
            ("fit", "ridge", "--quiet"),
            {
                "scratch-made": 2,
                "run-predictions": 1,
                "run-files": 1,
                "settle-written": 2,
                "settle-renamed": 2,
            },
        ),
    ]
    return {work.name: work for work in found}


def fingerprint(home: Path) -> dict[str, str]:
    """What a home holds of results, but for names and times: place -> hash."""
    found: dict[str, str] = {}
    for store in sorted((home / "stores").glob("[!.]*")):
        for path in sorted(store.glob("data.zarr/**/*")):
            if path.name == "zarr.json":
                found[str(path.relative_to(home))] = json.dumps(_json(path), sort_keys=True)
            elif path.is_file():
                found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest = _json(store / "MANIFEST.json")
        found[f"{store.name} sealed"] = json.dumps(
            [manifest.get(k) for k in ("layout", "spec", "digest", "unreadable")]
        )
        found[f"{store.name} labels"] = str(_json(store / "index" / "CURRENT.json").get("index"))
    for number, run in enumerate(sorted((home / "runs").glob("[!.]*"))):
        result = _json(run / "result.json")
        timed = ("run", "created", "seconds", "sequence", "versions", "files")
        found[f"run {number}"] = json.dumps(
            {k: v for k, v in result.items() if k not in timed}, sort_keys=True
        )
        with np.load(run / "predictions.npz") as arrays:
            found[f"run {number} predictions"] = hashlib.sha256(
                b"".join(arrays[name].tobytes() for name in sorted(arrays.files))
            ).hexdigest()
    return found


def leftovers(home: Path) -> list[str]:
    """Files of work in progress."""
    return sorted(
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.name.startswith((".writing-", ".unpacking-")) or path.name.endswith(".partial")
    )


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def interrupt(
    work: Work, template: Path, home: Path, run: Processes, *, failpoint: str = "", broken: str = ""
) -> tuple[Ended, str]:
    """Do it on a copy of the home `template`, fail, and do it again: how it ended, and what is wrong.

    Nothing is wrong where the second time ends well; whether it left the same the caller compares.
    """
    shutil.rmtree(home, ignore_errors=True)
    if template.exists():
        shutil.copytree(template, home, symlinks=True)
    line = work.command(home)
    first = run(home, *line, failpoint=failpoint, broken=broken)
    if "internal error" in first.error or "Traceback" in first.error:
        return first, f"told as a bug: {first.error.strip().splitlines()[-1]}"
    if first.code > 0 and not first.error.strip():
        return first, "ended without a word"
    second = run(home, *line)
    if second.code not in work.again:
        return first, f"the same command then ended with {second.code}: {second.error.strip()[:200]}"
    return first, ""
