"""25 classes of CIFAR-100, study B: an optimiser chosen by cross-validation, then wider and deeper networks.

The study shows its larger networks as pictures only; their widths here lie in the range of its words.
"""

from dataclasses import replace

from probe.train.baselines.cifar100_a import BASENET
from probe.train.recipe import EarlyStop, Optimiser, Published

_WIDTHS = "widths and depths: the study shows the network as a picture only"
_OPEN = (
    "the first 25 fine labels by index",
    "Keras's default learning rate",
    "the epoch with the lowest val_loss is scored",
)

OPTIMISER = replace(
    BASENET,
    name="cifar100-b/optimiser",
    summary="six optimisers on basenet by 5-fold cross-validation",
    optimiser=Optimiser("rmsprop", 1e-3),
    stops=(EarlyStop("val_loss", 4),),
    keep="val_loss",
    sweep=(("optimiser", ("rmsprop", "nadam", "adam", "adamax", "adagrad", "adadelta")),),
    folds=5,
    published=(
        Published(0.2670, "optimiser=rmsprop", part="validation"),
        Published(0.2438, "optimiser=nadam", part="validation"),
        Published(0.2223, "optimiser=adam", part="validation"),
        Published(0.2162, "optimiser=adamax", part="validation"),
        Published(0.0796, "optimiser=adagrad", part="validation"),
        Published(0.0522, "optimiser=adadelta", part="validation"),
    ),
    source="EXPERIMENTS section 3, optimiser choice",
    ours=(*_OPEN, "batch 32 and at most 30 epochs"),
)
B_BASENET = replace(
    BASENET,
    name="cifar100-b/basenet",
    summary="basenet with RMSprop, standardised pixels, flips and zoom",
    normalise="norm",
    augment="flipzoom",
    optimiser=Optimiser("rmsprop", 1e-3),
    keep="last",
    epochs=30,
    batch_size=64,
    published=(Published(0.4948),),
    source="EXPERIMENTS section 3, basenet",
    ours=("the first 25 fine labels by index", "learning rate 1e-3", "zoom 0.2", "the last epoch is scored"),
)
B_2_1 = replace(
    B_BASENET,
    name="cifar100-b/basenet2.1",
    summary="pairs of 3×3 convolutions, more filters, B, dropout 0.4, no dense layer",
    network="[C32k3v R B]x2 P2 DO.4 [C64k3v R B]x2 P2 DO.4 F",
    stops=(EarlyStop("val_loss", 4),),
    keep="val_loss",
    params=106_361,
    published=(Published(0.6252),),
    source="EXPERIMENTS section 3, basenet2.1",
    ours=(*_OPEN, "zoom 0.2", "patience 4 watches val_loss", _WIDTHS),
)
B_2_2 = replace(
    B_2_1,
    name="cifar100-b/basenet2.2",
    summary="128 to 512 filters, up-sampling and a stride-2 convolution",
    network="[C128k3s R B]x2 P2 DO.4 [C256k3s R B]x2 P2 DO.4 U2 C512k3s/2 R B P2 DO.4 F",
    batch_size=32,
    params=2_426_521,
    published=(Published(0.6908),),
    source="EXPERIMENTS section 3, basenet2.2",
    ours=(*B_2_1.ours, "batch 32: the study says smaller", "up-sampling before the last convolution"),
)
B_2_3 = replace(
    B_2_2,
    name="cifar100-b/basenet2.3",
    summary="basenet2.2 with residual 1×1/3×3 branches and a final pool of 4×4",
    network="C128k3s R B RES128 P2 DO.4 C256k3s R B RES256 P2 DO.4 U2 C512k3s/2 R B P4 DO.4 F",
    params=3_095_961,
    published=(Published(0.6784),),
    source="EXPERIMENTS section 3, basenet2.3",
)

ROWS = (OPTIMISER, B_BASENET, B_2_1, B_2_2, B_2_3)
