"""What a fine-tuning is asked to do, and what it comes to before anything is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.backbones.backbone import HUB_PRESET, Backbone, BackboneSpec
from probe.config import Home, canonical_json
from probe.datasets.dataset import SPLITS, TRAIN, UNLABELLED, Dataset
from probe.extract import ExtractJob, Views
from probe.finetune.cut import Cut, cut_network
from probe.finetune.head import HeadSpec, count_head, head_spec
from probe.finetune.prefix import choose_cache
from probe.finetune.recompute import most_kept, values_of
from probe.images.augment import Augment
from probe.networks import format_network
from probe.records import plain
from probe.train.rules import EarlyStop, Optimiser, ReduceLr, check_keep, check_rate_rules

SLOTS = {"sgd": 0, "rmsprop": 1, "adagrad": 1, "adadelta": 2, "adam": 2, "adamax": 2, "nadam": 2}
"""Values an optimiser keeps for every trained weight, momentum aside."""

BFLOAT16_LAYERS = 3
"""Version, by its rounding, of what trains a trunk in bfloat16: its layers (`probe.networks.bfloat16`), and
how its weights are updated (`probe.train.one_pass`)."""


@dataclass(frozen=True)
class TuneSettings:
    """How the network is cut and trained; the defaults are those of ``probe finetune``.

    Attributes
    ----------
    unfreeze, freeze, trunk : see `probe.finetune.cut.cut_network`.
    head : network string between trunk and output; None for pooled features straight to the output.
    optimiser, epochs, stops, reduce_lr : of head and unfrozen layers together.
    keep : the epoch whose weights are kept; None is ``val_loss``, or the last without validation.
    head_epochs, head_lr : Adam on a head other than the default before the trunk moves; 0 epochs leave every
        head at its random start.
    balanced : weight every class by the inverse of its share of the training part.
    clip : largest norm of the whole gradient.
    train_bn : batch normalisation above the cut learns its statistics; otherwise it stays in inference mode.
    recompute : keep of a batch only the tensors between parts of the network, see `probe.finetune.recompute`.
    augment, views : changes of the training pictures, fresh in every epoch or K stored views of each.
    prefix_cache, memory : extract the frozen part once, when it takes at most `memory` bytes.
    """

    unfreeze: str | None = None
    freeze: str | None = None
    trunk: str | None = None
    head: str | None = None
    optimiser: Optimiser = field(default_factory=lambda: Optimiser("rmsprop", 1e-5))
    epochs: int = 10
    batch_size: int = 32
    stops: tuple[EarlyStop, ...] = ()
    reduce_lr: ReduceLr | None = None
    keep: str | None = None
    head_epochs: int = 10
    head_lr: float = 1e-3
    balanced: bool = False
    clip: float | None = None
    train_bn: bool = False
    recompute: bool = False
    augment: Augment = field(default_factory=Augment)
    views: int = 0
    prefix_cache: bool = True
    memory: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        # The training loop checks it too, but only once the prefix has been extracted.
        check_rate_rules(self.optimiser, self.reduce_lr)
        if self.keep is not None:
            check_keep(self.keep)

    @property
    def stored_views(self) -> Views | None:
        """The augmented views that the cache holds of every training picture, None for none."""
        wanted = self.views and self.augment.changes_pixels
        return Views(self.views, self.augment, self.seed) if wanted else None


@dataclass(frozen=True)
class TuneJob:
    """A backbone, the images it is tuned on, and how.

    Attributes
    ----------
    backbone : its first output is the pooled embedding that the frozen probe stands on; its precision is that
        of extraction and training.
    row : of the backbone: its network and the names of its stages.
    """

    dataset: Dataset
    backbone: BackboneSpec
    row: Backbone
    settings: TuneSettings
    exif: bool = False

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``."""
        return self.backbone.precision

    @property
    def images(self) -> ExtractJob:
        """The embeddings that the frozen probe stands on: their rows, labels and pixels are the job's."""
        return ExtractJob(self.dataset, self.backbone, exif=self.exif)

    def on_labelled_rows(self) -> TuneJob:
        """The job on those rows that have a label and a split."""
        return replace(self, dataset=self.dataset.take(np.flatnonzero(self._usable())))

    def count_parts(self) -> dict[str, int]:
        """Split -> labelled images, readable or not."""
        usable = self._usable()
        return {split: int((usable & (self.dataset.splits == split)).sum()) for split in SPLITS}

    def options(self) -> dict[str, Any]:
        """The settings and the precision as JSON takes them."""
        return {**plain(self.settings), "precision": self.precision}

    def _usable(self) -> NDArray[np.bool_]:
        return (self.dataset.labels != UNLABELLED) & np.isin(self.dataset.splits, SPLITS)


def trains_in_bfloat16(job: TuneJob, cut: Cut) -> bool:
    """Whether a trunk is trained in bfloat16 on a CPU, for which there are layers and updates of its own."""
    from probe.networks.bfloat16 import has_gpu

    return job.precision == "bf16" and cut.trains and not has_gpu()


@dataclass(frozen=True)
class Plan:
    """What ``--dry-run`` prints; parameters count the output layer, bytes are estimates.

    Attributes
    ----------
    crossing : layers between the frozen part and the rest, with the shape that is kept of one image.
    memory_bytes : weights, gradients, optimiser and the activations of one batch in training.
    """

    backbone: str
    size: int
    classes: int
    trunk: str
    head: str
    layers: int
    frozen_layers: int
    first_trained: str | None
    params: int
    trainable_params: int
    frozen_params: int
    parts: dict[str, int]
    steps_per_epoch: int
    steps: int
    memory_bytes: int
    prefix_cache: bool
    cache_bytes: int
    cache_reason: str
    crossing: dict[str, tuple[int, ...]]
    published: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan for people."""
        first = f"{self.first_trained} and above" if self.first_trained else "the head alone"
        cache = "prefix cache" if self.prefix_cache else "no prefix cache"
        return [
            f"backbone   {self.backbone} at {self.size}×{self.size} to {self.trunk}, {self.layers} layers",
            f"head       {self.head or '(straight to the output)'}, {self.classes} classes",
            f"trained    {first}: {self.frozen_layers} layers of the trunk are frozen",
            (
                f"weights    {self.params:,}: {self.trainable_params:,} trainable,"
                f" {self.frozen_params:,} frozen"
            ),
            "images     " + ", ".join(f"{name} {count:,}" for name, count in self.parts.items()),
            f"steps      {self.steps_per_epoch:,} an epoch, {self.steps:,} at most",
            f"memory     about {self.memory_bytes / 1e9:,.2f} GB in training",
            f"cache      {cache}: {self.cache_reason}",
        ]


@dataclass(frozen=True)
class Prepared:
    """A job with its network cut and its plan; nothing is trained or written yet."""

    job: TuneJob
    cut: Cut
    head: HeadSpec
    plan: Plan

    @cached_property
    def identity(self) -> str:
        """sha256 of everything that decides the result but the number of epochs."""
        options = self.job.options()
        for without_effect in ("epochs", "prefix_cache", "memory"):
            del options[without_effect]
        if not self.job.settings.recompute:  # as before there was the choice
            del options["recompute"]
        images, backbone = self.job.images, self.job.backbone.key_part()
        if not self.plan.prefix_cache:  # what an engine computes is not trained on
            backbone.pop("engine", None)
        # Before large JPEGs were decoded at a fraction, no more than EXIF told pixels apart.
        pixels = {"pixels": images.pixels.key_part()} if images.pixels.scaled else {}
        # Before they had a version, what trained in bfloat16 were the layers of Keras.
        layers = {"layers": BFLOAT16_LAYERS} if trains_in_bfloat16(self.job, self.cut) else {}
        record = {
            "backbone": backbone,
            "index": images.index().hash,
            "exif": self.job.exif,
            **pixels,
            **layers,
            "settings": options,
            "cached": self.plan.prefix_cache,
        }
        return hashlib.sha256(canonical_json(record).encode()).hexdigest()

    @property
    def run_identity(self) -> str:
        """sha256 that tells the run of one number of epochs from that of another."""
        parts = [self.identity, self.job.settings.epochs]
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def prepare(job: TuneJob, network: Any, parts: Mapping[str, int], home: Home) -> Prepared:
    """Cut the network and work out what training it means; nothing is trained or written.

    `parts` are the numbers of labelled images a split. Raises as `cut_network` and `probe.networks.parse` do.
    """
    settings, size = job.settings, job.backbone.size
    stages = backbones.stages_of(job.row, network)
    cut = cut_network(
        network, stages, unfreeze=settings.unfreeze, freeze=settings.freeze, trunk=settings.trunk
    )
    if job.row.kind == HUB_PRESET:
        backbones.expect_kept(cut.trunk, trained=cut.trunk.layers[cut.frozen :])
    shapes = cut.read_shapes(size)
    cache = choose_cache(
        cut,
        shapes,
        sum(parts.values()),
        home,
        wanted=settings.prefix_cache,
        augmented=settings.augment.changes_pixels,
        views=settings.stored_views.count if settings.stored_views else 0,
        memory=settings.memory,
    )
    head = head_spec(settings.head, cut.trunk, len(job.dataset.classes))
    head_params, head_trainable = count_head(head, cut.trunk)
    trainable = cut.trainable_params + head_trainable
    steps = -(-parts[TRAIN] // settings.batch_size)
    trained = cut.trunk.layers[cut.frozen :]
    plan = Plan(
        backbone=job.backbone.name,
        size=size,
        classes=head.classes,
        trunk=cut.trunk.output._keras_history.operation.name,
        head=format_network(head.network),
        layers=len(cut.trunk.layers),
        frozen_layers=cut.frozen,
        first_trained=trained[0].name if cut.trains else None,
        params=cut.params + head_params,
        trainable_params=trainable,
        frozen_params=cut.params + head_params - trainable,
        parts=dict(parts),
        steps_per_epoch=steps,
        steps=steps * settings.epochs,
        memory_bytes=_memory(job, cut, cut.params + head_params, trainable),
        prefix_cache=cache.used,
        cache_bytes=cache.bytes,
        cache_reason=cache.reason,
        crossing=shapes if cache.used else cut.shapes(size),
    )
    return Prepared(job, cut, head, plan)


def _memory(job: TuneJob, cut: Cut, params: int, trainable: int) -> int:
    """Bytes: float32 weights, their gradients and optimiser slots, and what is kept of a batch to go back."""
    settings = job.settings
    slots = SLOTS[settings.optimiser.name] + bool(settings.optimiser.momentum)
    layers = cut.trunk.layers[cut.frozen :]
    kept = most_kept(cut.trunk, layers) if settings.recompute else sum(map(values_of, layers))
    item = 4 if job.precision == "fp32" else 2
    # Each value of the forward pass meets a gradient of its own size on the way back.
    return 4 * params + 4 * trainable * (1 + slots) + 2 * kept * settings.batch_size * item
