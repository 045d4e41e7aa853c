"""Fashion-MNIST: what its authors and those who sent in their benchmarks report, 60,000 / 10,000 pictures.

The authors' figures are of table 3 of arXiv 1708.07747: scikit-learn on pixels that are standardised one by
one, the mean of five fits on the shuffled training part. The others are of the table in the repository
zalandoresearch/fashion-mnist, with the programs that it links. Its test part chooses no epoch here, whatever
the source did. A row that trains for over an hour on two cores is a study of its own.
"""

from dataclasses import replace

from probe.studies.recipe import Published, Ran, Recipe
from probe.train.rules import EarlyStop, Optimiser

_TABLE = "arXiv 1708.07747, table 3"
_LIST = "zalandoresearch/fashion-mnist, README"
_DATA = "fashion-mnist"
_EXTRACT = f"probe extract --backbone pixels --size 28 --validation 0 {_DATA}"
_MEAN_OF_5 = "the published figure is the mean of five fits on the shuffled training part; here it is one"
_KERAS_START = "weights start as Keras starts them; the source has PyTorch's start"
_GREY = "pictures have three equal channels, which are one feature three times over"

LOGREG = Recipe(
    name="fashion-mnist/logreg",
    summary="logistic regression on standardised pixels, C = 1",
    data=_DATA,
    size=28,
    channels=1,
    normalise="pixelwise",
    epochs=0,
    validation=0.0,
    published=(Published(0.841),),
    source=f"{_TABLE}, LogisticRegression C=1 penalty=l2",
    commands=(_EXTRACT, f"probe fit logreg --c {1 / 3} --tolerance 0.05"),
    ours=(
        f"{_GREY}: a weight shared by three costs a third, so that C/3 is the source's C",
        "fitted until it is proven to lie within a twentieth of the minimum",
    ),
    differs=("one softmax over the classes in place of one against the rest",),
)
KNN_1 = replace(
    LOGREG,
    name="fashion-mnist/knn-1",
    summary="the nearest neighbour among standardised pixels",
    published=(Published(0.839),),
    source=f"{_TABLE}, KNeighborsClassifier n_neighbors=1 p=2 weights=uniform",
    commands=(_EXTRACT, "probe fit knn --k 1 --metric euclidean --standardise"),
    ours=(f"{_GREY}: all distances grow alike",),
    differs=(),
)
KNN_5 = replace(
    KNN_1,
    name="fashion-mnist/knn-5",
    summary="five nearest neighbours among standardised pixels",
    published=(Published(0.849),),
    source=f"{_TABLE}, KNeighborsClassifier n_neighbors=5 p=2 weights=uniform",
    commands=(_EXTRACT, "probe fit knn --k 5 --metric euclidean --standardise"),
)
KNN_9 = replace(
    KNN_1,
    name="fashion-mnist/knn-9",
    summary="nine nearest neighbours among standardised pixels",
    published=(Published(0.847),),
    source=f"{_TABLE}, KNeighborsClassifier n_neighbors=9 p=2 weights=uniform",
    commands=(_EXTRACT, "probe fit knn --k 9 --metric euclidean --standardise"),
)

MLP_100 = Recipe(
    name="fashion-mnist/mlp-100",
    summary="one hidden layer of 100 units with ReLU on standardised pixels",
    data=_DATA,
    network="F D100 R",
    size=28,
    channels=1,
    normalise="pixelwise",
    optimiser=Optimiser("adam", 1e-3),
    stops=(EarlyStop("loss", 3),),
    keep="last",
    epochs=200,
    batch_size=200,
    kernel_l2=2.5e-7,
    validation=0.0,
    params=79_510,
    published=(Published(0.871),),
    source=f"{_TABLE}, MLPClassifier activation=relu hidden_layer_sizes=[100]",
    ours=(
        "left to scikit-learn's defaults of its time: Adam 1e-3, batches of 200, 200 epochs",
        "of those defaults too: the last epoch is scored, and L2 is half of 1e-4, divided by the batch",
    ),
    differs=(
        _MEAN_OF_5,
        "training stops after three epochs without a lower loss; there an epoch had to lower it by 1e-4",
        "the last kernel has no penalty",
    ),
)
MLP_TANH = replace(
    MLP_100,
    name="fashion-mnist/mlp-100-tanh",
    summary="one hidden layer of 100 units with tanh on standardised pixels",
    network="F D100 T",
    published=(Published(0.868),),
    source=f"{_TABLE}, MLPClassifier activation=tanh hidden_layer_sizes=[100]",
)
MLP_10 = replace(
    MLP_100,
    name="fashion-mnist/mlp-10",
    summary="one hidden layer of 10 units with ReLU on standardised pixels",
    network="F D10 R",
    params=7_960,
    published=(Published(0.848),),
    source=f"{_TABLE}, MLPClassifier activation=relu hidden_layer_sizes=[10]",
)
MLP_256 = Recipe(
    name="fashion-mnist/mlp-256-128-64",
    summary="hidden layers of 256, 128 and 64 units, SGD with momentum",
    data=_DATA,
    network="F D256 R D128 R D64 R",
    size=28,
    channels=1,
    optimiser=Optimiser("sgd", 0.1, momentum=0.8),
    keep="last",
    epochs=25,
    batch_size=200,
    validation=0.0,
    params=242_762,
    published=(Published(0.9005),),
    source=f"{_LIST}: MLP 256-128-64 0.900; lianghong/fashion_mnist-on-mxnet, 0.9005 after epoch 25",
    ran=Ran(25),
    differs=("the source starts its weights by Xavier's rule with another magnitude (2.24)",),
)

CNN_83K = Recipe(
    name="fashion-mnist/cnn-83k",
    summary="two convolutions of 5×5 and no hidden dense layer",
    data=_DATA,
    network="C32k5s R P2 C64k5s R P2 F",
    size=28,
    channels=1,
    normalise="norm",
    optimiser=Optimiser("adam", 1e-3),
    keep="last",
    epochs=30,
    batch_size=1000,
    validation=0.0,
    params=83_466,
    published=(Published(0.9247),),
    source=f"{_LIST}: 2 Conv Layers net <100K parameters 0.925; hardmaru/pytorch_notebooks, 0.9247",
    ran=Ran(30),
    differs=(
        _KERAS_START,
        "pixels have mean 0 and deviation 1 over this data; the source takes the two numbers of MNIST",
    ),
)
CNN_113K = Recipe(
    name="fashion-mnist/cnn-113k",
    summary="two convolutions of 3×3, a dense layer of 128, dropout",
    data=_DATA,
    network="C32k3v R P2 C32k3v R P2 DO.25 F D128 R DO.5",
    size=28,
    channels=1,
    optimiser=Optimiser("adam", 1e-3),
    keep="last",
    epochs=50,
    batch_size=64,
    validation=0.2,
    params=113_386,
    published=(Published(0.92159), Published(0.91864, part="validation")),
    source=f"{_LIST}: 2 Conv Layers 113K parameters 0.922; abelusha/MNIST-Fashion-CNN, means of 10 runs",
    ran=Ran(50, 0.9186, 39),
    differs=("the published figures are means of ten runs, 0.9177 to 0.9245 on test; here it is one",),
)
CNN_BN = Recipe(
    name="fashion-mnist/cnn-bn",
    summary="three convolutions of 5×5 with batch normalisation, eight epochs of SGD",
    data=_DATA,
    network="C16k5s R P2 C32k5s R B P2 C64k5s R B P2 F",
    size=28,
    channels=1,
    optimiser=Optimiser("sgd", 0.01),
    keep="last",
    epochs=8,
    batch_size=100,
    validation=0.0,
    params=70_666,
    trainable=70_474,
    published=(Published(0.9033),),
    source=f"{_LIST}: 3 Conv Layers+pooling+BN 0.903; meghanabhange/FashionMNIST-3-Layer-CNN, 0.9033",
    ran=Ran(8),
    ours=("the first batch normalisation is left out: the program computes it and goes on without it",),
    differs=(
        _KERAS_START,
        "the source scores with batch normalisation in training mode, on batches of 100 test images",
    ),
)
CNN_AUGMENTED = Recipe(
    name="fashion-mnist-long/cnn-augmented",
    summary="two convolutions of 4×4, two dense layers, flips and rotation 10°",
    data=_DATA,
    network="B C64k4s R P2 DO.1 C64k4v R P2 DO.3 F D256 R DO.5 D64 R B",
    size=28,
    channels=1,
    augment="flip,rotate=10",
    optimiser=Optimiser("adam", 1e-3),
    keep="val_loss",
    epochs=80,
    batch_size=250,
    validation=0.2,
    params=493_902,
    trainable=493_772,
    published=(Published(0.9343),),
    source="zalandoresearch/fashion-mnist, benchmark 94; cmasch/zalando-fashion-mnist, mean of 5 runs",
    differs=(
        "the published figure is the mean of five runs; here it is one",
        "the source draws two views of every picture once and for all; here every epoch draws new ones",
        "an epoch of the source has 144,000 images, the views among them; here 48,000",
        "the source validates on views of pictures that are trained on; here on other pictures",
    ),
)

ROWS = (
    *(LOGREG, KNN_1, KNN_5, KNN_9),
    *(MLP_100, MLP_TANH, MLP_10, MLP_256),
    *(CNN_83K, CNN_113K, CNN_BN, CNN_AUGMENTED),
)
