"""CUB-200 (2010) with ResNet50, two studies: 224×224, 200 classes, 3,000 train / 3,033 test, 10 % validation.

Study A standardises the pixels and trains with SGD; study B uses ResNet50's own preprocessing and Adam.
"""

from dataclasses import replace

from probe.train.recipe import EarlyStop, Optimiser, Published, Recipe

_EXTRACT = "probe extract --backbone resnet50 cub200"
_SOFTMAX = "probe fit dense --hidden ''"
_CONV = "C256k3s R B DO.5 GAP"
_TUNE_A = (
    "probe finetune --backbone resnet50 --preprocess standardise --augment flipzoom --epochs 10 "
    "--batch-size 32 --optimiser sgd --lr 0.01 --momentum 0.9 --nesterov --decay 1e-6 "
    "--head-epochs 0 --keep last"
)
_TUNE_B = (
    "probe finetune --unfreeze all --optimiser adam --lr 1e-5 --epochs 10 --batch-size 32 --augment cub200-b"
)
_ONE_CONFIGURATION = (
    "the study took 0.3426 for a frozen network, but its loop froze the first zero layers: both figures are "
    "the same configuration, 2.7 points apart by chance"
)

A_WHOLE = Recipe(
    name="cub200/a-whole",
    summary="study A: whole network trained in one stage",
    data="cub200",
    size=224,
    classes=200,
    normalise="norm",
    augment="flipzoom",
    optimiser=Optimiser("sgd", 0.01, momentum=0.9, nesterov=True, decay=1e-6),
    keep="last",
    epochs=10,
    published=(Published(0.3426, "first run"), Published(0.3699, "second run")),
    source="EXPERIMENTS section 4, whole network trained, one stage",
    commands=(f"{_TUNE_A} --unfreeze all cub200",),
    ours=("the last epoch is scored",),
    differs=(_ONE_CONFIGURATION,),
)
A_FIRST10 = replace(
    A_WHOLE,
    name="cub200/a-freeze10",
    summary="study A: first 10 layers frozen, rest trained",
    published=(Published(0.4039),),
    source="EXPERIMENTS section 4, first 10 layers frozen",
    commands=(f"{_TUNE_A} --freeze first:10 cub200",),
    differs=("the study left batch normalisation alone, so that it also moved in the frozen layers",),
)
A_DENSE = replace(
    A_FIRST10,
    name="cub200/a-freeze10-dense",
    summary="study A: the same with three dense layers on top",
    published=(Published(0.1497),),
    source="EXPERIMENTS section 4, the same with dense layers on top",
    commands=(f'{_TUNE_A} --freeze first:10 --head "GAP D1024 R DO.5 B D512 L D256 R" cub200',),
)
B_SOFTMAX = replace(
    A_WHOLE,
    name="cub200/b-softmax",
    summary="study B: frozen, softmax on pooled features",
    normalise="raw",
    augment="none",
    optimiser=Optimiser("adam", 1e-3),
    stops=(EarlyStop("val_loss", 10),),
    keep="val_loss",
    epochs=100,
    batch_size=256,
    published=(Published(0.4421),),
    source="EXPERIMENTS section 4, frozen, softmax on pooled features",
    commands=(_EXTRACT, _SOFTMAX),
    ours=("batch size, epochs and early stopping",),
    differs=(),
)
B_DENSE = replace(
    B_SOFTMAX,
    name="cub200/b-dense",
    summary="study B: frozen, one dense layer of 1024 on top",
    published=(Published(0.4309),),
    source="EXPERIMENTS section 4, dense layers on top, frozen",
    commands=(_EXTRACT, "probe fit dense --hidden 1024 --dropout 0.5"),
    ours=(*B_SOFTMAX.ours, "dropout 0.5"),
)
B_CONV = replace(
    B_SOFTMAX,
    name="cub200/b-conv",
    summary="study B: frozen, convolutional head on the feature map",
    published=(Published(0.4467),),
    source="EXPERIMENTS section 4, convolutional head",
    commands=(f"{_EXTRACT} --outputs conv5_block3_out:map", f'probe fit conv --network "{_CONV}"'),
    ours=(*B_SOFTMAX.ours, "filters of the head"),
)
B_CONV_AUGMENTED = replace(
    B_CONV,
    name="cub200/b-conv-augmented",
    summary="study B: the convolutional head on augmented views",
    augment="cub200-b",
    published=(Published(0.4355),),
    source="EXPERIMENTS section 4, convolutional head, augmented",
    commands=(
        f"{_EXTRACT} --outputs conv5_block3_out:map --views 5 --augment cub200-b",
        f'probe fit conv --network "{_CONV}" --views 5',
    ),
    ours=(*B_CONV.ours, "five stored views beside the plain one", "horizontal flips"),
)
B_TWO_STAGES = replace(
    B_SOFTMAX,
    name="cub200/b-two-stages",
    summary="study B: head first, then everything at 1e-5, augmented",
    augment="cub200-b",
    optimiser=Optimiser("adam", 1e-5),
    stops=(),
    epochs=10,
    batch_size=32,
    published=(Published(0.4643),),
    source="EXPERIMENTS section 4, two stages",
    commands=(_EXTRACT, _SOFTMAX, _TUNE_B),
    ours=(
        "the head of the first stage is a logistic regression",
        "the best epoch by val_loss is scored",
        "horizontal flips",
    ),
)
B_TWO_STAGES_CONV = replace(
    B_TWO_STAGES,
    name="cub200/b-two-stages-conv",
    summary="study B: two stages on the convolutional head",
    published=(Published(0.4824),),
    source="EXPERIMENTS section 4, two stages, on the conv head",
    commands=(
        f"{_EXTRACT} --outputs conv5_block3_out:map",
        f'probe fit conv --network "{_CONV}"',
        f'{_TUNE_B} --head "{_CONV}"',
    ),
    ours=("10 epochs of Adam 1e-3 for the head", *B_TWO_STAGES.ours[1:], "filters of the head"),
)

ROWS = (
    A_WHOLE,
    A_FIRST10,
    A_DENSE,
    B_SOFTMAX,
    B_DENSE,
    B_CONV,
    B_CONV_AUGMENTED,
    B_TWO_STAGES,
    B_TWO_STAGES_CONV,
)
