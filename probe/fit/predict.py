"""A run on new images: the recorded backbone, preprocessing and head, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from probe import backbones
from probe.backbones.backbone import BackboneSpec, Extractor
from probe.backbones.preprocess import Convention
from probe.config import Home
from probe.datasets.files import find_images
from probe.datasets.folder import expect_whole_folders
from probe.datasets.path_lists import SUFFIX as LIST_SUFFIX
from probe.datasets.path_lists import read_list, read_stream
from probe.datasets.sources import read_file
from probe.errors import FitError, UsageError
from probe.fit.network import load_network
from probe.heads.head import Head
from probe.heads.saving import META_FILE, load_head
from probe.images.path import PixelPath, recorded_path
from probe.images.reader import read_batches
from probe.runs import Run, keeps_network
from probe.runs.record import FitFacts
from probe.store import IMPORTED

BATCH = 32
TOP = 5
STDIN = "-"
"""The path that stands for standard input."""


@dataclass(frozen=True)
class Prediction:
    """What a run says about one image.

    Attributes
    ----------
    id : the path as it was given.
    label : the most probable class (``class`` in output), None when the image could not be read.
    top5 : class and probability of the five most probable, best first.
    problem : why the image could not be read.
    probabilities : (C,) float32 of all classes, None when the image could not be read.
    """

    id: str
    label: str | None = None
    probability: float | None = None
    top5: tuple[tuple[str, float], ...] = ()
    problem: str | None = None
    probabilities: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "probability": self.probability,
            "top5": self.top5,
            "problem": self.problem,
            "class": self.label,
        }


class Predictor(Protocol):
    """A run made ready. `size` is the side of the pictures it takes, `path` their way from files."""

    size: int
    path: PixelPath
    classes: tuple[str, ...]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C) probabilities; B is always `BATCH`."""
        ...


@dataclass
class HeadPredictor:
    """A run of ``probe fit``: the recorded backbone, then the head."""

    size: int
    path: PixelPath
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
    path: PixelPath
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
    record = run.record
    path, classes = recorded_path(record.pixels, record.pixel_policy), record.classes
    if keeps_network(run):
        network = load_network(run)
        return NetworkPredictor(network.size, path, classes, network.model, network.convention)
    spec = recorded_backbone(run, home)
    head = load_own_head(run)
    extractor = backbones.load(spec, batch_size=BATCH, home=home)
    return HeadPredictor(spec.size, path, classes, extractor, head, spec.outputs)


def load_own_head(run: Run) -> Head:
    """The head that a run fitted; DataError or RunError where it is damaged, or not the one scored."""
    head = load_head(run.path)
    # It says itself which arrays are its own.
    run.expect_own(META_FILE)
    return head


def recorded_backbone(run: Run, home: Home) -> BackboneSpec:
    """The backbone of a run with the outputs its head reads, its weights found on this machine.

    FitError when the run is none of `probe fit`, WeightsError when the weights here are not those it was
    fitted on.
    """
    facts, recorded = run.record.facts, run.record.backbone
    if not isinstance(facts, FitFacts) or recorded is None:
        raise FitError(
            f"{run.name} cannot be used on new images",
            expected="a run of `probe fit`, `probe finetune` or `probe baseline run`",
            found=f"kind {run.record.kind!r}",
        )
    if recorded["name"] == IMPORTED:
        raise FitError(
            f"{run.name} cannot predict images: it was fitted on imported embeddings",
            expected="a run on a store made by probe extract",
            found="embeddings computed elsewhere, whose backbone is not known",
            hint="probe extract --backbone NAME DATASET, then probe fit",
        )
    record = {**recorded, "outputs": list(facts.output)}
    return backbones.recorded(record, facts.weights_path, home)


@dataclass(frozen=True)
class Inputs:
    """Pictures to predict.

    Attributes
    ----------
    names : what a prediction calls each of them: the path as it was given.
    files : where each of them is.
    notes : what was left out of folders.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def gather(paths: Sequence[Path], *, stdin: BinaryIO | None = None, follow_links: bool = False) -> Inputs:
    """Image files as given, folders expanded and sorted by name, ``.txt`` lists and standard input read.

    ``-`` stands for `stdin`, one path a line. The paths of a list are relative to its folder, as those of a
    data set are; a file it names and nobody has is a picture that cannot be read. UsageError when a path does
    not exist or there is no image, DataError for what is no list, and for a folder that would vanish because
    all its images are behind links that lead out.
    """
    names: list[str] = []
    files: list[Path] = []
    notes: list[str] = []
    lost = False
    for path in paths:
        if str(path) == STDIN and stdin is not None:
            listed = read_stream(stdin, "standard input")
            names, files = names + listed, files + [Path(name) for name in listed]
        elif path.is_dir():
            found = find_images(path, follow_links=follow_links)
            expect_whole_folders(found)
            names += [str(path / name) for name in found.images]
            files += [path / name for name in found.images]
            notes += [f"{path}: {line}" for line in found.notes()]
            lost = lost or bool(found.lost)
        elif path.suffix.lower() == LIST_SUFFIX and path.exists():
            listed = read_list(path)
            names, files = names + listed, files + [path.parent / name for name in listed]
        elif path.exists():
            names.append(str(path))
            files.append(path)
        else:
            raise UsageError(f"there is no file or folder {path}")
    if not files:
        raise UsageError(
            "there are no images in " + ", ".join(map(str, paths)),
            found="; ".join(notes) or None,
            hint="--follow-links reads what links lead to" if lost else None,
        )
    return Inputs(tuple(names), tuple(files), tuple(notes))


def predict(run: Run, home: Home, paths: Sequence[Path]) -> Iterator[Prediction]:
    """Predict what `gather` finds, in its order. Raises as it does, before the network is loaded."""
    return predict_inputs(run, home, gather(paths))


def predict_inputs(run: Run, home: Home, inputs: Inputs) -> Iterator[Prediction]:
    """Predict pictures one after the other."""
    return predict_with(load_predictor(run, home), inputs)


def predict_with(predictor: Predictor, inputs: Inputs) -> Iterator[Prediction]:
    """Predict pictures one after the other with a run that is ready."""

    def read(row: int) -> bytes:
        return read_file(inputs.files[row])

    rows = np.arange(len(inputs.files))
    for batch in read_batches(read, rows, predictor.size, BATCH, path=predictor.path):
        probabilities = predictor(batch.pixels)
        for place, row in enumerate(batch.rows.tolist()):
            if row in batch.problems:
                yield Prediction(inputs.names[row], problem=batch.problems[row][1])
            else:
                yield describe(inputs.names[row], probabilities[place], predictor.classes)


def describe(name: str, probabilities: NDArray[np.float32], classes: tuple[str, ...]) -> Prediction:
    """What probabilities (C,) say of one image, to six places."""
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    top = tuple((classes[i], _rounded(float(probabilities[i]))) for i in best)
    return Prediction(name, *top[0], top, probabilities=probabilities)


def _rounded(probability: float) -> float:
    """To six places, in [0, 1]: float32 may leave it by one part in ten million, and zero has no sign."""
    return round(min(max(probability, 0.0), 1.0), 6) + 0.0
