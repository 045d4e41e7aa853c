"""Features as they are stored: as float32, as float16, or in 8 bits with a scale for every vector.

In 8 bits a vector, the last axis of a row, is whole numbers from −127 to 127 times its scale, which is its
largest absolute value divided by 127: a row's bits depend on the row alone, as in every other type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.store.spec import INT8

STEPS = 127
PIECE = 1 << 15
"""Numbers that are widened at a time: they stay in the cache between the passes that are made over them."""
SIGN_AND_SIZE = np.int32(-0x70002000)
"""The bits of a float16 in float32's places: its exponent fills five of the eight there."""
REBIAS = np.float32(2.0 ** (127 - 15))
"""Between the exponents of float16 and of float32."""
BEYOND_HALF = 65536.0
"""What the largest exponent of float16 would mean as a number; it means infinity, or none."""


class HalfRangeError(DataError):
    """A feature is too large for float16."""


def encode(values: NDArray[np.float32], dtype: str) -> tuple[NDArray[Any], ...]:
    """(n, …, D) float32 -> what the arrays of `Layout.arrays_of` hold, in their order.

    `HalfRangeError` rather than infinities where float16 cannot hold a value.
    """
    if dtype == INT8:
        return _quantise(values)
    try:
        with np.errstate(over="raise"):
            return (values.astype(dtype, copy=False),)
    except FloatingPointError as error:
        raise HalfRangeError(
            "these features do not fit in float16",
            expected="values up to 65,504",
            found=f"{np.abs(values).max():,.0f}",
            hint="--store-dtype float32",
        ) from error


def _quantise(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = np.abs(values).max(axis=-1) / np.float32(STEPS)
    with np.errstate(invalid="ignore"):
        # Of zeros any scale will do.
        steps = np.rint(values / np.where(scales > 0, scales, np.float32(1))[..., None])
    whole = np.clip(np.nan_to_num(steps, nan=0.0), -STEPS, STEPS)
    return whole.astype(np.int8), scales


def decode(values: NDArray[Any], scales: NDArray[np.float32] | None = None) -> NDArray[Any]:
    """The inverse of `encode`: 8 bits as float32, all else as it is."""
    return values if scales is None else np.multiply(values, scales[..., None], dtype=np.float32)


def widen(values: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Write float16 to contiguous float32, number for number, in a quarter of the time that numpy takes.

    numpy converts one number after the other; shifted into place and multiplied, many are at once.
    """
    halves, flat = values.reshape(-1), out.reshape(-1)
    bits, words = halves.view(np.int16), flat.view(np.int32)
    for start in range(0, len(flat), PIECE):
        some = slice(start, start + PIECE)
        words[some] = bits[some]
        words[some] <<= 13
        words[some] &= SIGN_AND_SIZE
        numbers = flat[some]
        numbers *= REBIAS
        if numbers.max() >= BEYOND_HALF or numbers.min() <= -BEYOND_HALF:
            numbers[...] = halves[some]


def rounding_of(values: NDArray[np.float32], encoded: tuple[NDArray[Any], ...]) -> float:
    """By how much of its length the vector that lost most in 8 bits differs from float32; 0 in other types.

    Its cosine with what it was is sqrt(1 − r²) at least.
    """
    if len(encoded) == 1 or not values.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.linalg.norm(decode(*encoded) - values, axis=-1)
        length = np.linalg.norm(values, axis=-1)
        # Pictures that could not be read are among them, whatever the network makes of nothing.
        return float(np.nan_to_num(lost / np.where(length > 0, length, 1), nan=0.0, posinf=0.0).max())


def rounding_text(rounding: float) -> str:
    """What the 8 bits of a store cost, for people."""
    cosine = math.sqrt(max(1 - rounding**2, 0))
    return (
        f"int8: no vector differs from float32 by more than {100 * rounding:.2g} % of its length"
        f" (cosine at least {cosine:.5f})"
    )
