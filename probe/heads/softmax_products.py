"""The two matrix products of a look at streamed rows: in float32 by BLAS, or in bfloat16 by OpenVINO.

A CPU with AMX multiplies in bfloat16 at two to three times the rate of float32 (docs/performance.md). Factors
are rounded to 8 bits of mantissa, sums are kept in float32.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.heads.head import Floats
from probe.heads.softmax_rows import Halves
from probe.machine import bf16_flag, cpu_flags, has_module
from probe.openvino_setup import load_openvino

WORTHWHILE = 1 << 19
"""Multiplications a row of one product, beneath which reading the rows takes most of a look."""


class Products(Protocol):
    """Both may be asked for by several threads at once."""

    def logits(self, inputs: NDArray[Any], weights: Floats, out: Floats) -> None:
        """Write inputs (n, D) · weights (D, C) to `out` (n, C)."""
        ...

    def by_weights(self, residual: Floats, inputs: NDArray[Any]) -> Floats:
        """residual (n, C)ᵀ · inputs (n, D), as (C, D)."""
        ...


class BlasProducts:
    """In float32, by the library of numpy."""

    def logits(self, inputs: Floats, weights: Floats, out: Floats) -> None:
        np.matmul(inputs, weights, out=out)

    def by_weights(self, residual: Floats, inputs: Floats) -> Floats:
        return residual.T @ inputs


class Bfloat16Products:
    """In bfloat16, by OpenVINO, for features (n, `width`) and `columns` classes; `threads` at once.

    Features are the bits of bfloat16; weights and residuals are float32, rounded for every product. With two
    `pieces` weights have 16 bits of mantissa, at half the rate of the first product.
    """

    def __init__(self, width: int, columns: int, threads: int, pieces: int = 1) -> None:
        self._openvino = openvino = load_openvino()
        operations, core = openvino.opset13, openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
        }

        def matrix(rows: int, wide: int) -> Any:
            return operations.parameter([rows, wide], np.float32)

        def halves() -> tuple[Any, Any]:
            """What is given, and what is multiplied: of float32 in name alone, so that products are."""
            given = operations.parameter([-1, width], openvino.Type.bf16)
            return given, operations.convert(given, "f32")

        def compiled(results: list[Any], inputs: list[Any]) -> Any:
            return core.compile_model(openvino.Model(results, inputs), "CPU", settings)

        given, inputs = halves()
        parts = [matrix(width, columns) for _ in range(pieces)]
        # A sum in the graph would be one of bfloat16; what is asked of it is float32.
        self._logits = compiled(
            [operations.matmul(inputs, part, False, False) for part in parts], [given, *parts]
        )
        residual, (given, inputs) = matrix(-1, columns), halves()
        self._by_weights = compiled([operations.matmul(residual, inputs, True, False)], [residual, given])
        self.pieces = pieces
        self._split: tuple[Floats, list[Floats]] | None = None
        self._idle: dict[Any, list[Any]] = {self._logits: [], self._by_weights: []}

    def logits(self, inputs: Halves, weights: Floats, out: Floats) -> None:
        self._compute(self._logits, out, inputs, *self._parts(weights))

    def by_weights(self, residual: Floats, inputs: Halves) -> Floats:
        out = np.empty((residual.shape[1], inputs.shape[1]), np.float32)
        self._compute(self._by_weights, out, residual, inputs)
        return out

    def _parts(self, weights: Floats) -> list[Floats]:
        """The weights in their pieces: split once for all blocks of a look, which have the same array."""
        if self.pieces == 1:
            return [weights]
        split = self._split
        if split is None or split[0] is not weights:
            split = self._split = weights, _in_two(weights)
        return split[1]

    def _compute(self, product: Any, out: Floats, *factors: Floats | Halves) -> None:
        idle = self._idle[product]
        try:
            request = idle.pop()
        except IndexError:  # asking first, another thread could come between
            request = product.create_infer_request()
        for number, factor in enumerate(factors):
            request.set_input_tensor(number, self._tensor(factor))
        request.set_output_tensor(0, self._tensor(out))
        request.infer()
        for more in range(1, len(product.outputs)):
            out += request.get_output_tensor(more).data
        idle.append(request)

    def _tensor(self, array: Floats | Halves) -> Any:
        """The same memory for OpenVINO."""
        if array.dtype == np.float32:
            return self._openvino.Tensor(array, shared_memory=True)
        return self._openvino.Tensor(array, array.shape, self._openvino.Type.bf16)


def _in_two(weights: Floats) -> list[Floats]:
    """The weights rounded to bfloat16, and what that leaves."""
    high = ((weights.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
    return [high, weights - high]


def is_bfloat16_faster(width: int, columns: int) -> bool:
    """Whether this machine multiplies such features and weights faster in bfloat16, and can."""
    worthwhile = width * columns >= WORTHWHILE and bf16_flag(cpu_flags()) is not None
    return worthwhile and has_module("openvino")
