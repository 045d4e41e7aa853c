"""``probe extract``: images -> embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from probe.commands.backbone_choice import check_choice, choose, resolve_choice
from probe.commands.data import fetch_named
from probe.commands.options import (
    dataset_options,
    emit,
    json_option,
    note,
    quiet_option,
    set_line,
    set_record,
    table,
    wants_progress,
)
from probe.config import Home
from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.dataset import Dataset
from probe.datasets.listing import count_of
from probe.datasets.place import is_missing
from probe.errors import EXIT_DONE, EXIT_UNREADABLE, UsageError
from probe.machine import count_gpus
from probe.progress import Progress

if TYPE_CHECKING:
    from probe.extract import ExtractJob, Shard


@click.command(name="extract")
@click.argument("dataset")
@click.option(
    "--backbone",
    required=True,
    help="A name from `probe backbones`, a .keras file, or a RUN of `probe finetune`.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Side of the network's input, pixels.  [default: the backbone's own]",
)
@click.option(
    "--preprocess",
    help="Value convention in place of the backbone's own: unit, standardise (by the training part), …"
    "  [default: the backbone's own]",
)
@click.option(
    "--weights", default="imagenet", show_default=True, help="imagenet, random, random:SEED or a file."
)
@click.option(
    "--outputs",
    help="Comma-separated layers or stages; NAME:map keeps the feature map; list prints them."
    "  [default: the backbone's pooled features]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where the CPU has it, fp16 on a GPU, else fp32.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Images at once; fixed for the store.  [default: 32; of large sets by a short trial]",
)
@click.option("--exif", is_flag=True, help="Turn images as their EXIF orientation says.")
@click.option(
    "--store-dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True
)
@click.option("--views", type=click.IntRange(min=0), default=0, help="Augmented views stored per image.")
@click.option(
    "--augment", default="flip,zoom=0.2,rotate=15", show_default=True, help="What views are drawn from."
)
@click.option("--view-seed", default=0, show_default=True, help="Seed of the views.")
@click.option(
    "--views-of",
    type=click.Choice(["train", "all"]),
    default="train",
    show_default=True,
    help="Which images have views.",
)
@click.option(
    "--shard", help="i/n: only part i (from 0) of n; the last part to finish seals the store.  [default: all]"
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Local processes, one per GPU when there are several.  [default: 1]",
)
@click.option(
    "--dask", metavar="ADDRESS", help="Run on a Dask cluster, tcp://host:port.  [default: on this machine]"
)
@click.option("--dry-run", is_flag=True, help="Say what would be computed, stored and how long it takes.")
@click.option(
    "--rehash",
    is_flag=True,
    help="Read every image again, also where size, times and inode of the file are what they were.",
)
@dataset_options
@json_option
@quiet_option
@click.pass_obj
def command(
    home: Home,
    dataset: str,
    options: DatasetOptions,
    dry_run: bool,
    rehash: bool,
    as_json: bool,
    quiet: bool,
    shard: str | None,
    jobs: int | None,
    dask: str | None,
    **choices: Any,
) -> int:
    """Run a backbone over DATASET once and store its embeddings.

    DATASET is a name from `probe data ls`, a folder with a folder per class (also in train/val/test
    folders; --layout says what folders are where that can be doubted), a folder or list of files with
    --labels, an .npz with {train,val,test}_{images,labels}, .parquet files, .tar shards, hf:NAME or
    tfds:NAME.
    A finished store of the same images and settings is reused; an interrupted one is resumed.
    """
    from probe.extract import estimate, extract, extract_in_processes, extract_on_cluster

    if choices["outputs"] == "list":
        return list_outputs(home, choices["backbone"], choices["size"], as_json)
    if sum(option is not None for option in (shard, jobs, dask)) > 1:
        raise UsageError("--shard, --jobs and --dask exclude each other")
    check_backbone(home, **choices)
    options = replace(options, rehash=rehash)
    fetch_if_missing(home, dataset, options, quiet)
    with Progress(f"read {dataset}", shown=wants_progress(quiet)):
        data = open_dataset(dataset, home, options)
    job = make_job(home, data, **choices)
    for line in job.dataset.notes:
        note(line, quiet)
    images, precision = count_of(len(job.dataset), "image"), _precision_text(choices["precision"], job)
    note(f"{images}, {precision}; {set_line(job.dataset)}", quiet)
    if said := _said_of_model(job):
        note(said, quiet)
    if dry_run:
        plan = estimate(job, home)
        emit({**plan.to_json(), **set_record(job.dataset)}, as_json, plan.lines)
        return EXIT_DONE
    progress = wants_progress(quiet)
    if dask is not None:
        result = extract_on_cluster(job, home, dask)
    elif jobs is not None and jobs > 1:
        result = extract_in_processes(job, home, jobs, gpus=count_gpus(), progress=progress)
    else:
        result = extract(job, home, shard=parse_shard(shard), progress=progress)
    emit({**result.to_json(), **set_record(job.dataset)}, as_json, result.lines)
    return EXIT_UNREADABLE if result.surprises else EXIT_DONE


def check_backbone(
    home: Home,
    *,
    backbone: str,
    size: int | None,
    preprocess: str | None,
    outputs: str | None,
    precision: str,
    **_: Any,
) -> None:
    """What can be refused of the backbone is refused before pictures are fetched, read and hashed."""
    choice = choose(home, backbone, size, preprocess)
    features = [choice.features] if choice.features else None
    check_choice(choice, outputs=outputs.split(",") if outputs else features, precision=precision)


def fetch_if_missing(home: Home, dataset: str, options: DatasetOptions, quiet: bool) -> None:
    """Fetch a named data set that is neither here nor pointed at, after saying what and how large."""
    if dataset not in DATASETS or options.source is not None:
        return
    if is_missing(DATASETS[dataset], home):
        fetch_named(DATASETS[dataset], home, quiet)


def _precision_text(asked: str, job: ExtractJob) -> str:
    from probe.backbones import BACKBONES, choose_precision

    chosen = job.backbone.precision
    if asked != "auto" or job.backbone.weights == "none":
        return f"precision {chosen}"
    is_row = job.backbone.name in BACKBONES
    row = BACKBONES[job.backbone.name] if is_row else None
    automatic, reason = choose_precision(asked, row)
    return f"precision {chosen}: {reason if chosen == automatic else 'as the model was saved'}"


def _said_of_model(job: ExtractJob) -> str:
    """What the user should know of a saved model's default output, where that is what is extracted."""
    from probe.backbones import saved_row

    row = saved_row(job.backbone)
    return row.note if row is not None and job.backbone.outputs == (row.default_output,) else ""


def list_outputs(home: Home, backbone: str, size: int | None, as_json: bool) -> int:
    """Print every output that the backbone can give."""
    from probe import backbones

    found = backbones.list_outputs(backbone, size=size, home=home)
    rows = [{"output": o.name, "layer": o.layer, "shape": list(o.shape)} for o in found]
    cells = [(o.name, o.layer, "×".join(map(str, o.shape))) for o in found]
    emit(rows, as_json, lambda: table(("output", "layer", "shape"), cells))
    return EXIT_DONE


def parse_shard(text: str | None) -> Shard | None:
    """``0/4`` -> the first of four parts."""
    from probe.extract import Shard

    if text is None:
        return None
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return Shard(int(number), int(count))
    raise UsageError("--shard is not a part", expected="i/n with 0 ≤ i < n, such as 0/4", found=text)


def make_job(
    home: Home,
    dataset: Dataset,
    *,
    backbone: str,
    size: int | None,
    preprocess: str | None,
    weights: str,
    outputs: str | None,
    precision: str,
    batch_size: int | None,
    exif: bool,
    store_dtype: str,
    views: int,
    augment: str,
    view_seed: int,
    views_of: str,
) -> ExtractJob:
    """Resolve the backbone and put the job together."""
    from probe.extract import ExtractJob, Views
    from probe.images.augment import parse_augment

    spec = resolve_choice(
        home,
        choose(home, backbone, size, preprocess),
        dataset,
        weights=weights,
        outputs=outputs.split(",") if outputs else None,
        precision=precision,
        exif=exif,
    )
    drawn = Views(views, parse_augment(augment), view_seed, views_of == "all") if views else None
    return ExtractJob(dataset, spec, batch_size, exif, store_dtype, drawn)
