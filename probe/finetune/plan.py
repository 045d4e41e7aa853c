"""What a fine-tuning is asked to do, and what it comes to before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from probe.backbones.backbone import BackboneSpec
from probe.config import Home
from probe.datasets.dataset import Dataset
from probe.finetune.assembly import HeadSpec, count_head, head_spec
from probe.finetune.cut import Cut, cut_network
from probe.finetune.prefix import CacheChoice, choose_cache
from probe.images.augment import Augment
from probe.networks import format_network
from probe.train.rules import EarlyStop, Optimiser, ReduceLr, check_rate_rules

SLOTS = {"sgd": 0, "rmsprop": 1, "adagrad": 1, "adadelta": 2, "adam": 2, "adamax": 2, "nadam": 2}
"""Values an optimiser keeps for every trained weight, momentum aside."""


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
    precision : ``fp32``, ``bf16`` or ``fp16``, in extraction and in training.
    balanced : weight every class by the inverse of its share of the training part.
    clip : largest norm of the whole gradient.
    train_bn : batch normalisation above the cut learns its statistics; otherwise it stays in inference mode.
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
    precision: str = "fp32"
    balanced: bool = False
    clip: float | None = None
    train_bn: bool = False
    augment: Augment = field(default_factory=Augment)
    views: int = 0
    prefix_cache: bool = True
    memory: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        # The training loop checks it too, but only once the prefix has been extracted.
        check_rate_rules(self.optimiser, self.reduce_lr)


@dataclass(frozen=True)
class TuneJob:
    """A backbone, the images it is tuned on, and how.

    Attributes
    ----------
    backbone : its first output is the pooled embedding that the frozen probe stands on.
    stages : of the backbone's row.
    """

    dataset: Dataset
    backbone: BackboneSpec
    stages: Mapping[str, str]
    settings: TuneSettings
    exif: bool = False


@dataclass(frozen=True)
class Plan:
    """What ``--dry-run`` prints; parameters count the output layer, bytes are estimates.

    Attributes
    ----------
    crossing : layers between the frozen part and the rest, with the shape of one image.
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
    """A job with its network cut: the plan, and what training needs of it."""

    cut: Cut
    head: HeadSpec
    shapes: dict[str, tuple[int, ...]]
    cache: CacheChoice
    plan: Plan


def prepare(job: TuneJob, network: Any, parts: Mapping[str, int], home: Home) -> Prepared:
    """Cut the network and work out what training it means; nothing is trained or written.

    `parts` are the numbers of labelled images a split. Raises as `cut_network` and `probe.networks.parse` do.
    """
    settings, size = job.settings, job.backbone.size
    cut = cut_network(
        network, job.stages, unfreeze=settings.unfreeze, freeze=settings.freeze, trunk=settings.trunk
    )
    head = head_spec(settings.head, cut.trunk, len(job.dataset.classes))
    shapes = cut.shapes(size)
    cache = choose_cache(
        cut,
        shapes,
        sum(parts.values()),
        home,
        wanted=settings.prefix_cache,
        augmented=settings.augment.changes_pixels,
        views=settings.views if settings.augment.changes_pixels else 0,
        memory=settings.memory,
    )
    head_params, head_trainable = count_head(head, cut.trunk)
    trainable = cut.trainable_params + head_trainable
    steps = -(-parts["train"] // settings.batch_size)
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
        memory_bytes=_memory(cut, cut.params + head_params, trainable, settings),
        prefix_cache=cache.used,
        cache_bytes=cache.bytes,
        cache_reason=cache.reason,
        crossing=shapes,
    )
    return Prepared(cut, head, shapes, cache, plan)


def _memory(cut: Cut, params: int, trainable: int, settings: TuneSettings) -> int:
    """Bytes: float32 weights, their gradients and optimiser slots, and what is kept of a batch to go back."""
    slots = SLOTS[settings.optimiser.name] + bool(settings.optimiser.momentum)
    kept = sum(
        int(np.prod([side or 0 for side in layer.output.shape[1:]]))
        for layer in cut.trunk.layers[cut.frozen :]
        if hasattr(layer.output, "shape")
    )
    item = 4 if settings.precision == "fp32" else 2
    # Each value of the forward pass meets a gradient of its own size on the way back.
    return 4 * params + 4 * trainable * (1 + slots) + 2 * kept * settings.batch_size * item
