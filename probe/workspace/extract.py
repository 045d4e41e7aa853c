"""Images -> embeddings: what is asked for becomes a job, and the job a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.datasets import DatasetOptions
from probe.datasets.dataset import Dataset
from probe.errors import UsageError
from probe.text import count_of
from probe.workspace.backbones import Choice, check_choice, choose, resolve_choice
from probe.workspace.context import Context
from probe.workspace.data import read_images, set_line
from probe.workspace.keywords import at_least, one_of

if TYPE_CHECKING:
    from probe.extract import ExtractJob, ExtractResult, Shard

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DTYPES = ("float32", "float16", "int8")
VIEWED = ("train", "all")


@dataclass(frozen=True)
class ExtractKeywords:
    """What is extracted, by the names and with the defaults of the options of ``probe extract``.

    Attributes
    ----------
    backbone : a name from ``probe backbones``, a .keras or .onnx file, or the name of a fine-tuned run.
    size : side of the network's input, pixels; None takes the backbone's own.
    preprocess : value convention in place of the backbone's own, or a file that describes one.
    weights : ``imagenet``, ``random``, ``random:SEED`` or a file.
    outputs : layers or stages; ``NAME:map`` keeps the feature map; None takes the pooled features.
    precision : ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    engine : ``auto``, or what ``probe doctor`` lists, such as ``tensorflow`` or ``openvino``.
    batch_size : images at once, fixed for the store; None leaves the choice to it.
    exif : turn images as their EXIF orientation says.
    store_dtype : ``float32``, ``float16``, or ``int8``: 8 bits and a scale a vector.
    views, augment, view_seed, views_of : augmented views stored per image, what they are drawn from, and of
        which images (``train`` or ``all``).
    """

    backbone: str
    size: int | None = None
    preprocess: str | None = None
    weights: str = "imagenet"
    outputs: tuple[str, ...] | None = None
    precision: str = "auto"
    engine: str = "auto"
    batch_size: int | None = None
    exif: bool = False
    store_dtype: str = "float32"
    views: int = 0
    augment: str = "flip,zoom=0.2,rotate=15"
    view_seed: int = 0
    views_of: str = "train"

    def __post_init__(self) -> None:
        at_least(1, size=self.size, batch_size=self.batch_size)
        at_least(0, views=self.views, view_seed=self.view_seed)
        one_of(PRECISIONS, precision=self.precision)
        one_of(DTYPES, store_dtype=self.store_dtype)
        one_of(VIEWED, views_of=self.views_of)


@dataclass(frozen=True)
class Workers:
    """Who computes: one part of several (``shard``, i/n), ``jobs`` local processes, or a Dask cluster."""

    shard: str | None = None
    jobs: int | None = None
    dask: str | None = None

    def __post_init__(self) -> None:
        if sum(option is not None for option in (self.shard, self.jobs, self.dask)) > 1:
            raise UsageError("--shard, --jobs and --dask exclude each other")
        at_least(1, jobs=self.jobs)


def prepare(context: Context, dataset: str, wanted: ExtractKeywords, options: DatasetOptions) -> ExtractJob:
    """Check the backbone, fetch and read the images, and say what will be extracted.

    Raises what backbones and data sets raise; what can be refused of the backbone is refused before pictures
    are fetched, read and hashed.
    """
    from probe.backbones import find_row
    from probe.extract import expect_fits, said_of_engine, settle_engine

    choice = choose(context, wanted.backbone, wanted.size, wanted.preprocess)
    features = [choice.features] if choice.features else None
    outputs = list(wanted.outputs or ()) or features
    check_choice(choice, outputs=outputs, precision=wanted.precision, engine=wanted.engine)
    expect_fits(wanted.store_dtype, wanted.backbone, is_network=find_row(choice.name).is_network)
    job = make_job(context, read_images(context, dataset, options), choice, wanted)
    for line in job.dataset.notes:
        context.say(line)
    images = count_of(len(job.dataset), "image")
    context.say(f"{images}, {_precision_text(wanted.precision, job)}; {set_line(job.dataset)}")
    settled = settle_engine(job, context.home)
    for line in (_said_of_model(job), said_of_engine(job.backbone, settled.backbone)):
        if line:
            context.say(line)
    return settled


def make_job(context: Context, dataset: Dataset, choice: Choice, wanted: ExtractKeywords) -> ExtractJob:
    """Resolve the backbone, whose weights may have to be fetched, and put the job together."""
    from probe.extract import ExtractJob, Views
    from probe.images.augment import parse_augment

    spec = resolve_choice(
        context.home,
        choice,
        dataset,
        weights=wanted.weights,
        outputs=list(wanted.outputs or ()) or None,
        precision=wanted.precision,
        engine=wanted.engine,
        exif=wanted.exif,
    )
    views = None
    if wanted.views:
        augment, everywhere = parse_augment(wanted.augment), wanted.views_of == "all"
        views = Views(wanted.views, augment, wanted.view_seed, everywhere)
    return ExtractJob(dataset, spec, wanted.batch_size, wanted.exif, wanted.store_dtype, views)


def extract(context: Context, job: ExtractJob, workers: Workers) -> ExtractResult:
    """Fill the job's store, resume it, or reuse it. Raises as `probe.extract.extract`."""
    from probe.extract import extract, extract_in_processes, extract_on_cluster

    home, progress = context.home, context.progress
    if workers.dask is not None:
        return extract_on_cluster(job, home, workers.dask, progress=progress)
    if workers.jobs is not None and workers.jobs > 1:
        return extract_in_processes(job, home, workers.jobs, progress=progress)
    return extract(job, home, shard=parse_shard(workers.shard), progress=progress)


def parse_shard(text: str | None) -> Shard | None:
    """``0/4`` -> the first of four parts."""
    from probe.extract import Shard

    if text is None:
        return None
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return Shard(int(number), int(count))
    raise UsageError("--shard is not a part", expected="i/n with 0 ≤ i < n, such as 0/4", found=text)


def _precision_text(asked: str, job: ExtractJob) -> str:
    chosen, reason = job.backbone.precision, job.backbone.precision_reason
    why = f": {reason}" if asked == "auto" and reason else ""
    return f"precision {chosen}{why}, engine {job.backbone.engine}"


def _said_of_model(job: ExtractJob) -> str:
    """What the user should know of a saved model's default output, where that is what is extracted."""
    from probe.backbones import row_of

    row = row_of(job.backbone)
    return row.note if row.file is not None and job.backbone.outputs == (row.default_output,) else ""
