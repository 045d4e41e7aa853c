"""A result on disk: one folder, complete or absent.

``result.json`` (versioned; it records the sha256 of itself and of every other file), ``predictions.npz``
(id, label, prediction, probabilities of the test images, and groups where there are any) and whatever the
head or network needs to predict again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from probe.config import Home, canonical_json
from probe.durable import WRITING, discard, settle
from probe.errors import (
    NOT_WRITABLE,
    RunError,
    UnknownNameError,
    UsageError,
    ambiguous_name,
    unknown_name,
)
from probe.failpoints import reach
from probe.hashing import file_hash
from probe.notebook import facts_html
from probe.order import Rank, one_at_a_time, places_back, rank
from probe.plain import one_line
from probe.records import FieldError, load_json
from probe.runs.analysis import analyse
from probe.runs.naming import Naming, check_name, check_note, read_naming, write_naming
from probe.runs.predictions import PREDICTIONS, Predictions, read_predictions, write_predictions
from probe.runs.record import SCHEMA, Analysis, Record, Scores, damaged
from probe.runs.tables import TABLES
from probe.scratch import scratch_folder
from probe.table import Table
from probe.versions import versions
from probe.whole import RECORD, read_json, refuse_link

RESULT = "result.json"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder, and ``result.json`` as it is there, which `record` has typed."""

    path: Path
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def record(self) -> Record:
        """What ``result.json`` says; RunError where something in it is not what it should be."""
        try:
            return Record.from_json(self.result)
        except FieldError as error:
            raise damaged(self.path / RESULT, error) from error

    @property
    def test(self) -> Scores | None:
        """Figures of the test part, ``run.test.accuracy``; None without labelled images."""
        return self.record.test

    @property
    def val(self) -> Scores | None:
        """Figures of the validation part; None without labelled images."""
        return self.record.val

    @cached_property
    def naming(self) -> Naming:
        """What people call it and say of it."""
        return read_naming(self.path, self.record.run)

    @cached_property
    def predictions(self) -> Predictions:
        """Of the test images; RunError when the file is missing, damaged or not the one of this run."""
        try:
            found = read_predictions(self.path)
            self.expect_own(PREDICTIONS)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / PREDICTIONS} cannot be read", found=str(error)) from error
        columns = found.probabilities.shape[1]
        if columns != len(self.record.classes):
            raise RunError(
                f"{self.path / PREDICTIONS} is not of this run",
                expected=f"probabilities of {len(self.record.classes):,} classes",
                found=f"{columns:,} columns",
            )
        return found

    def expect_own(self, name: str) -> None:
        """RunError where a file of the run is not the one that was written; older runs recorded no hashes.

        OSError where it cannot be read.
        """
        expected = (self.record.files or {}).get(name)
        if expected is not None and file_hash(self.path / name) != expected:
            raise RunError(
                f"{self.path / name} was changed", expected=f"sha256 {expected[:12]}", found="another"
            )

    @cached_property
    def analysis(self) -> Analysis | None:
        """Classes, confusions and mistakes of the test images; None without any.

        Worked out from the predictions of runs that do not record it; RunError where these cannot be read.
        """
        if self.test is None or self.record.analysis is not None:
            return self.record.analysis
        return analyse(self.predictions.labelled(), self.record.classes)

    def table(self, name: str) -> Table:
        """One of `TABLES`, empty where this run has nothing of the kind; UnknownNameError for others."""
        if name not in TABLES:
            raise unknown_name("table of a run", name, TABLES)
        return TABLES[name](self)

    def __repr__(self) -> str:
        scored = f", test accuracy {_accuracy(self.test)}" if self.test is not None else ""
        return one_line(f"<Run {self.name}: {self.record.head} on {self.record.dataset}{scored}>")

    def _repr_html_(self) -> str:
        record = self.record
        chosen = {
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in (record.chosen or {}).items()
        }
        facts = {
            "head": record.head,
            "chosen": ", ".join(f"{name} {value}" for name, value in chosen.items()),
            "data set": record.dataset,
            "backbone": record.backbone_name,
            "store": record.store,
            "images": ", ".join(f"{part} {count:,}" for part, count in record.parts.items()),
            "test accuracy": self.test and f"{_accuracy(self.test)} on {self.test.n:,} images",
            "val accuracy": self.val and f"{_accuracy(self.val)} on {self.val.n:,} images",
            "notes": "; ".join(record.notes),
            "path": self.path,
            "called": self.naming.name,
            "note": self.naming.note,
        }
        return facts_html(f"Run {self.name}", facts)


def _accuracy(scores: Scores) -> str:
    """``0.8340 (95 % interval 0.8097 – 0.8558)``."""
    low, high = scores.interval
    return f"{scores.accuracy:.4f} (95 % interval {low:.4f} – {high:.4f})"


class NotKeptError(RunError):
    """A result was reached and could not be written; `run` has it, in a folder that is not there."""

    def __init__(self, folder: Path, error: OSError, record: Record) -> None:
        self.run = Run(folder / "not kept", record.to_json())
        writable = error.errno not in NOT_WRITABLE
        other = "name another home by --home or PROBE_HOME"
        super().__init__(
            f"the run could not be kept in {folder.resolve()}",
            found=error.strerror or str(error),
            hint=f"make room, or {other}" if writable else other,
        )


def write_run(
    home: Home,
    label: str,
    record: Record,
    predictions: Predictions,
    write_more: Callable[[Path], None],
) -> Run:
    """Keep a result. The folder appears whole under ``runs/<time>-<label>``.

    Parameters
    ----------
    record : the result; name, number, time, versions and hashes are added to it.
    write_more : puts further files (head, history, plots) into the folder it is given.

    NotKeptError, which has the result, when it cannot be written.
    """
    record = replace(record, versions=versions())
    try:
        return _write_run(home, label, record, predictions, write_more)
    except OSError as error:
        raise NotKeptError(home.runs, error, record) from error


def _write_run(
    home: Home,
    label: str,
    record: Record,
    predictions: Predictions,
    write_more: Callable[[Path], None],
) -> Run:
    home.mark()
    home.runs.mkdir(parents=True, exist_ok=True)
    with scratch_folder(home.runs, WRITING) as scratch:
        temporary = scratch / "run"
        temporary.mkdir()
        write_predictions(predictions, temporary)
        reach("run-predictions")
        write_more(temporary)
        reach("run-files")
        hashes = {file.name: file_hash(file) for file in sorted(temporary.iterdir())}
        with one_at_a_time(home.runs):
            now = datetime.now(UTC)
            path = _free_name(home, f"{now:%Y%m%d-%H%M%S}-{label}")
            kept = replace(
                record,
                run=path.name,
                sequence=_next_number(home),
                created=now.isoformat(timespec="seconds"),
                files=hashes,
            )
            kept = replace(kept, files=hashes | {RESULT: _digest(kept.to_json())})
            text = json.dumps(kept.to_json(), indent=1, allow_nan=False)
            (temporary / RESULT).write_text(text, encoding="utf-8")
            settle(temporary, path)
    # As it would be read, which a disk that fails now does not have to be able to.
    return Run(path, load_json(text))


def _next_number(home: Home) -> int:
    """One more than any run here has: a number of its own would not know of runs that were copied here."""
    return 1 + max((run.record.sequence or 0 for run in list_runs(home)[0]), default=0)


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
        result = read_json(where, RECORD)
        schema = result["schema"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"there is no run at {path}", hint="probe runs ls") from error
    except OSError as error:
        raise RunError(f"{where} cannot be read", found=error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where} is damaged", found=str(error)) from error
    if schema != SCHEMA:
        raise RunError(
            f"{where} was written by another version", expected=f"schema {SCHEMA}", found=f"schema {schema!r}"
        )
    run = Run(path, result)
    # This reads the record as well: whoever opens a run knows of a damaged one.
    digest = (run.record.files or {}).get(RESULT)
    if digest is not None and digest != _digest(result):
        raise RunError(f"{where} was changed", expected=f"sha256 {digest[:12]}, as it says", found="another")
    return run


def _digest(result: Mapping[str, Any]) -> str:
    """sha256 of a result without what it says of itself."""
    files = {name: digest for name, digest in result["files"].items() if name != RESULT}
    return hashlib.sha256(canonical_json({**result, "files": files}).encode()).hexdigest()


def _open_in_place(path: Path) -> Run:
    """`open_run` of a folder of a home, whose name the result has to say."""
    try:
        refuse_link(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read", found=error.strerror) from error
    run = open_run(path)
    if RESULT in (run.record.files or {}) and run.record.run != path.name:
        raise RunError(
            f"{path / RESULT} is that of another run", expected=path.name, found=run.record.run or "no name"
        )
    return run


def list_runs(home: Home) -> tuple[list[Run], list[tuple[Path, RunError]]]:
    """Runs that can be read, the one finished last first, and the folders that cannot with the reason."""
    runs, problems = [], []
    for path in _folders(home):
        try:
            runs.append(_open_in_place(path))
        except RunError as error:
            problems.append((path, error))
    return sorted(runs, key=_rank, reverse=True), problems


def _rank(run: Run) -> Rank:
    return rank(run.record.sequence, run.record.created, run.name)


def _folders(home: Home) -> list[Path]:
    if not home.runs.is_dir():
        return []
    return sorted(path for path in home.runs.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_run(home: Home, name: str | None, serves: Callable[[Run], bool] | None = None) -> Run:
    """A run by folder name or a unique part of it, given name, or path; ``latest:2`` is the newest but one.

    Without a name the newest. Runs that cannot be read are not counted, nor those that do not serve.
    """
    back = places_back(name)
    if name is None or back is not None:
        return _newest(home, back or 1, serves)
    folders = {path.name: path for path in _folders(home)}
    if name in folders:
        return _open_in_place(folders[name])
    called = [path for path in folders.values() if name and _is_called(path, name)]
    if len(called) == 1:
        return _open_in_place(called[0])
    if name and (Path(name) / RESULT).is_file():
        return open_run(Path(name))
    matches = [path for path in folders.values() if name and name in path.name]
    if len(matches) == 1:
        return _open_in_place(matches[0])
    if matches:
        raise ambiguous_name("run", name, {path.name: _facts(path) for path in matches})
    raise unknown_name("run", name, folders, home.runs)


def _is_called(path: Path, name: str) -> bool:
    return not path.is_symlink() and read_naming(path).name == name


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
        record = open_run(path).record
    except RunError:
        return {"state": "cannot be read"}
    return {
        "head": record.head,
        "data set": record.dataset,
        "backbone": record.backbone_name,
        "store": record.store,
        "chosen": record.chosen,
        "accuracy": record.test and record.test.accuracy,
        "images": record.test and record.test.n,
        "created": record.created,
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
    discard(path)
    return path


def name_run(home: Home, run: Run, *, name: str | None = None, note: str | None = None) -> Run:
    """The run with another name or note; None leaves it as it is, and an empty text takes it away.

    UsageError for a name that cannot be one, or that another run has.
    """
    if note:
        check_note(note)
    # Two that give names at once would both find theirs free, and forget what the other has said.
    with one_at_a_time(home.runs if home.runs.is_dir() else run.path.parent):
        if name:
            expect_free_name(home, name, run.name)
        now = read_naming(run.path, run.record.run)
        given = Naming(now.name if name is None else name or None, now.note if note is None else note or None)
        if name is not None or note is not None:
            write_naming(run.path, given, run.record.run)
    return Run(run.path, run.result)


def expect_free_name(home: Home, name: str, own: str = "") -> None:
    """UsageError unless a run, or the one of the folder `own`, can be called `name`."""
    check_name(name)
    taken = {path.name for path in _folders(home) if name in (path.name, read_naming(path).name)}
    if taken - {own}:
        raise UsageError(f"another run is called {name}", found=", ".join(sorted(taken - {own})))


def find_finished(home: Home, identity: str) -> Run | None:
    """The newest run with this identity."""
    runs, _ = list_runs(home)
    return next((run for run in runs if run.record.identity == identity), None)
