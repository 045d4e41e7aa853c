"""A network trained on, from the cache of what stays frozen: what is asked for -> a job -> a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.dataset import TRAIN, UNLABELLED, Dataset
from probe.errors import DataError, UsageError
from probe.machine import return_large_buffers
from probe.runs import Run
from probe.store import Store
from probe.workspace.backbones import choose, resolve_choice, standardised
from probe.workspace.context import Context
from probe.workspace.extract import PRECISIONS
from probe.workspace.keywords import at_least, one_of, read_keywords
from probe.workspace.tune_stores import choose_stores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probe.backbones.backbone import BackboneSpec
    from probe.finetune.plan import Plan, TuneJob, TuneSettings
    from probe.train.rules import EarlyStop, ReduceLr

SHOWN = 6
"""Pictures of `show_augment`, a row each, of as many classes."""


@dataclass(frozen=True)
class TuneKeywords:
    """What is trained and how, by the names and with the defaults of the options of ``probe finetune``.

    Attributes
    ----------
    backbone : name, .keras file or run; None takes that of the store.
    unfreeze, freeze : ``all``, ``none``, ``last:N`` layers, ``last:Nblocks`` or the stage or layer from which
        on layers train; or ``first:N`` layers that stay as they are.
    trunk, head : where the backbone is cut off, and the layers between there and the output.
    size, preprocess, weights : of the backbone; None takes what is stored, or the backbone's own.
    optimiser, lr, momentum, nesterov, decay, schedule : of head and unfrozen layers together.
    epochs, batch_size, stop, reduce_lr, keep : the training and its rules, such as ``stop="val_loss:5"``.
    head_epochs, head_lr : of a head other than the default before the trunk moves.
    precision : ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    class_weight : ``balanced`` weights rare classes up.
    clip : largest norm of the gradient.
    train_bn : let batch normalisation above the cut learn its statistics.
    recompute : a third more time for less memory: layers are computed again for their gradient.
    augment, views : changes of the training pictures, new ones every epoch, or K stored ones a picture.
    prefix_cache, memory : extract what lies below the cut once, when it takes at most so many GB.
    seed : of order, augmentation, dropout and new weights.
    exif : turn images as their EXIF orientation says.
    """

    backbone: str | None = None
    unfreeze: str | None = None
    freeze: str | None = None
    trunk: str | None = None
    head: str | None = None
    size: int | None = None
    preprocess: str | None = None
    weights: str | None = None
    optimiser: str = "rmsprop"
    lr: float = 1e-5
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    schedule: str = "constant"
    epochs: int = 10
    batch_size: int = 32
    stop: tuple[str, ...] = ()
    reduce_lr: str | None = None
    keep: str | None = None
    head_epochs: int = 10
    head_lr: float = 1e-3
    precision: str = "auto"
    class_weight: Literal["balanced"] | None = None
    clip: float | None = None
    train_bn: bool = False
    recompute: bool = False
    augment: str = "none"
    views: int = 0
    prefix_cache: bool = True
    memory: float | None = None
    seed: int = 0
    exif: bool = False

    def __post_init__(self) -> None:
        at_least(1, size=self.size, epochs=self.epochs, batch_size=self.batch_size)
        at_least(0, head_epochs=self.head_epochs, views=self.views, memory=self.memory, seed=self.seed)
        one_of(PRECISIONS, precision=self.precision)
        if self.clip is not None and self.clip <= 0:
            raise UsageError("clip is no norm", expected="more than 0", found=f"{self.clip:g}")


def tune_keywords(options: Mapping[str, Any]) -> TuneKeywords:
    """Those of the options of ``probe finetune``, as they were read, that are fields of `TuneKeywords`."""
    names = [field.name for field in fields(TuneKeywords)]
    return read_keywords(TuneKeywords, {name: options[name] for name in names})


def plan(
    context: Context,
    dataset: Store | str | None,
    store: Store | str | None,
    wanted: TuneKeywords,
    options: DatasetOptions,
) -> Plan:
    """What `finetune` would do; a registered data set need not be here. Raises as `finetune`."""
    from probe.finetune.run import plan

    stores = choose_stores(context, dataset, store, wanted.backbone, options)
    try:
        data, parts = _images(context, dataset, options, stores.images), None
    except DataError:
        named = dataset if stores.images is None and isinstance(dataset, str) else ""
        if named not in DATASETS or not DATASETS[named].classes:
            raise
        data, parts = _declared(named)
    job = make_job(context, data, stores.backbone, wanted, counted_only=True)
    return plan(job, context.home, parts=parts)


def finetune(
    context: Context,
    dataset: Store | str | None,
    store: Store | str | None,
    wanted: TuneKeywords,
    options: DatasetOptions,
    *,
    resume: bool = False,
    tensorboard: Path | None = None,
    devices: Sequence[str] | None = None,
) -> Run:
    """Train, score the test part once, compare with the frozen probe, keep the network.

    Raises what finding stores and data sets raises, and as `probe.finetune.run.finetune`.
    """
    if wanted.recompute:  # before TensorFlow is imported
        return_large_buffers()
    from probe.finetune.run import finetune

    stores = choose_stores(context, dataset, store, wanted.backbone, options)
    data = _images(context, dataset, options, stores.images)
    return finetune(
        make_job(context, data, stores.backbone, wanted),
        context.home,
        resume=resume,
        say=context.say,
        on_epoch=lambda epoch, figures: context.say(_epoch_line(epoch, figures)),
        tensorboard=tensorboard,
        devices=devices,
        progress=context.progress,
    )


def show_augment(
    context: Context,
    dataset: Store | str | None,
    store: Store | str | None,
    wanted: TuneKeywords,
    options: DatasetOptions,
    path: Path,
) -> None:
    """Write a picture of training images of several classes, each beside augmented views of it.

    DataError without a training image that can be read.
    """
    import numpy as np

    from probe.images.augment import parse_augment, sample_grid
    from probe.images.path import pixel_path
    from probe.images.reader import read_batches

    stores = choose_stores(context, dataset, store, wanted.backbone, options)
    data = _images(context, dataset, options, stores.images)
    rows: list[int] = []
    pictures = []
    size = wanted.size or 128
    way = pixel_path(data.jpeg_sides, size, exif=wanted.exif)
    for batch in read_batches(data.source.read, one_of_each(data), size, SHOWN, path=way):
        good = [place for place, row in enumerate(batch.rows.tolist()) if row not in batch.problems]
        rows += batch.rows[good].tolist()
        pictures.append(batch.pixels[good])
        if len(rows) >= SHOWN:
            break
    if not rows:
        raise DataError(f"{data.name} has no training images that can be shown")
    labels = data.labels[rows[:SHOWN]].tolist()
    titles = ["no label" if label == UNLABELLED else data.classes[label] for label in labels]
    pixels = np.concatenate(pictures)[:SHOWN]
    augment = parse_augment(wanted.augment)
    sample_grid(pixels, augment, seed=wanted.seed, titles=titles).save(path)


def _images(
    context: Context, dataset: Store | str | None, options: DatasetOptions, images: Store | None
) -> Dataset:
    """The images of a store, or the data set that is named, with what there is to say of it."""
    from probe.extract import dataset_of

    if images is not None:
        return dataset_of(images, context.home).thinned(options.limit)
    assert isinstance(dataset, str)  # otherwise there is a store
    data = open_dataset(dataset, context.home, options)
    for line in data.notes:
        context.say(line)
    return data


def _declared(name: str) -> tuple[Dataset, dict[str, int]]:
    """A registered data set without its images."""
    import numpy as np

    row = DATASETS[name]
    names = row.class_names or tuple(str(number) for number in range(row.classes))
    none = np.array([], np.str_)
    data = Dataset(name, none, none, np.array([], np.int32), none, names, _NoImages())
    splits = dict(row.splits) or {"train": row.images}
    return data, {part: splits.get(part, 0) for part in ("train", "val", "test")}


class _NoImages:
    def read(self, row: int) -> bytes:
        raise FileNotFoundError("this data set is only declared")


def make_job(
    context: Context,
    data: Dataset,
    base: Store | None,
    wanted: TuneKeywords,
    *,
    counted_only: bool = False,
) -> TuneJob:
    """Resolve the backbone and put the job together; for counting, weights need not be here."""
    from probe.backbones import row_of
    from probe.backbones.backbone import HUB_PRESET
    from probe.finetune.plan import TuneJob

    if wanted.backbone is not None:
        spec, trunk = _named_backbone(context, data, wanted.backbone, wanted, counted_only)
    else:
        assert base is not None
        if wanted.weights is not None:
            raise UsageError("--weights belongs to --backbone", hint="name the backbone as well")
        spec, trunk = _stored_backbone(context, data, base, wanted)
    row = row_of(spec)
    trunk = wanted.trunk or trunk or (row.default_output if row.kind == HUB_PRESET else None)
    spec = replace(spec, outputs=(trunk or row.default_output,))
    return TuneJob(data, spec, row, tune_settings(wanted, trunk), wanted.exif)


def _named_backbone(
    context: Context, data: Dataset, name: str, wanted: TuneKeywords, counted_only: bool
) -> tuple[BackboneSpec, str | None]:
    from probe.backbones import find_row
    from probe.backbones.backbone import KERAS
    from probe.extract import STANDARDISE

    choice = choose(context, name, wanted.size, wanted.preprocess)
    weights = wanted.weights or "imagenet"
    if counted_only and find_row(choice.name).kind == KERAS:
        # Counting needs no trained weights, nor the numbers of a standardisation.
        weights = "random"
    if counted_only and choice.preprocess == STANDARDISE:
        choice = replace(choice, preprocess="none")
    spec = resolve_choice(
        context.home,
        choice,
        data,
        weights=weights,
        outputs=None,
        precision=wanted.precision,
        exif=wanted.exif,
    )
    return spec, choice.features


def _stored_backbone(
    context: Context, data: Dataset, base: Store, wanted: TuneKeywords
) -> tuple[BackboneSpec, str | None]:
    """The backbone of a store, with another size or preprocessing where one is asked for."""
    from probe.backbones import respecify, row_of
    from probe.backbones.backbone import HUB_PRESET, KERAS_FILE
    from probe.extract import backbone_of

    spec = backbone_of(base, context.home)
    size = wanted.size or spec.size
    preprocess = standardised(wanted.preprocess, data, size, wanted.exif)
    spec = respecify(spec, size=size, preprocess=preprocess, precision=wanted.precision)
    brings_its_own = row_of(spec).kind in (KERAS_FILE, HUB_PRESET)
    return spec, spec.outputs[0].partition(":")[0] if brings_its_own else None


def tune_settings(wanted: TuneKeywords, trunk: str | None) -> TuneSettings:
    """The settings that the options of ``probe finetune`` come to."""
    from probe.errors import unknown_name
    from probe.finetune.plan import TuneSettings
    from probe.images.augment import parse_augment
    from probe.train.rules import DEFAULT_RATES, Optimiser

    if wanted.optimiser not in DEFAULT_RATES:
        raise unknown_name("optimiser", wanted.optimiser, DEFAULT_RATES)
    return TuneSettings(
        unfreeze=wanted.unfreeze,
        freeze=wanted.freeze,
        trunk=trunk,
        head=wanted.head,
        optimiser=Optimiser(
            wanted.optimiser,
            wanted.lr,
            wanted.momentum,
            wanted.nesterov,
            wanted.decay,
            wanted.schedule,
        ),
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        stops=tuple(_early_stop(text) for text in wanted.stop),
        reduce_lr=_reduce_lr(wanted.reduce_lr) if wanted.reduce_lr else None,
        keep=wanted.keep,
        head_epochs=wanted.head_epochs,
        head_lr=wanted.head_lr,
        balanced=wanted.class_weight == "balanced",
        clip=wanted.clip,
        train_bn=wanted.train_bn,
        recompute=wanted.recompute,
        augment=parse_augment(wanted.augment),
        views=wanted.views,
        prefix_cache=wanted.prefix_cache,
        memory=None if wanted.memory is None else int(wanted.memory * 1e9),
        seed=wanted.seed,
    )


def _early_stop(text: str) -> EarlyStop:
    from probe.train.rules import MONITORS, EarlyStop

    monitor, _, patience = text.partition(":")
    if monitor not in MONITORS or not patience.isdigit() or not int(patience):
        raise UsageError(
            "--stop cannot be read", expected="val_loss:5, FIGURE one of " + ", ".join(MONITORS), found=text
        )
    return EarlyStop(monitor, int(patience))


def _reduce_lr(text: str) -> ReduceLr:
    from probe.train.rules import MONITORS, ReduceLr

    try:
        monitor, factor, patience, *rest = text.split(":")
        rule = ReduceLr(monitor, float(factor), int(patience), *map(float, rest))
    except (ValueError, TypeError):
        rule = None
    if rule is None or rule.monitor not in MONITORS or not 0 < rule.factor < 1 or rule.patience < 1:
        raise UsageError(
            "--reduce-lr cannot be read", expected="FIGURE:FACTOR:N[:MIN], val_loss:0.1:3:1e-6", found=text
        )
    return rule


def one_of_each(data: Dataset) -> NDArray[np.intp]:
    """The training rows: one of each of `SHOWN` classes first, spread over all classes; then the rest."""
    import numpy as np

    rows = np.flatnonzero(data.splits == TRAIN)
    labels = data.labels[rows]
    found = np.unique(labels)
    chosen = np.linspace(0, max(0, len(found) - 1), min(SHOWN, len(found))).round().astype(int)
    # The how-manieth of its class a row is: of every class the first, then of every class the second.
    turn = np.zeros(len(rows), dtype=int)
    for label in found:
        turn[labels == label] = np.arange((labels == label).sum())
    return np.asarray(rows[np.lexsort((labels, ~np.isin(labels, found[chosen]), turn))])


def _epoch_line(epoch: int, figures: Mapping[str, float]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in figures.items()]
    return f"epoch {epoch}  " + "  ".join(shown) + ("" if epoch else "  (before training)")
