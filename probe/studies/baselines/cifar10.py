"""CIFAR-10 from scratch, step by step, and a truncated VGG16 at the end.

40,000 / 10,000 / 10,000, pixels in [0, 1], batches of 512. The best epoch by validation accuracy is scored,
as in the study, whose validation part is the last 10,000 images of the training file.
"""

from dataclasses import replace

from probe.studies.recipe import Published, Ran, Recipe
from probe.train.rules import EarlyStop, Optimiser, ReduceLr

_EXP1 = "[C32k3s R]x2 P2 [C64k3s R]x2 P2 [C128k3s R]x3 P2 F D256 R"
_EXP3 = "[C32k3s R B]x2 P2 [C64k3s R B]x2 P2 [C128k3s R B]x3 P2 F D256 R B"
_EXP4 = "[C32k3s R B]x2 P2 DO.3 [C64k3s R B]x2 P2 DO.3 [C128k3s R B]x3 P2 DO.3 F D256 R B DO.3"
_EXP5 = _EXP4.replace("DO.3", "DO.5")
_HEAD8 = "F [D1024 R B DO.5]x2 D512 R B DO.5"
_EXP8 = f"[C64k3s R B]x2 P2 DO.5 [C128k3s R B]x2 P2 DO.5 [C256k3s R B]x3 P2 DO.5 {_HEAD8}"
_EXP11 = (
    f"[C64k3s R B]x3 P2 DO.5 [C128k3s R B]x3 P2 DO.5 [C256k3s R B]x3 P2 DO.5 [C512k3s R B]x2 DO.5 {_HEAD8}"
)
_HEAD12 = f"C512k3s R B C512k3s R B DO.5 {_HEAD8}"
_TUNE12 = (
    "probe finetune --trunk block3_pool --unfreeze block3 --size 32 --preprocess unit "
    f'--head "{_HEAD12}" --head-epochs 0 --optimiser adam --lr 1e-2 --epochs 200 --batch-size 512 '
    "--stop val_accuracy:30 --stop val_loss:30 --reduce-lr val_loss:0.1:20:1e-5 --keep val_accuracy "
    "--augment cifar10-exp8b --validation 0.2 cifar10"
)
_SPLIT = "validation is a fifth of train by content; the study takes the last 10,000 images of the file"
_DROPS = "the study leaves out the incomplete last batch of an epoch"
_HEAD_RELU = "ReLU after each dense layer of the head, before B"


def _stops(accuracy: int, loss: int) -> tuple[EarlyStop, ...]:
    return EarlyStop("val_accuracy", accuracy), EarlyStop("val_loss", loss)


def _published(accuracy: float, clock: str) -> tuple[Published, ...]:
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return (Published(accuracy, seconds=seconds),)


EXP0 = Recipe(
    name="cifar10/exp0",
    summary="one convolution, one small dense layer",
    data="cifar10",
    network="C32k3s R P2 F D32 R",
    stops=_stops(5, 5),
    epochs=500,
    batch_size=512,
    validation=0.2,
    params=263_402,
    published=_published(0.6058, "1:00"),
    source="EXPERIMENTS section 1, exp0",
    ran=Ran(43, 0.6135, 38),
    differs=(_SPLIT,),
)
EXP1 = replace(
    EXP0,
    name="cifar10/exp1",
    summary="seven convolutions in three blocks",
    network=_EXP1,
    stops=(EarlyStop("loss", 15),),
    epochs=100,
    params=961_706,
    published=_published(0.7476, "4:37"),
    source="EXPERIMENTS section 1, exp1",
    ran=Ran(67, 0.7516, 49),
    ours=("learning rate 1e-3",),
)
EXP2 = replace(
    EXP1,
    name="cifar10/exp2",
    summary="exp1 with a learning rate that falls on a plateau",
    stops=(EarlyStop("accuracy", 5),),
    reduce_lr=ReduceLr("loss", 0.1, 3, 1e-4),
    epochs=200,
    published=_published(0.7688, "2:57"),
    source="EXPERIMENTS section 1, exp2",
    ran=Ran(38, 0.7773, 36),
)
EXP3 = replace(
    EXP2,
    name="cifar10/exp3",
    summary="exp2 with batch normalisation after every activation",
    network=_EXP3,
    params=965_034,
    published=_published(0.7629, "2:42"),
    source="EXPERIMENTS section 1, exp3",
    ran=Ran(20, 0.7723, 20),
)
EXP4 = replace(
    EXP3,
    name="cifar10/exp4",
    summary="exp3 with dropout 0.3",
    network=_EXP4,
    stops=_stops(5, 5),
    reduce_lr=ReduceLr("val_loss", 0.1, 5, 1e-4),
    epochs=300,
    published=_published(0.8125, "3:44"),
    source="EXPERIMENTS section 1, exp4",
    ran=Ran(23, 0.8192, 22),
    ours=("learning rate 1e-3", "dropout after the batch normalisation of the dense layer"),
)
EXP5 = replace(
    EXP4,
    name="cifar10/exp5",
    summary="exp4 with dropout 0.5 and more patience",
    network=_EXP5,
    stops=_stops(10, 10),
    reduce_lr=ReduceLr("val_loss", 0.1, 5, 1e-5),
    published=_published(0.8494, "7:25"),
    source="EXPERIMENTS section 1, exp5",
    ran=Ran(53, 0.8570, 52),
)
EXP6 = replace(
    EXP5,
    name="cifar10/exp6",
    summary="exp5 with L2 and SGD",
    optimiser=Optimiser("sgd", 0.01, momentum=0.9),
    stops=_stops(50, 10),
    kernel_l2=0.01,
    published=_published(0.8697, "12:45"),
    source="EXPERIMENTS section 1, exp6",
    ran=Ran(101, 0.8708, 75),
    ours=("dropout after the batch normalisation of the dense layer", "epochs and plateau rule as exp5"),
)
EXP7 = replace(
    EXP6,
    name="cifar10/exp7",
    summary="exp6 with flips, rotation 40°, shifts",
    augment="cifar10-exp7",
    epochs=200,
    published=_published(0.8230, "33:58"),
    source="EXPERIMENTS section 1, exp7",
    ran=Ran(70, 0.8269, 60),
    differs=(_SPLIT, _DROPS),
)
EXP8A = replace(
    EXP5,
    name="cifar10/exp8a",
    summary="64 to 256 filters and three dense layers",
    network=_EXP8,
    epochs=150,
    params=7_525_194,
    published=_published(0.8620, "11:02"),
    source="EXPERIMENTS section 1, exp8a",
    ran=Ran(39, 0.8681, 35),
    ours=(_HEAD_RELU, "no L2", "patience 10 watches val_accuracy and val_loss"),
)
EXP8B = replace(
    EXP8A,
    name="cifar10/exp8b",
    summary="exp8a with flips, rotation 20°, shifts",
    augment="cifar10-exp8b",
    stops=_stops(15, 15),
    epochs=200,
    published=_published(0.8604, "39:51"),
    source="EXPERIMENTS section 1, exp8b",
    ran=Ran(73, 0.8674, 58),
    differs=(_SPLIT, _DROPS),
    ours=(_HEAD_RELU, "no L2", "patience 15 watches val_accuracy and val_loss"),
)
EXP9 = replace(
    EXP8B,
    name="cifar10/exp9",
    summary="exp8b at ten times the learning rate and with more patience",
    optimiser=Optimiser("adam", 1e-2),
    stops=_stops(30, 30),
    reduce_lr=ReduceLr("val_loss", 0.1, 20, 1e-5),
    published=_published(0.8949, "1:13:06"),
    source="EXPERIMENTS section 1, exp9",
    ran=Ran(137, 0.9028, 107),
    ours=(_HEAD_RELU, "no L2", "patience 30 watches val_accuracy and val_loss", "200 epochs as exp8b"),
)
EXP10 = replace(
    EXP9,
    name="cifar10/exp10",
    summary="exp9 without augmentation",
    augment="none",
    published=_published(0.8771, "23:38"),
    source="EXPERIMENTS section 1, exp10",
    ran=Ran(89, 0.8866, 87),
    differs=(_SPLIT,),
)
EXP11 = replace(
    EXP9,
    name="cifar10/exp11",
    summary="eleven convolutions up to 512 filters, augmented",
    network=_EXP11,
    params=15_448_842,
    published=_published(0.9074, "1:25:38"),
    source="EXPERIMENTS section 1, exp11",
    ran=Ran(150, 0.9123, 135),
)
EXP12 = replace(
    EXP9,
    name="cifar10/exp12",
    summary="VGG16 to block3_pool at 32×32, two more convolutions, frozen to block2_pool",
    network="",
    params=15_258_954,
    trainable=14_991_626,
    published=_published(0.8591, "1:18:51"),
    source="EXPERIMENTS section 1, exp12",
    ran=Ran(149, 0.8673, 142),
    commands=(
        "probe extract --backbone vgg16 --size 32 --preprocess unit --validation 0.2 cifar10",
        _TUNE12,
    ),
)

ROWS = (EXP0, EXP1, EXP2, EXP3, EXP4, EXP5, EXP6, EXP7, EXP8A, EXP8B, EXP9, EXP10, EXP11, EXP12)
