"""The rows: what each data set is, as its publisher states it."""

from __future__ import annotations

from probe.datasets.row import DatasetRow

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

ROWS = (
    DatasetRow(
        name="fashion-sample",
        loader="probe.datasets.sample:read_sample",
        summary="3,500 pictures of Fashion-MNIST, 28×28 grey, 10 classes; ships with the repository",
        classes=10,
        images=3_500,
        splits={"train": 2_000, "val": 500, "test": 1_000},
        class_names=FASHION_CLASSES,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        facts={"publisher_split": "the first images of each class of the training and the test file"},
    ),
)
