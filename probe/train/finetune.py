"""Fine-tuning that continues from the cache: head first, then head and unfrozen layers at a small rate."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.backbones import preprocess
from probe.config import Home, canonical_json
from probe.datasets.dataset import SPLITS, TEST, TRAIN, UNLABELLED, VAL
from probe.errors import FitError
from probe.extract import ExtractJob
from probe.runs import Predictions, Run, pair_predictions, scores, write_run
from probe.stats.paired import Comparison, compare_predictions
from probe.store import Store, slug
from probe.train.assembly import Assembly, assemble
from probe.train.data import ArrayInputs, Inputs, Part, batches
from probe.train.headstart import HeadStart, embeddings, find_probe, fit_start
from probe.train.loop import LoopResult, LoopSettings, OnEpoch, fit_loop, probabilities
from probe.train.pictures import open_pictures
from probe.train.plan import Plan, Prepared, TuneJob, prepare
from probe.train.prefix import ViewedInputs, cached_parts, extract_prefix, views_of
from probe.train.recipe import Optimiser
from probe.train.tensorboard import write_scalars
from probe.versions import versions

NETWORK = "network.keras"
KIND = "finetune"

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Material:
    """What the loop reads, and the parts in order for scoring.

    `parts` are in memory, mapped or decoded on demand; `prepare` turns their batches into network inputs.
    """

    inputs: Inputs
    parts: Mapping[str, Part]
    ids: Mapping[str, NDArray[np.str_]]
    prepare: Any
    store: Store | None = None
    seconds: float = 0.0


def plan(job: TuneJob, home: Home, *, parts: Mapping[str, int] | None = None) -> Plan:
    """What `finetune` would do. `parts` (images a split) stands in for a data set that is not here."""
    network = backbones.build_network(job.backbone)
    return prepare(job, network, parts or _count_parts(job), home).plan


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
    resume : continue the same job from its last finished epoch.
    say : takes a sentence for the user now and then.
    on_epoch : as in `fit_loop`, for both stages.
    tensorboard : folder for TensorBoard's log.
    devices : train on these together (``tf.distribute.MirroredStrategy``); None takes all GPUs when there
        are several.

    Raises UnknownNameError and UsageError for a cut or head that cannot be, FitError without training images.
    """
    started = time.perf_counter()
    counts = _count_parts(job)
    if not counts[TRAIN]:
        raise FitError(f"{job.dataset.name} has no labelled training images", hint="--split 0.7,0.1,0.2")
    ready = prepare(job, backbones.build_network(job.backbone), counts, home)
    for line in ready.plan.lines():
        say(line)
    start, probe = _head_start(job, ready, home, progress)
    if start is not None:
        say(f"head from {start.source}")
    material = _material(_labelled(job), ready, home, progress)
    strategy = _strategy(devices)
    network = assemble(
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
    folder = home.cache / KIND / _identity(job, ready)[:16]
    log = _log(on_epoch, tensorboard)
    head_result = None
    if start is not None:
        network.set_output(start.weights, start.bias)
    elif ready.cut.trains and job.settings.head_epochs:
        network.train_trunk(False)
        say(f"stage 1: the head alone, {job.settings.head_epochs} epochs")
        head_result = _train(network, material, _head_settings(job, material), folder / "head", resume, log)
    network.train_trunk(ready.cut.trains)
    say(f"training for at most {job.settings.epochs} epochs")
    result = _train(network, material, _settings(job, material), folder / "all", resume, log)
    _check_converged(result)
    predictions = {name: _predict(network, material, name, job) for name in (VAL, TEST)}
    frozen = _frozen_predictions(start, probe)
    comparison = _compare(predictions[TEST], frozen, probe)
    record = _record(job, ready, material, result, head_result, predictions, start)
    record["comparison"] = comparison.to_json() if comparison else None
    record["notes"] = _notes(comparison, frozen, ready)
    record["seconds"] = round(time.perf_counter() - started, 3)
    whole = network.whole()

    def write_more(path: Path) -> None:
        whole.save(path / NETWORK)

    label = f"{KIND}-{slug(job.dataset.name)}-{slug(job.backbone.name)}"
    run = write_run(home, label, record, predictions[TEST], write_more)
    shutil.rmtree(folder, ignore_errors=True)
    return run


# ---- material --------------------------------------------------------------------------------------------


def _usable(job: TuneJob) -> NDArray[np.bool_]:
    return (job.dataset.labels != UNLABELLED) & np.isin(job.dataset.splits, SPLITS)


def _labelled(job: TuneJob) -> TuneJob:
    return replace(job, dataset=job.dataset.take(np.flatnonzero(_usable(job))))


def _count_parts(job: TuneJob) -> dict[str, int]:
    usable = _usable(job)
    return {split: int((usable & (job.dataset.splits == split)).sum()) for split in SPLITS}


def _material(job: TuneJob, ready: Prepared, home: Home, progress: bool) -> _Material:
    if ready.cache.used:
        return _cached_material(job, ready, home, progress)
    return _plain_material(job)


def _cached_material(job: TuneJob, ready: Prepared, home: Home, progress: bool) -> _Material:
    settings = job.settings
    views = views_of(settings.augment, settings.views, settings.seed)
    store, seconds = extract_prefix(
        job.dataset, job.backbone, ready.cut, home, exif=job.exif, views=views, progress=progress
    )
    parts = cached_parts(store)
    inputs: Inputs
    if views is not None:
        inputs = ViewedInputs(store, batch_size=settings.batch_size, seed=settings.seed)
    else:
        inputs = _array_inputs(job, parts, None)
    ids = {split: store.index.ids[store.rows(split)] for split in SPLITS}
    return _Material(inputs, parts, ids, None, store, seconds)


def _plain_material(job: TuneJob) -> _Material:
    convention = preprocess.convention(job.backbone.preprocess)

    def prepare_pixels(pixels: Any) -> Any:
        from probe.tensorflow_setup import tf

        return convention.apply(tf.cast(pixels, tf.float32))

    parts, ids = {}, {}
    for split in SPLITS:
        rows = np.flatnonzero(job.dataset.splits == split)
        readable, pictures = open_pictures(job.dataset, rows, job.backbone.size, exif=job.exif)
        parts[split] = Part(pictures, job.dataset.labels[readable])
        ids[split] = job.dataset.ids[readable]
    return _Material(_array_inputs(job, parts, prepare_pixels), parts, ids, prepare_pixels)


def _array_inputs(job: TuneJob, parts: Mapping[str, Part], prepare_batch: Any) -> Inputs:
    return ArrayInputs(
        parts[TRAIN],
        parts[VAL] if len(parts[VAL]) else None,
        batch_size=job.settings.batch_size,
        seed=job.settings.seed,
        prepare=prepare_batch,
        augment=job.settings.augment if prepare_batch is not None else None,
    )


# ---- training --------------------------------------------------------------------------------------------


def _head_start(
    job: TuneJob, ready: Prepared, home: Home, progress: bool
) -> tuple[HeadStart | None, Run | None]:
    """Where the default head starts, and the frozen probe there is to beat."""
    index = ExtractJob(job.dataset, job.backbone, exif=job.exif).index().hash
    probe = find_probe(home, job.backbone, index)
    if not ready.head.pooled or not job.settings.head_epochs:
        return None, probe
    store = embeddings(job.dataset, job.backbone, home, exif=job.exif, progress=progress)
    return fit_start(store, job.backbone.outputs[0], job.dataset, probe), probe


def _strategy(devices: Sequence[str] | None) -> Any | None:
    from probe.tensorflow_setup import tf

    chosen = devices or [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(list(chosen)) if len(chosen) > 1 else None


def _settings(job: TuneJob, material: _Material) -> LoopSettings:
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


def _head_settings(job: TuneJob, material: _Material) -> LoopSettings:
    return replace(
        _settings(job, material),
        optimiser=Optimiser("adam", job.settings.head_lr),
        epochs=job.settings.head_epochs,
        stops=(),
        reduce_lr=None,
    )


def _class_weights(job: TuneJob, material: _Material) -> dict[int, float]:
    counts = np.bincount(material.parts[TRAIN].labels, minlength=len(job.dataset.classes))
    return {c: float(counts.sum() / (len(counts) * count)) for c, count in enumerate(counts) if count}


def _train(
    network: Assembly,
    material: _Material,
    settings: LoopSettings,
    folder: Path,
    resume: bool,
    on_epoch: OnEpoch,
) -> LoopResult:
    return fit_loop(
        network.model,
        material.inputs,
        settings,
        folder=folder,
        resume=resume,
        identity=folder.parent.name,
        on_epoch=lambda epoch, figures: on_epoch(epoch, {**figures, "stage": float(folder.name == "all")}),
    )


def _check_converged(result: LoopResult) -> None:
    """FitError when no epoch ended with a loss that is a number: there is nothing to keep then."""
    if not np.isfinite(result.history["loss"][result.kept_epoch - 1]):
        raise FitError(
            "the training diverged: the loss is no longer a number",
            found=f"after {len(result.history['loss'])} epochs",
            hint="a smaller --lr, or --clip 1",
        )


def _log(on_epoch: OnEpoch | None, tensorboard: Path | None) -> OnEpoch:
    """Tell the caller, and write TensorBoard's scalars, a folder a stage."""

    def log(epoch: int, figures: Mapping[str, float]) -> None:
        plain = {name: value for name, value in figures.items() if name != "stage"}
        if tensorboard is not None:
            write_scalars(tensorboard / ("all" if figures["stage"] else "head"), epoch, plain)
        if on_epoch is not None:
            on_epoch(epoch, plain)

    return log


def _identity(job: TuneJob, ready: Prepared) -> str:
    """sha256 of everything that decides the result but the number of epochs."""
    index = ExtractJob(job.dataset, job.backbone, exif=job.exif).index().hash
    settings = {
        name: value
        for name, value in asdict(job.settings).items()
        if name not in ("epochs", "prefix_cache", "memory")
    }
    record = {
        "backbone": job.backbone.key_part(),
        "index": index,
        "settings": json.loads(json.dumps(settings)),
        "cached": ready.cache.used,
    }
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


# ---- result ----------------------------------------------------------------------------------------------


def _predict(network: Assembly, material: _Material, name: str, job: TuneJob) -> Predictions:
    part = material.parts[name]
    if len(part):
        found = probabilities(network.model, batches(part, job.settings.batch_size, material.prepare))
    else:
        found = np.empty((0, len(job.dataset.classes)), np.float32)
    return Predictions(material.ids[name], part.labels.astype(np.int32), found)


def _frozen_predictions(start: HeadStart | None, probe: Run | None) -> Predictions | None:
    if probe is not None:
        return probe.predictions
    return start.test if start is not None else None


def _compare(tuned: Predictions, frozen: Predictions | None, probe: Run | None) -> Comparison | None:
    if frozen is None or not len(tuned.ids):
        return None
    name = f"the frozen probe ({probe.name})" if probe is not None else "the frozen probe"
    left, right = pair_predictions(tuned, frozen, "fine-tuning", name)
    return compare_predictions(left.correct, right.correct, name_a="fine-tuning", name_b=name)


def _notes(comparison: Comparison | None, frozen: Predictions | None, ready: Prepared) -> list[str]:
    notes = [f"{'prefix cache' if ready.cache.used else 'no prefix cache'}: {ready.cache.reason}"]
    if comparison is not None:
        notes.append(comparison.verdict)
    elif frozen is None:
        notes.append("no frozen probe to compare with: probe extract, then probe fit logreg")
    return notes


def _record(
    job: TuneJob,
    ready: Prepared,
    material: _Material,
    result: LoopResult,
    head_result: LoopResult | None,
    predictions: Mapping[str, Predictions],
    start: HeadStart | None,
) -> dict[str, Any]:
    data, settings = job.dataset, job.settings
    backbone = replace(job.backbone, outputs=job.backbone.outputs[:1], precision=settings.precision)
    return {
        "kind": KIND,
        "head": ready.plan.head,
        "chosen": {"epoch": result.kept_epoch},
        "options": json.loads(json.dumps(asdict(settings))),
        "plan": ready.plan.to_json(),
        "network": {
            "file": NETWORK,
            "preprocess": job.backbone.preprocess,
            "size": job.backbone.size,
            "features": ready.plan.trunk,
        },
        "head_start": start.source if start is not None else None,
        "head_history": dict(head_result.history) if head_result is not None else None,
        "history": dict(result.history),
        "stopped": result.stopped,
        "training_seconds": round(result.seconds + (head_result.seconds if head_result else 0), 3),
        "extraction_seconds": material.seconds,
        "test": scores(predictions[TEST]),
        "val": scores(predictions[VAL]),
        "parts": {name: len(part) for name, part in material.parts.items()},
        "store": material.store.name if material.store is not None else None,
        "store_key": material.store.key if material.store is not None else None,
        "index": ExtractJob(data, job.backbone, exif=job.exif).index().hash,
        "dataset": data.name,
        "dataset_facts": dict(data.facts),
        "backbone": backbone.key_part(),
        "pixels": ExtractJob(data, job.backbone, exif=job.exif).spec().pixels,
        "weights_path": job.backbone.weights_path,
        "classes": list(data.classes),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
