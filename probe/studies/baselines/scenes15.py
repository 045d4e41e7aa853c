"""Fifteen scenes: sweeps over one small CNN, then transfer at 32×32. The study does not print its network."""

from dataclasses import replace

from probe.studies.recipe import Recipe
from probe.train.rules import Optimiser

_REST = "R P2 C64k3s R P2 C64k3s R P2 F D64 R"
_TUNE = (
    'probe finetune --backbone {} --size 32 --unfreeze none --head "F D120 R" '
    "--head-epochs 0 --optimiser adam --lr 1e-3 --epochs 15 --keep val_accuracy scenes15"
)
_NETWORK = "the network: the study does not print it"

_SCORED = "pixels in [0, 1], the best epoch by val_accuracy is scored"

SMALL = Recipe(
    name="scenes15/small",
    summary="the small CNN that the sweeps vary",
    data="scenes15",
    network=f"C32k3s {_REST}",
    classes=15,
    epochs=50,
    params=122_895,
    source="EXPERIMENTS section 7",
    ours=(_NETWORK, _SCORED, "Adam 1e-3: the study names it for the last two only"),
)
BATCH = replace(
    SMALL,
    name="scenes15/batch-size",
    summary="sweep over the batch size; published winner: 32",
    sweep=(("batch_size", ("8", "16", "32", "64")),),
)
SIZE = replace(
    SMALL,
    name="scenes15/size",
    summary="sweep over the image size; published winner: 32",
    sweep=(("size", ("32", "64", "128", "224")),),
)
ACTIVATION = replace(
    SMALL,
    name="scenes15/activation",
    summary="sweep over the activation; published winner: relu",
    epochs=25,
    sweep=(("activation", ("linear", "tanh", "relu", "sigmoid")),),
)
AUGMENT = replace(
    SMALL,
    name="scenes15/augment",
    summary="sweep over the augmentation, without any first; published winner: flip",
    epochs=25,
    sweep=(("augment", ("none", "flip", "brightness=0.2", "zoom=0.2", "flipzoom")),),
    ours=(*SMALL.ours, "brightness and zoom by 0.2"),
)
FILTERS = replace(
    SMALL,
    name="scenes15/filters",
    summary="sweep over filters × kernel of the first convolution: the original, 16×7, 32×9",
    epochs=15,
    ours=(_NETWORK, _SCORED),
    sweep=(("network", (f"C32k3s {_REST}", f"C16k7s {_REST}", f"C32k9s {_REST}")),),
)
VGG16 = replace(
    SMALL,
    name="scenes15/vgg16",
    summary="VGG16 frozen at 32×32, one dense layer; published winner over ResNet50",
    network="",
    optimiser=Optimiser("adam", 1e-3),
    epochs=15,
    params=14_714_688 + 63_375,
    trainable=63_375,
    commands=(_TUNE.format("vgg16"),),
    ours=("the best epoch by val_accuracy is scored",),
)
RESNET50 = replace(
    VGG16,
    name="scenes15/resnet50",
    summary="ResNet50 frozen at 32×32, one dense layer",
    params=23_587_712 + 247_695,
    trainable=247_695,
    commands=(_TUNE.format("resnet50"),),
)

ROWS = (SMALL, BATCH, SIZE, ACTIVATION, AUGMENT, FILTERS, VGG16, RESNET50)
