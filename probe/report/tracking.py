"""Runs in the trackers that people have: MLflow and TensorBoard, through their own clients."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from probe.errors import ProbeError, UsageError
from probe.runs import Run
from probe.runs.record import Scores, TrainFacts, TuneFacts

EXTRA = "pip install 'probe[tracking]'"
MLFLOW, TENSORBOARD = "mlflow", "tensorboard"
LONGEST = 500
"""Of a parameter's value in MLflow, letters."""
_NOT_IN_NAMES = re.compile(r"[^\w./ -]")


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
    check_tracker(target)
    kind, _, place = target.partition(":")
    try:
        TRACKERS[kind](run, place)
    except Exception as error:
        raise ProbeError(
            f"run {run.name} is kept, but could not be logged to {target}",
            found=f"{type(error).__name__}: {error}".partition("\n")[0],
            hint=f"probe runs log {run.name} {target}",
        ) from error


def _figures(run: Run) -> dict[str, float]:
    """``test/accuracy`` and the like: what is a number of the parts that were scored."""
    parts: Mapping[str, Scores | None] = {"test": run.record.test, "val": run.record.val}
    found: dict[str, float] = {"seconds": run.record.seconds or 0.0}
    for part, scores in parts.items():
        for name, value in (scores.to_json() if scores is not None else {}).items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[f"{part}/{name}"] = float(value)
    return found


def _epochs(run: Run) -> Iterator[tuple[str, int, float]]:
    """(figure, epoch, value) of a training, in the order of the epochs; of other runs nothing."""
    facts = run.record.facts
    if not isinstance(facts, TrainFacts | TuneFacts):
        return
    for name, values in facts.history.items():
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


def _to_mlflow(run: Run, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri or None)
    name = f"probe {run.record.dataset or 'runs'}"
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    logged = client.create_run(number, run_name=run.name, tags={"probe.run": run.name})
    key = logged.info.run_id
    for parameter, value in _parameters(run).items():
        client.log_param(key, _NOT_IN_NAMES.sub("_", parameter), value[:LONGEST])
    for figure, number_of in _figures(run).items():
        client.log_metric(key, figure, number_of)
    for figure, epoch, value_of in _epochs(run):
        client.log_metric(key, figure, value_of, step=epoch)
    client.log_artifact(key, str(run.path / "result.json"))
    client.set_terminated(key)


def _to_tensorboard(run: Run, folder: str) -> None:
    from tensorboard.summary import Writer

    writer = Writer(str(Path(folder) / run.name))
    for figure, value in _figures(run).items():
        writer.add_scalar(figure, value, 0)
    for figure, epoch, value in _epochs(run):
        writer.add_scalar(figure, value, epoch)
    writer.close()


TRACKERS: Mapping[str, Callable[[Run, str], None]] = {MLFLOW: _to_mlflow, TENSORBOARD: _to_tensorboard}
"""Kind -> what logs a run to the place after its colon."""
