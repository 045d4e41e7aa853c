"""A fine-tuning under way: the head first, then head and unfrozen layers at a small rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.config import Home
from probe.curves import Course
from probe.datasets.dataset import TRAIN, VAL
from probe.errors import FitError
from probe.finetune.assembly import Assembly, assemble, choose_devices
from probe.finetune.engine import state_folder
from probe.finetune.headstart import HeadStart, find_probes, find_start
from probe.finetune.material import Material, open_material
from probe.finetune.plan import Plan, Prepared, TuneJob, trains_in_bfloat16
from probe.runs import Predictions, Run
from probe.train.inputs import batches
from probe.train.loop import LoopResult, OnEpoch, fit_loop, predictor
from probe.train.rules import LoopSettings, Optimiser

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """What came of the training: of the head, where it had epochs of its own, and of head and trunk."""

    head: LoopResult | None
    whole: LoopResult

    @property
    def seconds(self) -> float:
        return self.whole.seconds + (self.head.seconds if self.head else 0)

    def courses(self) -> dict[str, Course]:
        stages = {"head": self.head, "head and trunk": self.whole}
        return {
            name: Course(stage.history, stage.kept_epoch, stage.start)
            for name, stage in stages.items()
            if stage is not None
        }


@dataclass(frozen=True)
class Tuning:
    """All that a job comes to.

    Attributes
    ----------
    probes : the frozen probes there are, the one to compare with first.
    start : where the head starts; None where it is trained instead.
    folder, resume : where the state lies after every epoch, a folder a stage, and whether one found there is
        continued.
    on_epoch : stage -> what is called after each of its epochs.
    """

    job: TuneJob
    plan: Plan
    network: Assembly
    material: Material
    probes: Sequence[Run]
    start: HeadStart | None
    folder: Path
    resume: bool
    on_epoch: Callable[[str], OnEpoch]
    progress: bool

    def train(self, say: Say) -> Trained:
        """Train the network; FitError when it diverges."""
        head, settings = None, self.job.settings
        if self.start is not None:
            say(f"head from {self.start.source}")
            self.network.set_output(self.start.weights, self.start.bias)
        elif self.network.cut.trains and settings.head_epochs:
            say(f"the head alone for {settings.head_epochs} epochs")
            head = self._stage("head", self._head_settings(), trunk=False, start_counts=False)
        say(f"training for at most {settings.epochs} epochs")
        # A head at its random start is nothing that could be kept.
        fitted = self.start is not None or head is not None
        trunk = self.network.cut.trains
        whole = self._stage("all", self._settings(), trunk=trunk, start_counts=fitted)
        check_converged(whole)
        return Trained(head, whole)

    def predict(self, split: str) -> Predictions:
        """Probabilities of one part, (n, C); empty when the part is."""
        material, part = self.material, self.material.parts[split]
        if len(part):
            read = batches(part, self.job.settings.batch_size, material.prepare, least=material.inputs.least)
            found = self._predict(read)
        else:
            found = np.empty((0, len(self.job.dataset.classes)), np.float32)
        return Predictions(material.ids[split], part.labels.astype(np.int32), found, material.groups[split])

    @cached_property
    def _predict(self) -> Callable[[Any], NDArray[np.float32]]:
        return predictor(self.network.model)

    def _stage(self, name: str, settings: LoopSettings, *, trunk: bool, start_counts: bool) -> LoopResult:
        self.network.train_trunk(trunk)
        return fit_loop(
            self.network.model,
            self.material.inputs,
            settings,
            folder=self.folder / name,
            resume=self.resume,
            identity=self.folder.name,
            on_epoch=self.on_epoch(name),
            start_counts=start_counts,
            progress=self.progress,
            name=f"training {name}",
        )

    def _settings(self) -> LoopSettings:
        settings = self.job.settings
        return LoopSettings(
            optimiser=settings.optimiser,
            epochs=settings.epochs,
            loss=self.network.head.loss,
            stops=settings.stops,
            reduce_lr=settings.reduce_lr,
            keep=settings.keep or ("val_loss" if len(self.material.parts[VAL]) else "last"),
            class_weights=self._class_weights() if settings.balanced else None,
            clip_norm=settings.clip,
            scale_loss=self.job.precision == "fp16",
            one_pass=trains_in_bfloat16(self.job, self.network.cut),
        )

    def _head_settings(self) -> LoopSettings:
        adam, epochs = Optimiser("adam", self.job.settings.head_lr), self.job.settings.head_epochs
        return replace(self._settings(), optimiser=adam, epochs=epochs, stops=(), reduce_lr=None)

    def _class_weights(self) -> dict[int, float]:
        labels = self.material.parts[TRAIN].labels
        counts = np.bincount(labels, minlength=len(self.job.dataset.classes))
        return {c: float(counts.sum() / (len(counts) * count)) for c, count in enumerate(counts) if count}


def open_tuning(
    ready: Prepared,
    home: Home,
    *,
    resume: bool,
    on_epoch: Callable[[str], OnEpoch],
    devices: Sequence[str] | None,
    progress: bool,
) -> Tuning:
    """The embeddings, the head start and the prefix cache, each made if need be, and the network on top."""
    devices = choose_devices(devices)
    probes = find_probes(home, ready.job.images)
    start = find_start(ready, home, probes, progress=progress)
    material = open_material(ready, home, devices=len(devices), progress=progress)
    folder = state_folder(ready, home)
    network = assemble(ready, devices)
    return Tuning(ready.job, ready.plan, network, material, probes, start, folder, resume, on_epoch, progress)


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
