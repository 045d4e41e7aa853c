"""PathMNIST with NASNetMobile, 28×28 resized to 224×224, 9 classes, 89,996 / 10,004 / 7,180 images."""

from dataclasses import replace

from probe.studies.recipe import Published, Ran, Recipe
from probe.train.rules import EarlyStop, Optimiser

_EXTRACT = "probe extract --backbone nasnetmobile pathmnist"
_TUNE = (
    "probe finetune --unfreeze last:50 --optimiser adam --lr 8e-5 --epochs 20 --stop val_loss:5 "
    "--augment pathmnist --train-bn"
)

FROZEN = Recipe(
    name="pathmnist/frozen",
    summary="NASNetMobile frozen, softmax on pooled features",
    data="pathmnist",
    size=224,
    classes=9,
    normalise="raw",
    optimiser=Optimiser("adam", 1e-3),
    stops=(EarlyStop("val_loss", 4),),
    keep="val_loss",
    epochs=100,
    published=(Published(0.8649), Published(0.875, "about", part="validation")),
    source="EXPERIMENTS section 5, frozen + softmax",
    ran=Ran(19),
    commands=(_EXTRACT, "probe fit dense --hidden '' --no-standardise --batch-size 32 --patience 4"),
    ours=("learning rate 1e-3", "the epoch with the lowest val_loss is scored"),
    differs=(
        "the study threw away 89 % of the training images, which did not fit its memory; here all are used",
    ),
)
LAST50 = replace(
    FROZEN,
    name="pathmnist/last50",
    summary="last 50 layers unfrozen, augmented",
    augment="pathmnist",
    optimiser=Optimiser("adam", 8e-5),
    stops=(EarlyStop("val_loss", 5),),
    epochs=20,
    published=(Published(0.8779), Published(0.90, "about", part="validation")),
    source="EXPERIMENTS section 5, last 50 layers unfrozen",
    ran=None,
    commands=(_EXTRACT, _TUNE),
    ours=("the epoch with the lowest val_loss is scored",),
)

ROWS = (FROZEN, LAST50)
