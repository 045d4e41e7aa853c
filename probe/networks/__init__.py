"""Network strings: the one notation for baselines, dense and convolutional heads and ``finetune --head``.

`probe.networks.builder` turns a parsed string into Keras layers; it is not imported here because
reading a string must not cost the start-up time of TensorFlow.
"""

from probe.networks.layers import (
    Activation,
    Added,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    Network,
    Repeat,
    Residual,
    UpSample,
    expand,
    replace_activation,
)
from probe.networks.notation import format_network, parse

__all__ = [
    "Activation",
    "Added",
    "BatchNorm",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Layer",
    "MaxPool",
    "Network",
    "Repeat",
    "Residual",
    "UpSample",
    "expand",
    "format_network",
    "parse",
    "replace_activation",
]
