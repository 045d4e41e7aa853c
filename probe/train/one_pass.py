"""Optimisers that go over a large tensor of weights once, where Keras's go over it ten times.

An update is a chain of sums, products and roots, each an operation that reads and writes all weights. XLA
makes one loop of it. The arithmetic is that of Keras, traced as it is written there; rounding may differ.
"""

from __future__ import annotations

from typing import Any

LARGE = 1 << 18
"""Weights of a tensor from which on; smaller ones stay in the cache, and each takes time to compile."""


def one_pass(kind: Any) -> Any:
    """The Keras optimiser class with its update compiled, on one CPU; as it is where there is more."""
    from probe.networks.bfloat16 import has_gpu
    from probe.tensorflow_setup import tf

    if tf.distribute.has_strategy() or has_gpu():
        return kind

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        def update(gradient: Any) -> None:
            kind.update_step(self, gradient, variable, learning_rate)

        if variable.shape.num_elements() >= LARGE:
            in_graph = isinstance(gradient, tf.Tensor) and not tf.executing_eagerly()
            if in_graph and gradient.op.type == "Cast":  # then part of that pass
                gradient = gradient.op.inputs[0]
            update = tf.function(update, jit_compile=True, autograph=False)
        update(gradient)

    return type(kind.__name__, (kind,), {"update_step": update_step})
