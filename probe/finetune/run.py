"""Fine-tuning that continues from the cache: from a job to a run on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from probe import backbones
from probe.config import Home
from probe.curves import CURVES, plot_curves
from probe.datasets.dataset import TEST, TRAIN
from probe.errors import FitError
from probe.extract import said_of_engine
from probe.finetune.engine import settle_tuning
from probe.finetune.outcome import NETWORK, describe
from probe.finetune.plan import Plan, TuneJob, prepare
from probe.finetune.tuning import Say, Trained, Tuning, open_tuning
from probe.runs import FINE_TUNED, Predictions, Record, Run, find_finished, write_run
from probe.store import slug
from probe.train.loop import OnEpoch
from probe.train.tensorboard import write_scalars


def plan(job: TuneJob, home: Home, *, parts: Mapping[str, int] | None = None) -> Plan:
    """What `finetune` would do. `parts` (images a split) stands in for a data set that is not here."""
    network = backbones.network_of(job.row, job.backbone)
    return prepare(job, network, parts or job.count_parts(), home).plan


def finetune(
    job: TuneJob,
    home: Home,
    *,
    resume: bool = False,
    say: Say = lambda line: None,
    on_epoch: OnEpoch | None = None,
    tensorboard: Path | None = None,
    devices: Sequence[str] | None = None,
    progress: bool = False,
) -> Run:
    """Fine-tune, score the test part once, compare with the frozen probe, keep the network.

    Parameters
    ----------
    resume : continue the same job from its last finished epoch; a finished one is not repeated.
    say : takes a sentence for the user now and then.
    on_epoch : as in `fit_loop`, for both stages.
    tensorboard : folder for TensorBoard's log.
    devices : train on these together (``tf.distribute.MirroredStrategy``); None takes all GPUs when there
        are several.
    progress : say how far extraction, head start and training have come.

    Raises UnknownNameError and UsageError for a cut or head that cannot be, FitError without training images.
    """
    started = time.perf_counter()
    counts = job.count_parts()
    if not counts[TRAIN]:
        raise FitError(f"{job.dataset.name} has no labelled training images", hint="--split 0.7,0.1,0.2")
    ready = prepare(job, backbones.network_of(job.row, job.backbone), counts, home)
    for line in ready.plan.lines():
        say(line)
    asked, ready = job, settle_tuning(ready, home, resume=resume)
    if line := said_of_engine(asked.backbone, ready.job.backbone):
        say(line)
    done = find_finished(home, ready.run_identity) if resume else None
    if done is not None:
        say(f"run {done.name} is this very fine-tuning: not repeated")
        return done
    told = _log(on_epoch, tensorboard)
    tuning = open_tuning(ready, home, resume=resume, on_epoch=told, devices=devices, progress=progress)
    trained = tuning.train(say)
    test = tuning.predict(TEST)
    seconds = round(time.perf_counter() - started, 3)
    record = replace(describe(tuning, trained, test), identity=ready.run_identity, seconds=seconds)
    run = _keep(tuning, home, record, test, trained)
    shutil.rmtree(tuning.folder, ignore_errors=True)
    return run


def _keep(tuning: Tuning, home: Home, record: Record, test: Predictions, trained: Trained) -> Run:
    backbone, dataset = tuning.job.backbone.name, tuning.job.dataset.name

    def write_more(path: Path) -> None:
        tuning.network.whole().save(path / NETWORK)
        plot_curves(trained.courses(), path / CURVES, title=f"{backbone} on {dataset}")

    return write_run(home, f"{FINE_TUNED}-{slug(dataset)}-{slug(backbone)}", record, test, write_more)


def _log(on_epoch: OnEpoch | None, tensorboard: Path | None) -> Callable[[str], OnEpoch]:
    """Stage -> what is called after each of its epochs: the caller, and TensorBoard in a folder a stage.

    The start, epoch 0, is for the caller alone.
    """

    def of_stage(stage: str) -> OnEpoch:
        def log(epoch: int, figures: Mapping[str, float]) -> None:
            if tensorboard is not None and epoch:
                write_scalars(tensorboard / stage, epoch, figures)
            if on_epoch is not None:
                on_epoch(epoch, figures)

        return log

    return of_stage
