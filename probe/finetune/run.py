"""Fine-tuning that continues from the cache: head first, then head and unfrozen layers at a small rate."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe import backbones
from probe.config import Home, canonical_json
from probe.curves import CURVES, Course, plot_curves
from probe.datasets.dataset import TEST, TRAIN, VAL
from probe.errors import FitError
from probe.extract import ExtractJob
from probe.finetune.assembly import Assembly, assemble
from probe.finetune.headstart import HeadStart, embeddings, find_probes, fit_start
from probe.finetune.material import Material, count_parts, labelled, open_material
from probe.finetune.outcome import NETWORK, describe, judge, predict
from probe.finetune.plan import Plan, Prepared, TuneJob, prepare
from probe.progress import Progress
from probe.runs import FINE_TUNED, Predictions, Record, Run, find_finished, write_run
from probe.store import slug
from probe.train.loop import LoopResult, LoopSettings, OnEpoch, fit_loop
from probe.train.rules import Optimiser
from probe.train.tensorboard import write_scalars

Say = Callable[[str], None]


def plan(job: TuneJob, home: Home, *, parts: Mapping[str, int] | None = None) -> Plan:
    """What `finetune` would do. `parts` (images a split) stands in for a data set that is not here."""
    network = backbones.build_network(job.backbone)
    return prepare(job, network, parts or count_parts(job), home).plan


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
    counts = count_parts(job)
    if not counts[TRAIN]:
        raise FitError(f"{job.dataset.name} has no labelled training images", hint="--split 0.7,0.1,0.2")
    ready = prepare(job, backbones.build_network(job.backbone), counts, home)
    for line in ready.plan.lines():
        say(line)
    identity = _identity(job, ready)
    finished = _finished_identity(job, identity)
    done = find_finished(home, finished) if resume else None
    if done is not None:
        say(f"run {done.name} is this very fine-tuning: not repeated")
        return done
    probes = find_probes(home, ExtractJob(job.dataset, job.backbone, exif=job.exif))
    start = _head_start(job, ready, home, probes, progress)
    material = open_material(labelled(job), ready, home, progress)
    network = _assemble(job, ready, devices)
    folder = home.cache / FINE_TUNED / identity[:16]
    stages = _Stages(network, material, folder, resume, _log(on_epoch, tensorboard), progress)
    head_result, result = _train(job, ready, stages, start, say)
    predictions = {name: predict(network, material, name, job) for name in (VAL, TEST)}
    judgement = judge(predictions[TEST], start, probes, ready, result, job.settings.precision)
    record = replace(
        describe(job, ready, material, result, head_result, predictions, start, judgement),
        identity=finished,
        seconds=round(time.perf_counter() - started, 3),
    )
    run = _keep(job, home, record, predictions[TEST], network.whole(), _courses(head_result, result))
    shutil.rmtree(folder, ignore_errors=True)
    return run


def _assemble(job: TuneJob, ready: Prepared, devices: Sequence[str] | None) -> Assembly:
    strategy = _strategy(devices)
    return assemble(
        ready.cut,
        ready.head,
        ready.shapes,
        cached=ready.cache.used,
        size=job.backbone.size,
        precision=job.settings.precision,
        seed=job.settings.seed,
        train_bn=job.settings.train_bn,
        scope=strategy.scope() if strategy is not None else nullcontext(),
    )


def _courses(head_result: LoopResult | None, result: LoopResult) -> dict[str, Course]:
    stages = {"head": head_result, "head and trunk": result}
    return {
        name: Course(stage.history, stage.kept_epoch, stage.start)
        for name, stage in stages.items()
        if stage is not None
    }


def _keep(
    job: TuneJob,
    home: Home,
    record: Record,
    test: Predictions,
    network: Any,
    courses: Mapping[str, Course],
) -> Run:
    def write_more(path: Path) -> None:
        network.save(path / NETWORK)
        plot_curves(courses, path / CURVES, title=f"{job.backbone.name} on {job.dataset.name}")

    label = f"{FINE_TUNED}-{slug(job.dataset.name)}-{slug(job.backbone.name)}"
    return write_run(home, label, record, test, write_more)


def _head_start(
    job: TuneJob, ready: Prepared, home: Home, probes: Sequence[Run], progress: bool
) -> HeadStart | None:
    """Where the default head starts; None for other heads, and where heads are to start untrained."""
    if not ready.head.pooled or not job.settings.head_epochs:
        return None
    store = embeddings(job.dataset, job.backbone, home, exif=job.exif, progress=progress)
    with Progress("head start", shown=progress):
        return fit_start(store, job.backbone.outputs[0], job.dataset, probes[0] if probes else None)


def _strategy(devices: Sequence[str] | None) -> Any | None:
    from probe.tensorflow_setup import tf

    chosen = devices or [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(list(chosen)) if len(chosen) > 1 else None


def _settings(job: TuneJob, material: Material) -> LoopSettings:
    settings = job.settings
    return LoopSettings(
        optimiser=settings.optimiser,
        epochs=settings.epochs,
        loss="binary_crossentropy" if len(job.dataset.classes) == 2 else "sparse_categorical_crossentropy",
        stops=settings.stops,
        reduce_lr=settings.reduce_lr,
        keep=settings.keep or ("val_loss" if len(material.parts[VAL]) else "last"),
        class_weights=_class_weights(job, material) if settings.balanced else None,
        clip_norm=settings.clip,
        scale_loss=settings.precision == "fp16",
    )


def _head_settings(job: TuneJob, material: Material) -> LoopSettings:
    return replace(
        _settings(job, material),
        optimiser=Optimiser("adam", job.settings.head_lr),
        epochs=job.settings.head_epochs,
        stops=(),
        reduce_lr=None,
    )


def _class_weights(job: TuneJob, material: Material) -> dict[int, float]:
    counts = np.bincount(material.parts[TRAIN].labels, minlength=len(job.dataset.classes))
    return {c: float(counts.sum() / (len(counts) * count)) for c, count in enumerate(counts) if count}


@dataclass(frozen=True)
class _Stages:
    """Runs one stage after the other on one network; each keeps its state in a folder of its own."""

    network: Assembly
    material: Material
    folder: Path
    resume: bool
    log: Callable[[str], OnEpoch]
    progress: bool

    def run(self, name: str, settings: LoopSettings, *, trunk: bool, start_counts: bool) -> LoopResult:
        self.network.train_trunk(trunk)
        return fit_loop(
            self.network.model,
            self.material.inputs,
            settings,
            folder=self.folder / name,
            resume=self.resume,
            identity=self.folder.name,
            on_epoch=self.log(name),
            start_counts=start_counts,
            progress=self.progress,
            name=f"training {name}",
        )


def _train(
    job: TuneJob, ready: Prepared, stages: _Stages, start: HeadStart | None, say: Say
) -> tuple[LoopResult | None, LoopResult]:
    """The head first, by `start` or by epochs of its own, then head and trunk: the results of both."""
    head_result = None
    if start is not None:
        say(f"head from {start.source}")
        stages.network.set_output(start.weights, start.bias)
    elif ready.cut.trains and job.settings.head_epochs:
        say(f"the head alone for {job.settings.head_epochs} epochs")
        head_result = stages.run(
            "head", _head_settings(job, stages.material), trunk=False, start_counts=False
        )
    say(f"training for at most {job.settings.epochs} epochs")
    # A head at its random start is nothing that could be kept.
    fitted = start is not None or head_result is not None
    settings = _settings(job, stages.material)
    result = stages.run("all", settings, trunk=ready.cut.trains, start_counts=fitted)
    check_converged(result)
    return head_result, result


def check_converged(result: LoopResult) -> None:
    """FitError when no epoch ended with a loss that is a number, or the one kept did not."""
    losses = result.history["loss"]
    kept = losses if result.kept_epoch == 0 else losses[result.kept_epoch - 1 : result.kept_epoch]
    if not np.isfinite(kept).any():
        raise FitError(
            "the training diverged: the loss is no longer a number",
            found=f"after {len(losses)} epochs",
            hint="a smaller --lr, or --clip 1",
        )


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


def _finished_identity(job: TuneJob, identity: str) -> str:
    """sha256 that tells the run of one number of epochs from that of another."""
    return hashlib.sha256(canonical_json([identity, job.settings.epochs]).encode()).hexdigest()


def _identity(job: TuneJob, ready: Prepared) -> str:
    """sha256 of everything that decides the result but the number of epochs."""
    extraction = ExtractJob(job.dataset, job.backbone, exif=job.exif)
    # Before large JPEGs were decoded at a fraction, no more than EXIF told pixels apart.
    pixels = {"pixels": extraction.pixels.key_part()} if extraction.pixels.scaled else {}
    settings = {
        name: value
        for name, value in asdict(job.settings).items()
        if name not in ("epochs", "prefix_cache", "memory")
    }
    record = {
        "backbone": job.backbone.key_part(),
        "index": extraction.index().hash,
        "exif": job.exif,
        **pixels,
        "settings": json.loads(json.dumps(settings)),
        "cached": ready.cache.used,
    }
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()
