"""``probe finetune``: train the upper part of a backbone, from the cache of the lower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import dataset_options, emit, json_option, note, quiet_option, wants_progress
from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.dataset import TRAIN, UNLABELLED, Dataset
from probe.errors import DataError, UsageError
from probe.report.runs import result_lines
from probe.store import Store
from probe.workspace.backbones import choose, resolve_choice, standardised
from probe.workspace.context import Context
from probe.workspace.tune_stores import choose_stores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probe.backbones.backbone import BackboneSpec
    from probe.finetune.plan import TuneJob, TuneSettings
    from probe.train.rules import EarlyStop, ReduceLr

SHOWN = 6
"""Pictures in ``--show-augment``, a row each, of as many classes."""


@click.command(name="finetune")
@click.argument("dataset", required=False)
@click.option("--backbone", help="Name, .keras file or RUN; by default that of the newest store.")
@click.option("--store", help="Store whose backbone and data set are taken.  [default: the newest]")
@click.option(
    "--unfreeze", help="all, none, last:N, or the stage or layer from which on layers train.  [default: none]"
)
@click.option(
    "--freeze",
    help="first:N: the first N layers stay as they are, the rest trains.  [default: as --unfreeze says]",
)
@click.option("--trunk", help="Stage or layer at which the backbone is cut off.  [default: its end]")
@click.option("--head", help='Layers before the output, "F D120 R"; by default pooled features go straight.')
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Side of the network's input, pixels.  [default: as stored, or the backbone's own]",
)
@click.option(
    "--preprocess",
    help="Value convention: unit, standardise (by the training part), …"
    "  [default: as stored, or the backbone's own]",
)
@click.option("--weights", help="imagenet (default), random, random:SEED or a file; with --backbone.")
@click.option("--optimiser", default="rmsprop", show_default=True, help="adam, sgd, rmsprop, nadam, …")
@click.option("--lr", default=1e-5, show_default=True, help="Learning rate of head and unfrozen layers.")
@click.option("--momentum", default=0.0, show_default=True)
@click.option("--nesterov", is_flag=True)
@click.option("--decay", default=0.0, show_default=True, help="Rate at step t: lr / (1 + decay · t).")
@click.option(
    "--schedule",
    default="constant",
    show_default=True,
    help="Course of the rate: cosine, cosine=2 (warm-up epochs), linear, exponential=0.9, step=0.1:10.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--stop",
    multiple=True,
    metavar="FIGURE:N",
    help="Early stopping, val_loss:5; repeatable.  [default: none]",
)
@click.option(
    "--reduce-lr",
    metavar="FIGURE:FACTOR:N[:MIN]",
    help="Reduce on a plateau, val_loss:0.1:3.  [default: never]",
)
@click.option("--keep", help="Epoch kept: val_loss (default with validation), val_accuracy or last.")
@click.option(
    "--head-epochs",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Epochs of a head other than the default before the trunk moves; 0: heads start untrained.",
)
@click.option("--head-lr", default=1e-3, show_default=True, help="Adam's rate in these epochs.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Weight rare classes up in the loss.  [default: all alike]",
)
@click.option(
    "--clip",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest norm of the gradient.  [default: none]",
)
@click.option("--train-bn", is_flag=True, help="Let batch normalisation above the cut learn its statistics.")
@click.option("--augment", default="none", show_default=True, help="flip,zoom=0.2,… or a preset; train only.")
@click.option(
    "--views",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Augmented views a picture in the prefix cache; 0: new ones every epoch, without cache.",
)
@click.option(
    "--show-augment",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture of training images of several classes, each beside views of it, and stop."
    "  [default: train]",
)
@click.option(
    "--prefix-cache/--no-prefix-cache",
    default=True,
    show_default=True,
    help="Extract what lies below the cut once, and train on that.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Largest prefix cache.  [default: the free disk]",
)
@click.option("--seed", default=0, show_default=True, help="Of order, augmentation, dropout and new weights.")
@click.option("--exif", is_flag=True, help="Turn images as their EXIF orientation says.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue this very command after its last finished epoch; a finished one is not repeated.",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write logs for TensorBoard there.  [default: none]",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what is frozen, trained, and what it takes; train nothing."
)
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    dataset: str | None,
    options: DatasetOptions,
    backbone: str | None,
    store: str | None,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
    show_augment: Path | None,
    resume: bool,
    tensorboard: Path | None,
    **choices: Any,
) -> None:
    """Train a head and the upper part of a backbone, and compare with the frozen probe.

    DATASET is as `probe extract` takes it, or a STORE (as `probe fit` takes it) for its images. By default
    images and backbone are those of the newest store that has a network. The head comes first: the default
    one from `probe fit`, any other from a few epochs of its own. Then head and unfrozen layers train
    together. What lies below the cut never changes, so it is extracted once and trained on from the disk.
    """
    stores = choose_stores(Context(home, quiet), dataset, store, backbone, options)
    data, declared = _images(home, dataset, options, stores.images, dry_run)
    for line in data.notes if stores.images is None else ():
        note(line, quiet)
    if show_augment is not None:
        return _show_augment(home, data, show_augment, choices)
    job = _make_job(home, data, stores.backbone, backbone, dry_run, choices)
    if dry_run:
        from probe.finetune.run import plan

        found = plan(job, home, parts=declared)
        return emit(found.to_json(), as_json, found.lines)
    from probe.finetune.run import finetune

    run = finetune(
        job,
        home,
        resume=resume,
        say=lambda line: note(line, quiet),
        on_epoch=lambda epoch, figures: note(_epoch_line(epoch, figures), quiet),
        tensorboard=tensorboard,
        progress=wants_progress(quiet),
    )
    emit(dict(run.result), as_json, lambda: result_lines(run))


def _images(
    home: Home, name: str | None, options: DatasetOptions, images: Store | None, dry_run: bool
) -> tuple[Dataset, dict[str, int] | None]:
    """The data set; in a dry run its declared counts will do for a registered one that is not here."""
    from probe.extract import dataset_of

    if images is not None:
        return dataset_of(images, home).thinned(options.limit), None
    assert name is not None  # without a name there is a store
    try:
        return open_dataset(name, home, options), None
    except DataError:
        if not (dry_run and name in DATASETS and DATASETS[name].classes):
            raise
    return _declared(name)


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


def _make_job(
    home: Home,
    data: Dataset,
    base: Store | None,
    backbone: str | None,
    dry_run: bool,
    choices: Mapping[str, Any],
) -> TuneJob:
    from probe.backbones import row_of
    from probe.finetune.plan import TuneJob

    if backbone is not None:
        spec, trunk = _named_backbone(home, data, backbone, dry_run, choices)
    else:
        assert base is not None
        if choices["weights"] is not None:
            raise UsageError("--weights belongs to --backbone", hint="name the backbone as well")
        spec, trunk = _stored_backbone(home, data, base, choices)
    row = row_of(spec)
    trunk = choices["trunk"] or trunk
    spec = replace(spec, outputs=(trunk or row.default_output,))
    return TuneJob(data, spec, row.stages, tune_settings(choices, trunk), choices["exif"])


def _named_backbone(
    home: Home, data: Dataset, name: str, dry_run: bool, choices: Mapping[str, Any]
) -> tuple[BackboneSpec, str | None]:
    choice = choose(home, name, choices["size"], choices["preprocess"])
    weights = choices["weights"] or "imagenet"
    if dry_run and not choice.name.endswith(".keras"):
        # Counting needs no trained weights, nor the numbers of a standardisation.
        weights = "random"
    if dry_run and choice.preprocess == "standardise":
        choice = replace(choice, preprocess="none")
    precision, exif = choices["precision"], choices["exif"]
    spec = resolve_choice(home, choice, data, weights=weights, outputs=None, precision=precision, exif=exif)
    return spec, choice.features


def _stored_backbone(
    home: Home, data: Dataset, base: Store, choices: Mapping[str, Any]
) -> tuple[BackboneSpec, str | None]:
    """The backbone of a store, with another size or preprocessing where one is asked for."""
    from probe.backbones import KERAS_FILE, respecify, row_of
    from probe.extract import backbone_of

    spec = backbone_of(base, home)
    size = choices["size"] or spec.size
    preprocess = standardised(choices["preprocess"], data, size, choices["exif"])
    spec = respecify(spec, size=size, preprocess=preprocess, precision=choices["precision"])
    is_saved = row_of(spec).kind == KERAS_FILE
    return spec, spec.outputs[0].partition(":")[0] if is_saved else None


def tune_settings(choices: Mapping[str, Any], trunk: str | None) -> TuneSettings:
    """The settings that the options of ``probe finetune`` as they were read come to."""
    from probe.errors import unknown_name
    from probe.finetune.plan import TuneSettings
    from probe.images.augment import parse_augment
    from probe.train.rules import DEFAULT_RATES, Optimiser

    if choices["optimiser"] not in DEFAULT_RATES:
        raise unknown_name("optimiser", choices["optimiser"], DEFAULT_RATES)
    same = (
        "unfreeze",
        "freeze",
        "head",
        "epochs",
        "batch_size",
        "keep",
        "head_epochs",
        "head_lr",
        "clip",
        "train_bn",
        "views",
        "prefix_cache",
        "seed",
    )
    return TuneSettings(
        trunk=trunk,
        optimiser=Optimiser(
            choices["optimiser"],
            choices["lr"],
            choices["momentum"],
            choices["nesterov"],
            choices["decay"],
            choices["schedule"],
        ),
        stops=tuple(_early_stop(text) for text in choices["stop"]),
        reduce_lr=_reduce_lr(choices["reduce_lr"]) if choices["reduce_lr"] else None,
        balanced=choices["class_weight"] == "balanced",
        augment=parse_augment(choices["augment"]),
        memory=None if choices["memory"] is None else int(choices["memory"] * 1e9),
        **{name: choices[name] for name in same},
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


def _show_augment(home: Home, data: Dataset, path: Path, choices: Mapping[str, Any]) -> None:
    import numpy as np

    from probe.images.augment import parse_augment, sample_grid
    from probe.images.path import pixel_path
    from probe.images.reader import read_batches

    rows: list[int] = []
    pictures = []
    size = choices["size"] or 128
    way = pixel_path(data.jpeg_sides, size, exif=choices["exif"])
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
    augment = parse_augment(choices["augment"])
    sample_grid(pixels, augment, seed=choices["seed"], titles=titles).save(path)
    click.echo(str(path))


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
