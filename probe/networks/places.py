"""Convolutions of one place that leave places out: reading the others first, where TensorFlow fails at it."""

from __future__ import annotations

FEWEST = 16
"""Channels from which on it does not fail."""


def picks_places(kernel: int, stride: int, channels: int) -> bool:
    """Whether the places that such a convolution reads have to be picked before it.

    The gradient of its kernel in float32, as TensorFlow 2.21 has oneDNN compute it on a CPU, writes past its
    memory for an odd number of pictures with an even side, and the process dies.
    """
    return kernel == 1 and stride == 2 and channels < FEWEST
