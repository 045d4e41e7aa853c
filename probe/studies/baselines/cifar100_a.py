"""25 classes of CIFAR-100, study A: a LeNet and what makes it better.

12,500 training images, of which a tenth is validation, and 2,500 test images. SGD 0.01 with Nesterov momentum
0.9 and decay 1e-6, batches of 32. The study's loader divides every picture by 255 before anything else.
"""

from dataclasses import replace

from probe.studies.recipe import Comparison, Published, Ran, Recipe
from probe.train.rules import EarlyStop, Optimiser

SPLIT = "validation is a tenth of train by content; the study takes the first tenth of the file"
_NORM = (
    "the study fitted mean and deviation on train and validation together and augmented the validation "
    "images; here they are fitted on the training part and validation stays plain"
)
_SMALL = "C6k3v R P2 C16k3v R C32k3v R P2 C64k3v R F D100 R"
_BN_AFTER = "C6k3v R B P2 C16k3v R B C32k3v R P2 C64k3v R F D100 R"
_BN_BEFORE = "C6k3v B R P2 C16k3v B R C32k3v R P2 C64k3v R F D100 R"
_BN_FC = f"{_BN_AFTER} B"
_DROPOUT = "C6k3v R B P2 DO.25 C16k3v R B C32k3v R P2 DO.25 C64k3v R F D100 R B DO.5"


def _published(accuracy: float) -> tuple[Published, ...]:
    return (Published(accuracy),)


BASENET = Recipe(
    name="cifar100-a/basenet",
    summary="two 5×5 convolutions, pixels in [0, 1]",
    data="cifar100-25",
    network="C6k5v R P2 C16k5v R P2 F D50 R",
    classes=25,
    optimiser=Optimiser("sgd", 0.01, momentum=0.9, nesterov=True, decay=1e-6),
    keep="last",
    epochs=30,
    params=24_197,
    published=_published(0.394),
    source="EXPERIMENTS section 2, basenet",
    ours=("the last epoch is scored",),
    differs=(SPLIT,),
)
NORM = replace(
    BASENET,
    name="cifar100-a/basenet-norm",
    summary="basenet on standardised pixels",
    normalise="norm",
    published=_published(0.3788),
    source="EXPERIMENTS section 2, basenet-norm",
    differs=(SPLIT, _NORM),
)
FLIPZOOM = replace(
    NORM,
    name="cifar100-a/basenet-flipzoom",
    summary="basenet-norm with flips and zoom 0.2",
    augment="flipzoom",
    epochs=25,
    published=_published(0.4528),
    source="EXPERIMENTS section 2, basenet-flipzoom",
)
SHEAR = replace(
    FLIPZOOM,
    name="cifar100-a/basenet-shear",
    summary="basenet-norm with rotation 45° and shear 0.2°, reflected edges",
    augment="shear",
    published=_published(0.4068),
    source="EXPERIMENTS section 2, basenet-shear",
)
ALLAUG = replace(
    FLIPZOOM,
    name="cifar100-a/basenet-allaug",
    summary="basenet-norm with every augmentation at once",
    augment="allaug",
    published=_published(0.386),
    source="EXPERIMENTS section 2, basenet-allaug",
)
DEEPER = replace(
    FLIPZOOM,
    name="cifar100-a/deeper",
    summary="four convolutions, three dense layers",
    network="C6k5v R P2 C16k5v R C32k5v R P2 C64k3v R F D100 R D50 R",
    epochs=15,
    params=47_025,
    published=_published(0.4012),
    source="EXPERIMENTS section 2, deeper",
)
DEEPER_LONG = replace(
    DEEPER,
    name="cifar100-a/deeper-long",
    summary="deeper, 45 epochs more",
    epochs=60,
    published=_published(0.4224),
    source="EXPERIMENTS section 2, deeper (+45)",
    differs=(*DEEPER.differs, "60 epochs in one go; the study trained 15, then 45 with a new state of SGD"),
)
SMALLKERNEL = replace(
    FLIPZOOM,
    name="cifar100-a/smallkernel",
    summary="four 3×3 convolutions",
    network=_SMALL,
    epochs=30,
    params=84_409,
    published=_published(0.478),
    source="EXPERIMENTS section 2, smallkernel",
)
BN_AFTER = replace(
    SMALLKERNEL,
    name="cifar100-a/bn-after-relu",
    summary="smallkernel with B after the first two activations",
    network=_BN_AFTER,
    params=84_497,
    trainable=84_497 - 44,
    published=_published(0.5064),
    source="EXPERIMENTS section 2, bn-after-relu",
)
BN_BEFORE = replace(
    BN_AFTER,
    name="cifar100-a/bn-before-relu",
    summary="smallkernel with B before the first two activations",
    network=_BN_BEFORE,
    published=_published(0.5056),
    source="EXPERIMENTS section 2, bn-before-relu",
)
BN_FC = replace(
    BN_AFTER,
    name="cifar100-a/bn-fc",
    summary="bn-after-relu with B after the dense layer too",
    network=_BN_FC,
    params=84_897,
    trainable=84_897 - 44 - 200,
    published=_published(0.52),
    source="EXPERIMENTS section 2, bn-fc",
)
BN_FC_ES = replace(
    BN_FC,
    name="cifar100-a/bn-fc-es",
    summary="bn-fc with early stopping, best weights restored",
    stops=(EarlyStop("val_loss", 3),),
    keep="val_loss",
    published=_published(0.5244),
    source="EXPERIMENTS section 2, bn-fc-es",
    ran=Ran(10),
    ours=(),
)
DROPOUT = replace(
    BN_FC,
    name="cifar100-a/dropout",
    summary="bn-fc with dropout 0.25 after the pools and 0.5 before the output",
    network=_DROPOUT,
    epochs=50,
    published=_published(0.4936),
    source="EXPERIMENTS section 2, dropout",
)
DROPOUT_LOW = replace(
    DROPOUT,
    name="cifar100-a/dropout-low",
    summary="dropout 0.1 everywhere",
    network=_DROPOUT.replace("DO.25", "DO.1").replace("DO.5", "DO.1"),
    published=_published(0.58),
    source="EXPERIMENTS section 2, dropout-low",
)

COMPARISONS = (
    Comparison("basenet: three augmentations", (FLIPZOOM.name, SHEAR.name, ALLAUG.name)),
    Comparison("batch normalisation after or before the activation", (BN_AFTER.name, BN_BEFORE.name)),
    Comparison("batch normalisation after the dense layer or not", (BN_AFTER.name, BN_FC.name)),
    Comparison("dropout: high or low", (DROPOUT.name, DROPOUT_LOW.name)),
)

ROWS = (
    BASENET,
    NORM,
    FLIPZOOM,
    SHEAR,
    ALLAUG,
    DEEPER,
    DEEPER_LONG,
    SMALLKERNEL,
    BN_AFTER,
    BN_BEFORE,
    BN_FC,
    BN_FC_ES,
    DROPOUT,
    DROPOUT_LOW,
)
