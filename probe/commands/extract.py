"""``probe extract``: images -> embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from probe.commands.completion import backbones, data_sets
from probe.commands.options import (
    dataset_options,
    emit,
    json_option,
    quiet_option,
    set_record,
)
from probe.config import Home
from probe.datasets import DatasetOptions
from probe.errors import EXIT_DONE, EXIT_UNREADABLE
from probe.text import table
from probe.workspace.context import Context
from probe.workspace.extract import DTYPES, ExtractKeywords, Workers, extract, prepare
from probe.workspace.keywords import read_keywords


@click.command(name="extract")
@click.argument("dataset", shell_complete=data_sets)
@click.option(
    "--backbone",
    required=True,
    shell_complete=backbones,
    help="A name from `probe backbones`, a .keras or .onnx file, hub:PRESET, a RUN of `probe finetune`, or a"
    " MODULE:FUNCTION that returns a Keras model.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Side of the network's input, pixels.  [default: the backbone's own]",
)
@click.option(
    "--preprocess",
    help="Value convention in place of the backbone's own: unit, imagenet, clip, a FILE.json,"
    " standardise (by the training part), …"
    "  [default: the backbone's own]",
)
@click.option(
    "--weights", default="imagenet", show_default=True, help="imagenet, random, random:SEED or a file."
)
@click.option(
    "--outputs",
    help="Comma-separated layers or stages; NAME:map keeps the feature map, of tokens"
    " NAME:cls and NAME:mean pool; list prints them."
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
    "--engine",
    default="auto",
    show_default=True,
    help="What computes the network: auto, the fastest that keeps the precision, or one of `probe doctor`.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Images at once; fixed for the store.  [default: 32; of large sets by a short trial]",
)
@click.option("--exif", is_flag=True, help="Turn images as their EXIF orientation says.")
@click.option(
    "--store-dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="What features are stored in; int8 is a quarter of the bytes: 8 bits, and a scale for every vector.",
)
@click.option("--views", type=click.IntRange(min=0), default=0, help="Augmented views stored per image.")
@click.option(
    "--augment", default="flip,zoom=0.2,rotate=15", show_default=True, help="What views are drawn from."
)
@click.option(
    "--view-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the views."
)
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
    A finished store of the same images and settings is reused; an interrupted one is resumed. Of other
    finished stores the rows are copied whose picture and settings are the same; the rest is computed.
    """
    from probe.extract import estimate

    if choices["outputs"] == "list":
        return list_outputs(home, choices["backbone"], choices["size"], as_json)
    workers = Workers(shard, jobs, dask)
    context, wanted = Context(home, quiet), read_keywords(ExtractKeywords, choices)
    job = prepare(context, dataset, wanted, replace(options, rehash=rehash))
    if dry_run:
        plan = estimate(job, home)
        emit({**plan.to_json(), **set_record(job.dataset)}, as_json, plan.lines)
        return EXIT_DONE
    result = extract(context, job, workers)
    emit({**result.to_json(), **set_record(job.dataset)}, as_json, result.lines)
    return EXIT_UNREADABLE if result.surprises else EXIT_DONE


def list_outputs(home: Home, backbone: str, size: int | None, as_json: bool) -> int:
    """Print every output that the backbone can give."""
    from probe import backbones

    found = backbones.list_outputs(backbone, size=size, home=home)
    rows = [{"output": o.name, "layer": o.layer, "shape": list(o.shape)} for o in found]
    cells = [(o.name, o.layer, "×".join("?" if n is None else str(n) for n in o.shape)) for o in found]
    emit(rows, as_json, lambda: table(("output", "layer", "shape"), cells))
    return EXIT_DONE
