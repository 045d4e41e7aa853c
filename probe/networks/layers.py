"""What a network string says, as values: one frozen dataclass a kind of layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Conv:
    """2-D convolution with bias. `kernel` and `stride` in pixels, `padding` is ``same`` or ``valid``."""

    filters: int
    kernel: int = 3
    padding: str = "same"
    stride: int = 1


@dataclass(frozen=True)
class Dense:
    units: int


@dataclass(frozen=True)
class Activation:
    """`name` is ``relu``, ``tanh``, ``sigmoid`` or ``linear``."""

    name: str


@dataclass(frozen=True)
class BatchNorm:
    pass


@dataclass(frozen=True)
class MaxPool:
    """Max pooling with a window and stride of `size` pixels, no padding."""

    size: int = 2


@dataclass(frozen=True)
class Dropout:
    """`rate` is the fraction dropped, in [0, 1)."""

    rate: float


@dataclass(frozen=True)
class Flatten:
    pass


@dataclass(frozen=True)
class GlobalAveragePool:
    pass


@dataclass(frozen=True)
class GlobalMaxPool:
    pass


@dataclass(frozen=True)
class UpSample:
    """`factor` times as large along both axes: pixels repeated, or interpolated where `bilinear`."""

    factor: int = 2
    bilinear: bool = False


@dataclass(frozen=True)
class Residual:
    """A 3×3 branch (convolution, B, R, convolution, B) added to a 1×1 branch (convolution, B), then R."""

    filters: int
    stride: int = 1


@dataclass(frozen=True)
class Added:
    """What `layers` make of a map, added to the map itself; both have one shape."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Repeat:
    """`layers`, `times` times over, with separate weights."""

    layers: tuple[Layer, ...]
    times: int


Layer = (
    Conv
    | Dense
    | Activation
    | BatchNorm
    | MaxPool
    | Dropout
    | Flatten
    | GlobalAveragePool
    | GlobalMaxPool
    | UpSample
    | Residual
    | Added
    | Repeat
)
Network = tuple[Layer, ...]


def expand(network: Network) -> Iterator[Layer]:
    """The layers in the order they are applied, repetitions written out; an `Added` is one of them."""
    for layer in network:
        if isinstance(layer, Repeat):
            for _ in range(layer.times):
                yield from expand(layer.layers)
        else:
            yield layer


def replace_activation(network: Network, name: str) -> Network:
    """The same network with every ReLU replaced by activation `name`; the sweep over activations."""
    return tuple(_with_activation(layer, name) for layer in network)


def _with_activation(layer: Layer, name: str) -> Layer:
    if isinstance(layer, Repeat | Added):
        return replace(layer, layers=replace_activation(layer.layers, name))
    if layer == Activation("relu"):
        return Activation(name)
    return layer
