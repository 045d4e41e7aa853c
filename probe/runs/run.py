"""A result on disk: one folder, complete or absent.

``result.json`` (versioned; it records the sha256 of every other file), ``predictions.npz`` (id, label,
prediction, probabilities of the test images, and groups where there are any) and whatever the head or network
needs to predict again.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import Home
from probe.errors import NOT_WRITABLE, ProbeError, UnknownNameError
from probe.hashing import file_hash
from probe.order import Rank, number_of, one_at_a_time, places_back, rank
from probe.registry import ambiguous_name, unknown_name

SCHEMA = 1
RESULT, PREDICTIONS = "result.json", "predictions.npz"
RESULT_CAP = 64 << 20
LARGEST_COMPRESSED = 16 << 20
"""Probabilities of thousands of classes hardly shrink, and would take longer than the fit."""


class RunError(ProbeError):
    """A run is missing, damaged or of another version."""


class NotKeptError(RunError):
    """A result was reached and could not be written; `result` is what would have been ``result.json``."""

    def __init__(self, folder: Path, error: OSError, result: Mapping[str, Any]) -> None:
        self.result = result
        writable = error.errno not in NOT_WRITABLE
        other = "name another home by --home or PROBE_HOME"
        super().__init__(
            f"the run could not be kept in {folder.resolve()}",
            found=error.strerror or str(error),
            hint=f"make room, or {other}" if writable else other,
        )


@dataclass(frozen=True)
class Predictions:
    """What a run said about M images, in the order of `ids`.

    Attributes
    ----------
    ids : (M,) strings.
    labels : (M,) int32, -1 where unknown.
    probabilities : (M, C) float32.
    groups : (M,) strings, "" where a row has none; None where the data set knows no groups.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    groups: NDArray[np.str_] | None = None

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(M,) the class of the largest probability."""
        return self.probabilities.argmax(axis=1)

    def labelled(self) -> Predictions:
        """Those of images whose class is known."""
        known = self.labels >= 0
        groups = None if self.groups is None else self.groups[known]
        return Predictions(self.ids[known], self.labels[known], self.probabilities[known], groups)

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its ``result.json``."""

    path: Path
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def predictions(self) -> Predictions:
        """Of the test images; RunError when the file is missing or damaged."""
        path = self.path / PREDICTIONS
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Predictions(
                    arrays["ids"], arrays["labels"], arrays["probabilities"], arrays.get("groups")
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise RunError(f"{path} cannot be read", found=str(error)) from error


def write_run(
    home: Home,
    label: str,
    result: Mapping[str, Any],
    predictions: Predictions,
    write_more: Callable[[Path], None],
) -> Run:
    """Keep a result. The folder appears whole under ``runs/<time>-<label>``.

    Parameters
    ----------
    write_more : puts further files (head, history, plots) into the folder it is given.

    NotKeptError, which has the result, when it cannot be written.
    """
    try:
        return _write_run(home, label, result, predictions, write_more)
    except OSError as error:
        raise NotKeptError(home.runs, error, result) from error


def _write_run(
    home: Home,
    label: str,
    result: Mapping[str, Any],
    predictions: Predictions,
    write_more: Callable[[Path], None],
) -> Run:
    home.mark()
    temporary = home.runs / f".{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        arrays: dict[str, Any] = {
            "ids": predictions.ids,
            "labels": predictions.labels,
            "predicted": predictions.predicted.astype(np.int32),
            "probabilities": predictions.probabilities,
        }
        if predictions.groups is not None:
            arrays["groups"] = predictions.groups
        large = predictions.probabilities.nbytes > LARGEST_COMPRESSED
        with (temporary / PREDICTIONS).open("wb") as file:
            (np.savez if large else np.savez_compressed)(file, **arrays)
        write_more(temporary)
        hashes = {file.name: file_hash(file) for file in sorted(temporary.iterdir())}
        with one_at_a_time(home.runs):
            now = datetime.now(UTC)
            path = _free_name(home, f"{now:%Y%m%d-%H%M%S}-{label}")
            record = {
                "schema": SCHEMA,
                "run": path.name,
                "sequence": _next_number(home),
                "created": now.isoformat(timespec="seconds"),
                **result,
                "files": hashes,
            }
            (temporary / RESULT).write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_run(path)


def _next_number(home: Home) -> int:
    """One more than any run here has: a number of its own would not know of runs that were copied here."""
    return 1 + max((number_of(run.result) or 0 for run in list_runs(home)[0]), default=0)


def _free_name(home: Home, name: str) -> Path:
    path, count = home.runs / name, 1
    while path.exists():
        count += 1
        path = home.runs / f"{name}-{count}"
    return path


def open_run(path: Path) -> Run:
    """Read a run's result; RunError when it is missing, damaged or of another version."""
    where = path / RESULT
    try:
        if where.stat().st_size > RESULT_CAP:
            raise RunError(f"{where} is too large to be a result")
        result = json.loads(where.read_text(encoding="utf-8"))
        schema = result["schema"]
    except FileNotFoundError as error:
        raise RunError(f"there is no run at {path}", hint="probe runs ls") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where} is damaged", found=str(error)) from error
    if schema != SCHEMA:
        raise RunError(
            f"{where} was written by another version", expected=f"schema {SCHEMA}", found=f"schema {schema!r}"
        )
    return Run(path, result)


def list_runs(home: Home) -> tuple[list[Run], list[tuple[Path, RunError]]]:
    """Runs that can be read, the one finished last first, and the folders that cannot with the reason."""
    runs, problems = [], []
    for path in _folders(home):
        try:
            runs.append(open_run(path))
        except RunError as error:
            problems.append((path, error))
    return sorted(runs, key=_rank, reverse=True), problems


def _rank(run: Run) -> Rank:
    return rank(number_of(run.result), run.result.get("created"), run.name)


def _folders(home: Home) -> list[Path]:
    if not home.runs.is_dir():
        return []
    return sorted(path for path in home.runs.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_run(home: Home, name: str | None, serves: Callable[[Run], bool] | None = None) -> Run:
    """A run by folder name, unique part of it, or path; ``latest:2`` is the newest but one.

    Without a name the newest. Runs that cannot be read are not counted, nor those that do not serve.
    """
    back = places_back(name)
    if name is None or back is not None:
        return _newest(home, back or 1, serves)
    folders = {path.name: path for path in _folders(home)}
    if name in folders:
        return open_run(folders[name])
    if name and (Path(name) / RESULT).is_file():
        return open_run(Path(name))
    matches = [path for path in folders.values() if name and name in path.name]
    if len(matches) == 1:
        return open_run(matches[0])
    if matches:
        raise ambiguous_name("run", name, {path.name: _facts(path) for path in matches})
    raise unknown_name("run", name, folders, home.runs)


def _newest(home: Home, back: int, serves: Callable[[Run], bool] | None) -> Run:
    runs, problems = list_runs(home)
    able = [run for run in runs if serves is None or serves(run)]
    if len(able) >= back:
        return able[back - 1]
    if able:
        raise UnknownNameError(
            f"{home.runs.resolve()} has no {back} runs", found=f"{len(able)} runs", hint="probe runs ls"
        )
    raise RunError(
        f"there is no run in {home.runs.resolve()}",
        found=f"{len(problems)} that cannot be read" if problems else None,
        hint="probe fit logreg; another home is named by --home or PROBE_HOME",
    )


def _facts(path: Path) -> dict[str, object]:
    """What tells a run from others of a similar name."""
    try:
        result = open_run(path).result
    except RunError:
        return {"state": "cannot be read"}
    test = result.get("test") or {}
    return {
        "head": result.get("head"),
        "data set": result.get("dataset"),
        "backbone": (result.get("backbone") or {}).get("name"),
        "store": result.get("store"),
        "chosen": result.get("chosen"),
        "accuracy": test.get("accuracy"),
        "images": test.get("n"),
        "created": result.get("created"),
    }


def run_folder(home: Home, name: str) -> Path:
    """The folder of one run, readable or not, directly inside the home's runs; UnknownNameError.

    By its full name, or as ``latest``, ``latest:2``; a part of a name is not enough to delete a run by.
    """
    if places_back(name) is not None:
        return find_run(home, name).path
    folders = {path.name: path for path in _folders(home)}
    if name not in folders:
        raise unknown_name("run", name, folders, home.runs)
    return folders[name]


def remove_run(home: Home, name: str) -> Path:
    """Delete one run's folder, as `run_folder` finds it."""
    path = run_folder(home, name)
    shutil.rmtree(path)
    return path


def find_finished(home: Home, identity: str) -> Run | None:
    """The newest run with this identity."""
    runs, _ = list_runs(home)
    return next((run for run in runs if run.result.get("identity") == identity), None)
