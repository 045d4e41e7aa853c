"""``probe finetune``: train the upper part of a backbone, from the cache of the lower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from probe.commands.completion import backbones, data_sets_and_stores, stores
from probe.commands.fit import CommaList
from probe.commands.options import dataset_options, emit, json_option, log_option, quiet_option
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.report.runs import result_lines
from probe.workspace import finetune as verb
from probe.workspace.context import Context
from probe.workspace.tracking import check_trackers, log_run


@click.command(name="finetune")
@click.argument("dataset", required=False, shell_complete=data_sets_and_stores)
@click.option(
    "--backbone",
    shell_complete=backbones,
    help="Name, .keras file, hub:PRESET, RUN or MODULE:FUNCTION; by default that of the newest store.",
)
@click.option(
    "--store",
    shell_complete=stores,
    help="Store whose backbone and data set are taken.  [default: the newest]",
)
@click.option(
    "--unfreeze",
    help="all, none, last:N (layers), last:Nblocks, or the stage or layer from which on layers train."
    "  [default: none]",
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
@click.option(
    "--recompute",
    is_flag=True,
    help="Compute layers again for their gradient: about a third more time, less memory for large batches.",
)
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
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of order, augmentation, dropout and new weights.",
)
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
    "--devices",
    type=CommaList(str),
    metavar="GPU:0,GPU:1,…",
    help="Train on these together, a share of every batch each.  [default: all GPUs]",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what is frozen, trained, and what it takes; train nothing."
)
@log_option
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    dataset: str | None,
    options: DatasetOptions,
    store: str | None,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
    show_augment: Path | None,
    resume: bool,
    tensorboard: Path | None,
    devices: tuple[str, ...] | None,
    trackers: tuple[str, ...],
    **choices: Any,
) -> None:
    """Train a head and the upper part of a backbone, and compare with the frozen probe.

    DATASET is as `probe extract` takes it, or a STORE (as `probe fit` takes it) for its images. By default
    images and backbone are those of the newest store that has a network. The head comes first: the default
    one from `probe fit`, any other from a few epochs of its own. Then head and unfrozen layers train
    together. What lies below the cut never changes, so it is extracted once and trained on from the disk.
    """
    check_trackers(trackers)
    context, wanted = Context(home, quiet), verb.tune_keywords(choices)
    if show_augment is not None:
        verb.show_augment(context, dataset, store, wanted, options, show_augment)
        return click.echo(str(show_augment))
    if dry_run:
        found = verb.plan(context, dataset, store, wanted, options)
        return emit(found.to_json(), as_json, found.lines)
    run = verb.finetune(
        context, dataset, store, wanted, options, resume=resume, tensorboard=tensorboard, devices=devices
    )
    emit(dict(run.result), as_json, lambda: result_lines(run))
    log_run(context, run, trackers)
