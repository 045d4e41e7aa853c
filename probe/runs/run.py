"""A result on disk: one folder, complete or absent.

``result.json`` (versioned; it records the sha256 of every other file), ``predictions.npz`` (id, label,
prediction, probabilities of the test images, and groups where there are any) and whatever the head or network
needs to predict again.
"""

from __future__ import annotations

import io
import json
import re
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
from probe.errors import ProbeError, UnknownNameError
from probe.hashing import file_hash
from probe.registry import unknown_name

SCHEMA = 1
RESULT, PREDICTIONS = "result.json", "predictions.npz"
RESULT_CAP = 64 << 20
LATEST = re.compile(r"latest(?::([1-9][0-9]*))?")


class RunError(ProbeError):
    """A run is missing, damaged or of another version."""


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
    """
    temporary = home.runs / f".{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        stream = io.BytesIO()
        arrays: dict[str, Any] = {
            "ids": predictions.ids,
            "labels": predictions.labels,
            "predicted": predictions.predicted.astype(np.int32),
            "probabilities": predictions.probabilities,
        }
        if predictions.groups is not None:
            arrays["groups"] = predictions.groups
        np.savez_compressed(stream, **arrays)
        (temporary / PREDICTIONS).write_bytes(stream.getvalue())
        write_more(temporary)
        now = datetime.now(UTC)
        path = _free_name(home, f"{now:%Y%m%d-%H%M%S}-{label}")
        record = {
            "schema": SCHEMA,
            "run": path.name,
            "created": now.isoformat(timespec="seconds"),
            **result,
            "files": {file.name: file_hash(file) for file in sorted(temporary.iterdir())},
        }
        (temporary / RESULT).write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_run(path)


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
    """Runs that can be read, newest first, and the folders that cannot with the reason."""
    runs, problems = [], []
    for path in _folders(home):
        try:
            runs.append(open_run(path))
        except RunError as error:
            problems.append((path, error))
    return runs, problems


def _folders(home: Home) -> list[Path]:
    if not home.runs.is_dir():
        return []
    found = [path for path in home.runs.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, reverse=True)


def find_run(home: Home, name: str | None) -> Run:
    """A run by folder name, unique part of it, or path; ``latest:2`` is the newest but one.

    Without a name the newest.
    """
    names = [path.name for path in _folders(home)]
    if name is None or (latest := LATEST.fullmatch(name)):
        back = int(latest[1] or 1) if name is not None and latest else 1
        if len(names) < back:
            if names:
                raise UnknownNameError(
                    f"{home.runs} has no {back} runs", found=f"{len(names)} runs", hint="probe runs ls"
                )
            raise RunError(f"there is no run in {home.runs}", hint="probe fit logreg")
        return open_run(home.runs / names[back - 1])
    if name in names:
        return open_run(home.runs / name)
    if (Path(name) / RESULT).is_file():
        return open_run(Path(name))
    matches = [candidate for candidate in names if name in candidate]
    if len(matches) == 1:
        return open_run(home.runs / matches[0])
    if matches:
        raise UnknownNameError(f"{name!r} fits several runs", expected="one of " + ", ".join(matches))
    raise unknown_name("run", name, names)


def run_folder(home: Home, name: str) -> Path:
    """The folder of one run, readable or not, directly inside the home's runs; UnknownNameError."""
    folders = _folders(home)
    for path in folders:
        if path.name == name:
            return path
    raise unknown_name("run", name, [path.name for path in folders])


def remove_run(home: Home, name: str) -> Path:
    """Delete one run's folder, as `run_folder` finds it."""
    path = run_folder(home, name)
    shutil.rmtree(path)
    return path
