"""The experiments of the studies by name, one file a study."""

from probe.registry import Registry
from probe.studies.baselines import (
    cifar10,
    cifar100_a,
    cifar100_b,
    cub200,
    dogs_vs_cats,
    fashion_mnist,
    pathmnist,
    scenes15,
)
from probe.studies.recipe import Comparison, Recipe

BASELINES: Registry[Recipe] = Registry(
    "baseline",
    [
        *cifar10.ROWS,
        *cifar100_a.ROWS,
        *cifar100_b.ROWS,
        *cub200.ROWS,
        *pathmnist.ROWS,
        *dogs_vs_cats.ROWS,
        *scenes15.ROWS,
        *fashion_mnist.ROWS,
    ],
)

COMPARISONS: tuple[Comparison, ...] = (*cifar100_a.COMPARISONS, *cub200.COMPARISONS)
"""What the studies draw over one another."""

STUDIES: tuple[str, ...] = tuple(dict.fromkeys(row.study for row in BASELINES.values()))
