"""Runs in the trackers that people have: MLflow and TensorBoard, through their own clients."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.errors import ProbeError, UsageError
from probe.runs import Run
from probe.runs.record import Scores, TrainFacts, TuneFacts
from probe.studies.sweep import CellResult
from probe.studies.sweep_job import sweep_cells

EXTRA = "pip install 'probe[tracking]'"
MLFLOW, TENSORBOARD = "mlflow", "tensorboard"
LONGEST = 500
"""Of a parameter's value in MLflow, letters."""
_NOT_IN_NAMES = re.compile(r"[^\w./ -]")
_NOT_IN_FOLDERS = re.compile(r"[^\w.=+, -]")


def check_tracker(target: str) -> None:
    """UsageError unless `target` is ``mlflow[:URI]`` or ``tensorboard:FOLDER``, with its client here."""
    kind, _, place = target.partition(":")
    if kind not in TRACKERS or (kind == TENSORBOARD and not place):
        raise UsageError(
            "there is no such tracker", expected="mlflow, mlflow:URI or tensorboard:FOLDER", found=target
        )
    if importlib.util.find_spec(kind) is None:
        raise UsageError(f"{kind} is not installed", hint=EXTRA)


def track(run: Run, target: str) -> None:
    """Log a finished run: its figures, those of every epoch, what was chosen, and its ``result.json``.

    UsageError as `check_tracker`, ProbeError where the tracker cannot be reached; the run itself is kept.
    """
    entry = _Entry(
        run.name,
        run.record.dataset,
        _parameters(run),
        _figures(run),
        tuple(_epochs(run)),
        run.path / "result.json",
    )
    _log([entry], f"run {run.name}", target, f"probe runs log {run.name} {target}")


def track_sweep(folder: Path, target: str) -> None:
    """Log every cell of a finished sweep: its setting, its figures and those of every epoch.

    Raises as `track`, and DataError where the sweep cannot be read.
    """
    dataset, cells = sweep_cells(folder)
    entries = [_cell_entry(folder.name, dataset, cell) for cell in cells]
    _log(entries, f"sweep {folder.name}", target, "give the same command again: no cell is trained twice")


@dataclass(frozen=True)
class _Entry:
    """What a tracker is told of one training or fit.

    Attributes
    ----------
    figures : ``test/accuracy`` and the like, by name.
    epochs : (figure, epoch from 1 on, value).
    record : a file to keep with it.
    """

    name: str
    dataset: str | None
    parameters: Mapping[str, str]
    figures: Mapping[str, float]
    epochs: Sequence[tuple[str, int, float]]
    record: Path | None = None


def _log(entries: Sequence[_Entry], what: str, target: str, again: str) -> None:
    check_tracker(target)
    kind, _, place = target.partition(":")
    try:
        for entry in entries:
            TRACKERS[kind](entry, place)
    except Exception as error:
        raise ProbeError(
            f"{what} is kept, but could not be logged to {target}",
            found=f"{type(error).__name__}: {error}".partition("\n")[0],
            hint=again,
        ) from error


def _cell_entry(sweep: str, dataset: str | None, cell: CellResult) -> _Entry:
    fold = "" if cell.fold is None else f" fold {cell.fold}"
    accuracies = {"val/accuracy": cell.val_accuracy, "test/accuracy": cell.test_accuracy}
    figures = {name: value for name, value in accuracies.items() if value is not None}
    said = {"sweep": sweep, "setting": cell.setting, "seed": cell.seed, "fold": cell.fold}
    return _Entry(
        _NOT_IN_FOLDERS.sub("_", f"{sweep} {cell.setting} seed {cell.seed}{fold}"),
        dataset,
        {name: str(value) for name, value in said.items() if value is not None},
        {**figures, "seconds": cell.seconds},
        tuple(_finite(cell.history)),
    )


def _figures(run: Run) -> dict[str, float]:
    """What is a number of the parts that were scored."""
    parts: Mapping[str, Scores | None] = {"test": run.record.test, "val": run.record.val}
    found: dict[str, float] = {"seconds": run.record.seconds or 0.0}
    for part, scores in parts.items():
        for name, value in (scores.to_json() if scores is not None else {}).items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[f"{part}/{name}"] = float(value)
    return found


def _epochs(run: Run) -> Iterator[tuple[str, int, float]]:
    """Of a training in the order of the epochs; of other runs nothing."""
    facts = run.record.facts
    if isinstance(facts, TrainFacts | TuneFacts):
        yield from _finite(facts.history)


def _finite(history: Mapping[str, Sequence[float | None]]) -> Iterator[tuple[str, int, float]]:
    for name, values in history.items():
        for epoch, value in enumerate(values, 1):
            if value is not None and math.isfinite(value):
                yield f"epoch/{name}", epoch, float(value)


def _parameters(run: Run) -> dict[str, str]:
    record = run.record
    found = {"head": record.head, "kind": record.kind, "dataset": record.dataset, "store": record.store}
    backbone = {f"backbone.{name}": value for name, value in (record.backbone or {}).items()}
    chosen = {f"chosen.{name}": value for name, value in (record.chosen or {}).items()}
    options = getattr(record.facts, "options", {})
    said = {**found, **backbone, **chosen, **options}
    return {name: str(value) for name, value in said.items() if value is not None}


def _to_mlflow(entry: _Entry, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri or None)
    name = f"probe {entry.dataset or 'runs'}"
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    logged = client.create_run(number, run_name=entry.name, tags={"probe.run": entry.name})
    key = logged.info.run_id
    for parameter, value in entry.parameters.items():
        client.log_param(key, _NOT_IN_NAMES.sub("_", parameter), value[:LONGEST])
    for figure, number_of in entry.figures.items():
        client.log_metric(key, figure, number_of)
    for figure, epoch, value_of in entry.epochs:
        client.log_metric(key, figure, value_of, step=epoch)
    if entry.record is not None:
        client.log_artifact(key, str(entry.record))
    client.set_terminated(key)


def _to_tensorboard(entry: _Entry, folder: str) -> None:
    from tensorboard.summary import Writer

    writer = Writer(str(Path(folder) / entry.name))
    for figure, value in entry.figures.items():
        writer.add_scalar(figure, value, 0)
    for figure, epoch, value in entry.epochs:
        writer.add_scalar(figure, value, epoch)
    writer.close()


TRACKERS: Mapping[str, Callable[[_Entry, str], None]] = {MLFLOW: _to_mlflow, TENSORBOARD: _to_tensorboard}
"""Kind -> what logs an entry to the place after its colon."""
