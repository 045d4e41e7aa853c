"""What is interrupted: pieces of work, what has to be there before them, and what they leave."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from probe.datasets import DATASETS, RemoteFile
from probe.errors import EXIT_FAILED
from tests import archives
from tests.faults.processes import TRAINING, Ended, Processes
from tests.faulty_server import Server, running_server, serve

ROWS = 560
"""Three units of 256 rows."""
EXTRACT = ("extract", "--backbone", "pixels", "--size", "4", "--quiet")
TUNE = (
    *("finetune", "--preprocess", "unit", "--unfreeze", "last", "--limit", "60", "--resume", "--quiet"),
    *("--head", "F DO.3 D8 R", "--head-epochs", "1", "--epochs", "2"),
)
GRID = ("sweep", "cifar10/exp0", "--limit", "60", "--quiet")


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
    trains : whether it needs processes with TensorFlow, a second or two each.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    line: tuple[str, ...]
    points: dict[str, int]
    damage: Callable[[Path], None] | None = None
    again: tuple[int, ...] = (0,)
    trains: bool = False

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
    pictures[ROWS - 4] = pictures[0]  # in test and train of both, with one label
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


def save_network(path: Path) -> None:
    """A saved network of a few weights."""
    from probe.tensorflow_setup import keras

    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(2, 3, name="first")(pixels)
    keras.Model(pixels, keras.layers.Conv2D(2, 3, name="last")(first)).save(path)


def publish(server: Server, folder: Path) -> tuple[dict[str, Sequence[RemoteFile]], dict[str, str]]:
    """Two sets on a server, one of them an archive: data set -> files; and where the archive lies too."""
    packed = archives.write_tar(folder / "cifar-10-binary.tar.gz", archives.cifar10(2))
    files = {"cifar10": {packed.name: packed.read_bytes()}, "fashion-mnist": archives.fashion(4, 2)}
    published = {name: serve(server, DATASETS[name], contents).files for name, contents in files.items()}
    return published, {"archive": str(packed)}


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
    mending = {"mend-metadata": 1, "mend-chunk": 2, "mend-index": 1, "mend-unsealed": 1}
    labels = (*few, "--drop-duplicates")
    moved = ("scratch-made", "settle-written", "settle-synced", "settle-renamed")
    archive = (*EXTRACT, "--from", sets.get("archive", ""), "cifar10")
    found = [
        Work("extract", (), few, filling | sealing | dict.fromkeys(moved, 6)),
        Work("append", (few,), more, filling | sealing),
        Work("reuse", (few,), few, {"index-written": 1, "use-counted": 1} | dict.fromkeys(moved, 1)),
        Work("relabel", (few,), labels, {"index-written": 1, "use-counted": 1} | dict.fromkeys(moved, 2)),
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
            {"run-predictions": 1, "run-files": 1} | dict.fromkeys(moved, 3),
        ),
        Work("unpack", (), archive, {"unpack-member": 8, "unpack-written": 1}),
        Work(
            "fetch an archive",
            (),
            ("data", "fetch", "cifar10", "--quiet"),
            {"fetch-block": 3, "fetch-whole": 1, "unpack-member": 8, "unpack-written": 1}
            | dict.fromkeys(moved, 2),
        ),
        Work(
            "fetch files",
            (),
            ("data", "fetch", "fashion-mnist", "--quiet"),
            {"fetch-block": 4, "fetch-whole": 4} | dict.fromkeys(moved, 5),
        ),
        Work(
            "finetune",
            (),
            (*TUNE, "--backbone", sets.get("network", ""), sets["few"]),
            {"state-written": 3, "epoch-done": 3, "run-predictions": 1, "run-files": 1},
            trains=True,
        ),
        Work(
            "sweep",
            (),
            (*GRID, "--set", "batch_size=16,32", "--epochs", "1", "--data", sets["few"]),
            {"cell-written": 2, "cell-trained": 2},
            trains=True,
        ),
    ]
    return {work.name: work for work in found}


TIMED = (
    "run",
    "created",
    "seconds",
    "training_seconds",
    "extraction_seconds",
    "sequence",
    "versions",
    "files",
    "sha256",
)


def fingerprint(home: Path) -> dict[str, str]:
    """What a home holds of results, but for names and times: place -> hash."""
    found: dict[str, str] = {}
    for path in sorted((home / "datasets").glob("[!.]*/**/*")):
        if path.is_file():
            found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted((home / "sweeps").glob("**/*.json")):
        found[str(path.relative_to(home))] = json.dumps(_timeless(_json(path)), sort_keys=True)
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
    # One that was finished before a kill is there once more, as the same: every fit is a run of its own.
    for number, run in enumerate(dict.fromkeys(map(_run_fingerprint, _runs(home)))):
        found[f"run {number}"] = run
    return found


def _runs(home: Path) -> list[Path]:
    return sorted((home / "runs").glob("[!.]*"))


def _run_fingerprint(run: Path) -> str:
    found = json.dumps(_timeless(_json(run / "result.json")), sort_keys=True)
    if (run / "network.keras").exists():
        found += _weights_hash(run / "network.keras")
    with np.load(run / "predictions.npz") as arrays:
        content = b"".join(arrays[name].tobytes() for name in sorted(arrays.files))
    return found + hashlib.sha256(content).hexdigest()


def _weights_hash(path: Path) -> str:
    """Of all weights of a saved network: the file has names in it that count what a process has built."""
    import h5py

    digest = hashlib.sha256()

    def take(name: str, part: Any) -> None:
        if isinstance(part, h5py.Dataset):
            digest.update(name.encode() + part[()].tobytes())

    with zipfile.ZipFile(path) as network, h5py.File(io.BytesIO(network.read("model.weights.h5"))) as file:
        file.visititems(take)
    return digest.hexdigest()


def leftovers(home: Path) -> list[str]:
    """Files of work in progress."""
    return sorted(
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.name.startswith((".writing-", ".unpacking-", ".fetching-", ".exporting-"))
        or path.name.endswith((".partial", ".part"))
    )


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMED}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def interrupt(
    work: Work, template: Path, home: Path, run: Processes, *, failpoint: str = "", broken: str = ""
) -> tuple[Ended, str]:
    """Do it on a copy of the home `template`, fail, and do it again: how it ended, and what is wrong.

    Nothing is wrong where the second time ends well, or the first, after which there is no second. Whether it
    left the same the caller compares.
    """
    shutil.rmtree(home, ignore_errors=True)
    if template.exists():
        shutil.copytree(template, home, symlinks=True)
    line = work.command(home)
    runs = _runs(home)
    first = run(home, *line, failpoint=failpoint, broken=broken)
    if "internal error" in first.error or "Traceback" in first.error:
        return first, f"told as a bug: {first.error.strip().splitlines()[-1]}"
    if first.code > 0 and not first.error.strip():
        return first, "ended without a word"
    if first.code == 0:
        return first, ""
    if first.code == EXIT_FAILED and _runs(home) != runs:
        return first, "a finished run was told as failed"
    second = run(home, *line)
    if second.code not in work.again:
        return first, f"the same command then ended with {second.code}: {second.error.strip()[:200]}"
    return first, ""


class Homes:
    """A context with homes as they are before and after each work, made once, and processes to do it in.

    `preload` is as in `Processes`.
    """

    def __init__(self, folder: Path, preload: Path | None = None) -> None:
        self.folder, self._preload = folder, preload
        self._after: dict[str, dict[str, str]] = {}
        self._training: Processes | None = None

    def __enter__(self) -> Homes:
        self.folder.mkdir(exist_ok=True)
        self._open = ExitStack()
        server = self._open.enter_context(running_server())
        published, places = publish(server, self.folder)
        self._plain = self._open.enter_context(Processes(self._preload, published=published))
        self._network = self.folder / "network.keras"
        self.works = works(make_pictures(self.folder) | places | {"network": str(self._network)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run_of(self, work: Work) -> Processes:
        """What a work is done by. The first that trains a network waits for TensorFlow."""
        if not work.trains:
            return self._plain
        if self._training is None:
            self._training = self._open.enter_context(Processes(self._preload, loaded=TRAINING))
            self._training.make("tests.faults.works:save_network", self._network)
        return self._training

    def interrupt(self, work: Work, *, failpoint: str = "", broken: str = "") -> tuple[Ended, str]:
        """How the disturbed command ended, and what is wrong after it was repeated; empty if all is well."""
        run, before = self.run_of(work), self.folder / f"{work.name} before"
        if work.name not in self._after:
            after = self.folder / f"{work.name} after"
            work.prepare(before, run)
            if before.exists():
                shutil.copytree(before, after)
            done = run(after, *work.command(after))
            assert done.code == 0, done
            assert not leftovers(after), leftovers(after)
            self._after[work.name] = fingerprint(after)
        home = self.folder / "home"
        first, wrong = interrupt(work, before, home, run, failpoint=failpoint, broken=broken)
        if wrong:
            return first, wrong
        if fingerprint(home) != self._after[work.name]:
            return first, "other results than undisturbed"
        left = leftovers(home)
        return first, f"left behind: {left[0]}" if left else ""
