"""float16 becomes float32 number for number, whatever it holds."""

from __future__ import annotations

import numpy as np
import pytest

from probe.store.encoding import PIECE, widen

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_float16_becomes_the_float32_that_numpy_makes_of_it() -> None:
    out = np.empty(len(EVERY_HALF), np.float32)
    widen(EVERY_HALF, out)
    assert np.array_equal(out.view(np.uint32), EVERY_HALF.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, 65504.0, -0.0, 6e-8])
@pytest.mark.parametrize("place", [0, PIECE - 1, PIECE, PIECE + 5])
def test_a_piece_with_one_special_number_is_right_everywhere(special: float, place: int) -> None:
    values = np.random.default_rng(0).standard_normal((PIECE + 7, 1)).astype(np.float16)
    values[place] = special
    out = np.empty(values.shape, np.float32)
    widen(values, out)
    assert np.array_equal(out.view(np.uint32), values.astype(np.float32).view(np.uint32))


def test_no_rows_are_no_numbers() -> None:
    widen(np.empty((0, 3), np.float16), np.empty((0, 3), np.float32))
