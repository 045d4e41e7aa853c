"""Backbones: uint8 pixels in, features out.

`resolve` turns a user's choices into a `BackboneSpec` without building anything, `load` turns that into a
running `Extractor`. `table` has the rows, `engines` what computes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probe.backbones import onnx_file, preprocess, side_file
from probe.backbones.backbone import (
    HUB_PRESET,
    KERAS_FILE,
    ONNX_FILE,
    Backbone,
    BackboneSpec,
    Extractor,
    WeightsFile,
)
from probe.backbones.engines import AUTO, choose_engine, interchangeable, keep_engine, named_engine
from probe.backbones.outputs import Output, choose_outputs
from probe.backbones.precision import choose_precision, expect_capable
from probe.backbones.table import BACKBONES, find_row, row_of
from probe.backbones.weights import IMAGENET, find, locate
from probe.config import Home
from probe.errors import UsageError
from probe.registry import load_object

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "Extractor",
    "Output",
    "WeightsFile",
    "build_embedder",
    "build_network",
    "by_any_engine",
    "check",
    "choose_precision",
    "expect_kept",
    "find_row",
    "list_outputs",
    "load",
    "network_of",
    "packages_of",
    "recorded",
    "resolve",
    "respecify",
    "row_of",
    "stages_of",
]


def check(
    name: str,
    *,
    size: int | None = None,
    preprocess: str | None = None,
    outputs: Sequence[str] | None = None,
    precision: str = AUTO,
    engine: str = AUTO,
) -> None:
    """Raise what `resolve` would raise of these choices, without a look at any weights: takes no time."""
    row = find_row(name)
    _size(row, size)
    _preprocess(row, preprocess)
    choose_outputs(row, outputs)
    choose_engine(row, choose_precision(precision, row).name, engine)


def resolve(
    name: str,
    *,
    size: int | None = None,
    preprocess: str | None = None,
    weights: str = IMAGENET,
    outputs: Sequence[str] | None = None,
    precision: str = AUTO,
    engine: str = AUTO,
    home: Home,
) -> BackboneSpec:
    """Make every choice that changes the features; builds no network and imports no TensorFlow for a row.

    Parameters
    ----------
    name : a row, a constructor of keras.applications in any case, or a path ending in .keras or .onnx.
    size : side of the input in pixels.
    preprocess : a value convention, or a file that describes one; needed for a .keras file, and for an .onnx
        file without such a description beside it.
    weights : ``imagenet``, ``random``, ``random:SEED`` or a path. A saved model brings its own.
    outputs : stages, layers or the row's default output, each pooled, or as a map with ``:map``. Names of
        layers can be checked only when the network is built, by `load`.
    precision : ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    engine : ``auto``, the first of the table that computes this, or the name of one, see
        `probe.backbones.engines.choose_engine`.

    Raises
    ------
    UnknownNameError : no such backbone, preprocessing, precision or engine.
    UsageError : a choice this backbone or machine does not allow.
    WeightsError : the weights cannot be found, fetched or trusted.
    """
    row = find_row(name)
    chosen, reason = choose_precision(precision, row)
    spec = BackboneSpec(
        name=row.name,
        weights=weights,
        size=_size(row, size),
        preprocess=_preprocess(row, preprocess),
        outputs=choose_outputs(row, outputs),
        precision=chosen,
        engine=choose_engine(row, chosen, engine).name,
        asked_engine=engine,
        precision_reason=reason,
    )
    # Last, since they may have to be fetched.
    found = find(row, weights, spec.size, home)
    return replace(spec, weights=found.identity, weights_path=str(found.path) if found.path else None)


def recorded(record: Mapping[str, Any], weights_path: str | None, home: Home) -> BackboneSpec:
    """The backbone that a store or a run records, its weights found on this machine.

    Parameters
    ----------
    record : what `BackboneSpec.key_part` gave.
    weights_path : where the weights lay then.

    Raises
    ------
    StoreError : the record cannot be read.
    WeightsError : the weights are not here, or what is here are others.
    """
    return locate(BackboneSpec.from_json(record, weights_path=weights_path), home)


def respecify(
    spec: BackboneSpec, *, size: int | None = None, preprocess: str | None = None, precision: str = AUTO
) -> BackboneSpec:
    """The same weights and outputs with other choices; raises as `check` does.

    None leaves a choice as it is; ``auto`` chooses the precision for this machine, whatever was recorded.
    """
    row = row_of(spec)
    chosen, reason = choose_precision(precision, row)
    return replace(
        spec,
        size=_size(row, size or spec.size),
        preprocess=_preprocess(row, preprocess or spec.preprocess),
        precision=chosen,
        engine=keep_engine(row, chosen, spec.engine).name,
        precision_reason=reason,
    )


def by_any_engine(row: Backbone, spec: BackboneSpec) -> list[BackboneSpec]:
    """The backbone by every engine whose features would do in place of those of `spec`, which comes first.

    `row` is that of `spec`.

    It alone where one engine was meant: in a spec that was read from a record. The others need not be
    installed; what they have finished can be used without them.
    """
    others = interchangeable(row, spec.precision, spec.asked_engine) if spec.asked_engine else []
    names = dict.fromkeys([spec.engine, *(engine.name for engine in others)])
    return [replace(spec, engine=name) for name in names]


def load(spec: BackboneSpec, *, batch_size: int, home: Home | None = None) -> Extractor:
    """Build the backbone of `spec` for batches of `batch_size` pictures.

    In the cache of `home` an engine may keep what makes the next start quicker.

    Raises
    ------
    UnknownNameError : an output is no layer of the network; the message lists those that are.
    WeightsError : the weights are not here, not the ones specified, or do not fit.
    UsageError : the network cannot be built or computed as specified.
    """
    row = row_of(spec)
    engine = named_engine(row, spec.precision, spec.engine)
    if not row.saved_precision:
        expect_capable(spec.precision)
    extractor: Extractor = load_object(engine.load)(row, spec, batch_size, home)
    return extractor


def build_network(spec: BackboneSpec) -> Any:
    """The `keras.Model` behind `spec`, weights in place, without preprocessing: what fine-tuning starts from.

    Raises
    ------
    UsageError : the backbone is not a network.
    WeightsError : as `load`.
    """
    return network_of(row_of(spec), spec)


def network_of(row: Backbone, spec: BackboneSpec) -> Any:
    """`build_network` for who has the row of `spec` at hand."""
    if not row.is_network:
        raise UsageError(f"{row.name} is not a network")
    _expect_keras(row)
    return load_object("probe.backbones.network:build")(row, spec)


def stages_of(row: Backbone, network: Any) -> Mapping[str, str]:
    """Stage -> its last layer in the network that was built of a row, shallow to deep."""
    if row.kind != HUB_PRESET:
        return row.stages
    found: dict[str, str] = load_object("probe.backbones.hub_network:stages")(network)
    return found


def expect_kept(model: Any, *, trained: Sequence[Any] = ()) -> None:
    """UsageError where Keras cannot save a network and load it again; of its layers `trained` will change."""
    load_object("probe.backbones.hub_layers:expect_kept")(model, trained)


def packages_of(model: Any) -> list[str]:
    """The packages whose layers a network has: what it takes to load it."""
    found: list[str] = load_object("probe.backbones.hub_layers:packages_of")(model)
    return found


def build_embedder(spec: BackboneSpec) -> Any:
    """Preprocessing, network and pooling as one `keras.Model`: what an exported model starts with.

    (B, S, S, 3) RGB from 0 to 255 -> the outputs of `spec` side by side, maps flattened, (B, D) float32. It
    is made of layers of Keras only, of a preset's of keras-hub too, and computes in float32 whatever the
    precision of `spec`, but for what a saved model does by its own layers.

    Raises
    ------
    UnknownNameError, WeightsError, UsageError : as `load`.
    """
    row = row_of(spec)
    if not row.is_network:
        return load_object("probe.backbones.embedder:of_pixels")(spec)
    _expect_keras(row)
    spec = replace(spec, precision=row.saved_precision or "fp32")
    return load_object("probe.backbones.embedder:of_network")(row, spec)


def list_outputs(name: str, *, size: int | None = None, home: Home) -> list[Output]:
    """Everything `resolve` accepts as an output of a backbone: its default, its stages, its layers.

    Builds the network with untrained weights, so it needs no file and takes some seconds.
    """
    row = find_row(name)
    if row.kind == ONNX_FILE and row.file is not None:
        return [Output(t.name, t.tensor, t.shape) for t in onnx_file.listed(row.file)]
    if not row.is_network:
        side = _size(row, size)
        return [Output(row.default_output, row.default_output, (side, side, 3))]
    spec = resolve(
        name,
        size=size,
        preprocess="none",
        weights=IMAGENET if row.kind in (KERAS_FILE, HUB_PRESET) else "random",
        outputs=[row.default_output or "any"],
        precision=row.saved_precision or "fp32",
        home=home,
    )
    found: list[Output] = load_object("probe.backbones.outputs:list_of_network")(row, spec)
    return found


def _expect_keras(row: Backbone) -> None:
    if row.kind == ONNX_FILE:
        raise UsageError(
            f"{row.name} is an ONNX file, which is computed as it is",
            expected="a network in Keras, to train or to export with a head",
            hint="extract, fit and predict take it",
        )


def _size(row: Backbone, size: int | None) -> int:
    chosen = row.size if size is None else size
    if size is None and chosen == 0:
        raise UsageError(
            f"{row.name} leaves its input size open", hint="--size 224, or what it was trained at"
        )
    fixed = row.file is not None and row.min_size == row.size
    if chosen < row.min_size or (fixed and chosen != row.size):
        raise UsageError(
            f"{row.name} does not take pictures of {chosen} pixels",
            expected=f"exactly {row.size}" if fixed else f"at least {row.min_size}",
            found=str(chosen),
        )
    return chosen


def _preprocess(row: Backbone, name: str | None) -> str:
    chosen = name or row.preprocess
    if chosen.endswith(side_file.SUFFIX):
        chosen = side_file.read(Path(chosen)).preprocess
    if not chosen:
        raise UsageError(
            f"what pixel values {row.name} expects cannot be known from the file",
            hint="--preprocess " + ", ".join(preprocess.CONVENTIONS) + " or FILE.json",
        )
    preprocess.check(chosen)
    if row.integers and preprocess.convention(chosen) != preprocess.Convention():
        raise UsageError(
            f"{row.name} takes whole numbers, and preprocessed values would be cut to them",
            expected="--preprocess none: pixels from 0 to 255",
            found=f"--preprocess {chosen}",
        )
    return chosen
