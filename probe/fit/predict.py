"""A run on new images: the recorded backbone, preprocessing and head, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.backbones.backbone import BackboneSpec, Extractor
from probe.backbones.preprocess import Convention
from probe.config import Home
from probe.datasets.files import find_images
from probe.errors import FitError, UsageError, WeightsError
from probe.fit.network import load_network
from probe.heads.head import Head
from probe.heads.saving import load_head
from probe.images.reader import read_batches
from probe.runs import Run, keeps_network
from probe.store import IMPORTED

BATCH = 32
TOP = 5


@dataclass(frozen=True)
class Prediction:
    """What a run says about one image.

    Attributes
    ----------
    id : the path as it was given.
    label : the most probable class (``class`` in output), None when the image could not be read.
    top5 : class and probability of the five most probable, best first.
    problem : why the image could not be read.
    """

    id: str
    label: str | None = None
    probability: float | None = None
    top5: tuple[tuple[str, float], ...] = ()
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["class"] = record.pop("label")
        return record


class Predictor(Protocol):
    """A run made ready. `size` is the side of the pictures it takes, `exif` whether they are turned first."""

    size: int
    exif: bool
    classes: tuple[str, ...]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C) probabilities; B is always `BATCH`."""
        ...


@dataclass
class HeadPredictor:
    """A run of ``probe fit``: the recorded backbone, then the head."""

    size: int
    exif: bool
    classes: tuple[str, ...]
    extractor: Extractor
    head: Head
    outputs: tuple[str, ...]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = self.extractor(pixels)
        flat = [features[output].reshape(len(pixels), -1) for output in self.outputs]
        return self.head.predict_proba(np.concatenate(flat, axis=1))


@dataclass
class NetworkPredictor:
    """A run of ``probe finetune`` or ``probe baseline run``: its preprocessing, then the network it saved."""

    size: int
    exif: bool
    classes: tuple[str, ...]
    network: Any
    convention: Convention

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = np.asarray(self.network(self.convention.apply(pixels.astype(np.float32)), training=False))
        # Two classes share one sigmoid unit, the probability of the second.
        return np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found


def load_predictor(run: Run, home: Home) -> Predictor:
    """A run made ready for pictures.

    WeightsError when the weights here are not those it was fitted on, FitError for a run that cannot predict.
    """
    result = run.result
    exif, classes = bool(result["pixels"]["exif"]) if "pixels" in result else False, tuple(result["classes"])
    if keeps_network(run):
        network = load_network(run)
        return NetworkPredictor(network.size, exif, classes, network.model, network.convention)
    spec = recorded_backbone(run, home)
    extractor, head = backbones.load(spec, batch_size=BATCH), load_head(run.path)
    return HeadPredictor(spec.size, exif, classes, extractor, head, tuple(result["output"]))


def recorded_backbone(run: Run, home: Home, *, precision: str | None = None) -> BackboneSpec:
    """The backbone of a run, its weights found on this machine and checked against the recorded hash.

    `precision` replaces the recorded one. FitError when the run is none of `probe fit`, WeightsError when the
    weights here are not those it was fitted on.
    """
    result = run.result
    if result.get("kind") != "fit":
        raise FitError(
            f"{run.name} cannot be used on new images",
            expected="a run of `probe fit`, `probe finetune` or `probe baseline run`",
            found=f"kind {result.get('kind')!r}",
        )
    recorded = result["backbone"]
    if recorded["name"] == IMPORTED:
        raise FitError(
            f"{run.name} cannot predict images: it was fitted on imported embeddings",
            expected="a run on a store made by probe extract",
            found="embeddings computed elsewhere, whose backbone is not known",
            hint="probe extract --backbone NAME DATASET, then probe fit",
        )
    identity = str(recorded["weights"])
    path = result.get("weights_path")
    if identity.startswith("random:"):
        weights = "random:" + identity.split(":")[1]
    elif path and Path(path).exists() and not recorded["name"].startswith("file:"):
        weights = path
    else:
        weights = "imagenet"
    name = path if recorded["name"].startswith("file:") and path else recorded["name"]
    spec = backbones.resolve(
        name,
        size=recorded["size"],
        preprocess=recorded["preprocess"],
        weights=weights,
        outputs=result["output"],
        precision=_allowed(name, precision) or recorded["precision"],
        home=home,
    )
    if spec.weights != identity:
        raise WeightsError(
            f"the weights of {recorded['name']} here are not those the run was fitted on",
            expected=identity,
            found=spec.weights,
            hint="put the recorded weights file into place, or extract and fit again",
        )
    return spec


def _allowed(name: str, precision: str | None) -> str | None:
    """A saved model with a precision of its own computes in no other."""
    return None if backbones.find_row(name).saved_precision else precision


def predict(run: Run, home: Home, paths: Sequence[Path]) -> Iterator[Prediction]:
    """Predict image files and folders of images, in the order given, folders sorted by name.

    Raises UsageError when nothing is there, before the network is loaded.
    """
    files = list_files(paths)
    return _predictions(load_predictor(run, home), files)


def _predictions(predictor: Predictor, files: list[Path]) -> Iterator[Prediction]:
    def read(row: int) -> bytes:
        return files[row].read_bytes()

    rows = np.arange(len(files))
    for batch in read_batches(read, rows, predictor.size, BATCH, exif=predictor.exif):
        probabilities = predictor(batch.pixels)
        for place, row in enumerate(batch.rows.tolist()):
            if row in batch.problems:
                yield Prediction(str(files[row]), problem=batch.problems[row][1])
            else:
                yield _describe(str(files[row]), probabilities[place], predictor.classes)


def _describe(name: str, probabilities: NDArray[np.float32], classes: tuple[str, ...]) -> Prediction:
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    top = tuple((classes[i], round(float(probabilities[i]), 6)) for i in best)
    return Prediction(name, *top[0], top)


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Image files as given, folders expanded; UsageError when a path does not exist or holds no image."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [path / name for name in find_images(path).images]
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"there is no file or folder {path}")
    if not files:
        raise UsageError("there are no images in " + ", ".join(map(str, paths)))
    return files
