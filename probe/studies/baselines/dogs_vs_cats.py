"""Dogs-vs-cats: a small convnet from scratch, then VGG16's features and its last block.

10 % of the images, 2,000 / 1,000 / 1,000 at 150×150, after the text-book that the study follows. Figures are
on validation, as published, but for the final evaluation.
"""

from dataclasses import replace

from probe.studies.recipe import Published, Recipe
from probe.train.rules import EarlyStop, Optimiser

_SIZES = "2,000 / 1,000 / 1,000 images and 150×150 pixels, after the text-book the study follows"
_CONVNET = "C32k3v R P2 C64k3v R P2 C128k3v R P2 C128k3v R P2 F"
_HEAD = '--head "F D256 R"'
_EXTRACT = "probe extract --backbone vgg16 --size 150 --outputs block5_pool:map"
_TUNE = (
    f"probe finetune --unfreeze block5 {_HEAD} --optimiser rmsprop --lr 1e-5 --epochs 30 --batch-size 20 "
    "--keep val_accuracy --augment dogs-vs-cats"
)
_FIT = "probe fit dense --hidden 256 --no-standardise --sigmoid"
_PREPROCESS = "VGG16's own preprocessing"
_DATA = "dogs-vs-cats-2000"

SCRATCH = Recipe(
    name="dogs-vs-cats/scratch",
    summary="small convnet from scratch",
    data=_DATA,
    network=f"{_CONVNET} D512 R",
    size=150,
    classes=2,
    optimiser=Optimiser("rmsprop", 1e-4),
    keep="val_accuracy",
    epochs=30,
    batch_size=20,
    binary=True,
    params=3_453_121,
    published=(Published(0.70, part="validation"),),
    source="EXPERIMENTS section 6, small convnet from scratch (about 70 %)",
    ours=(_SIZES, "the network, RMSprop 1e-4, batch 20, 30 epochs"),
)
AUGMENTED = replace(
    SCRATCH,
    name="dogs-vs-cats/scratch-augmented",
    summary="small convnet with dropout and augmentation",
    network=f"{_CONVNET} DO.5 D512 R",
    augment="dogs-vs-cats",
    epochs=100,
    batch_size=32,
    published=(Published(0.82, part="validation"),),
    source="EXPERIMENTS section 6, with augmentation (about 82 %)",
    ours=(_SIZES, "the network, RMSprop 1e-4, batch 32, 100 epochs", "the ranges of the augmentation"),
)
FEATURES = replace(
    SCRATCH,
    name="dogs-vs-cats/features",
    summary="dense layers on VGG16's frozen feature map",
    network="",
    optimiser=Optimiser("adam", 1e-3),
    stops=(EarlyStop("val_loss", 10),),
    keep="val_loss",
    epochs=100,
    batch_size=256,
    params=14_714_688 + 2_097_665,
    trainable=2_097_665,
    published=(Published(0.90, "about", part="validation"),),
    source="EXPERIMENTS section 6, frozen features (about 90 %, over-fits after a few epochs)",
    commands=(f"{_EXTRACT} {_DATA}", f"{_FIT} --dropout 0.5"),
    ours=(_SIZES, "Adam 1e-3, batch size, epochs and early stopping", _PREPROCESS),
)
FROZEN = replace(
    FEATURES,
    name="dogs-vs-cats/frozen-augmented",
    summary="the same trained on augmented pictures: stored views in place of five hours",
    augment="dogs-vs-cats",
    published=(Published(0.92, part="validation"),),
    source="EXPERIMENTS section 6, frozen base with augmentation (10 minutes an epoch, 5 hours)",
    commands=(f"{_EXTRACT} --views 5 --augment dogs-vs-cats {_DATA}", f"{_FIT} --dropout 0 --views 5"),
    ours=(*FEATURES.ours, "five stored views beside the plain one", "the ranges of the augmentation"),
)
BLOCK5 = replace(
    FEATURES,
    name="dogs-vs-cats/block5",
    summary="augmentation and fine-tuning of block5, the classifier trained first",
    augment="dogs-vs-cats",
    optimiser=Optimiser("rmsprop", 1e-5),
    stops=(),
    keep="val_accuracy",
    epochs=30,
    batch_size=20,
    trainable=7_079_424 + 2_097_665,
    published=(Published(0.96, part="validation"), Published(0.97, "final evaluation")),
    source="EXPERIMENTS section 6, fine-tuning of block5",
    commands=(f"{_EXTRACT} {_DATA}", _TUNE),
    ours=(
        _SIZES,
        "10 epochs of Adam 1e-3 for the head, then 30 epochs, batch 20",
        "the best epoch by val_accuracy is scored",
        "the ranges of the augmentation",
        _PREPROCESS,
    ),
)

ROWS = (SCRATCH, AUGMENTED, FEATURES, FROZEN, BLOCK5)
